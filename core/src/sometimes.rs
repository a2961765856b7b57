//! Counts how often states came about that only the core can see, so that the simulator can tell whether it
//! has ever been there. Like planted bugs they are in builds with `debug_assertions` alone: a release build
//! counts nothing.

macro_rules! states {
    ($($name:ident = $text:literal,)*) => {
        /// A state that matters and is easy to miss.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Sometimes {
            $(#[doc = $text] $name,)*
        }

        impl Sometimes {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// What it is, in a line.
            pub const fn what(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

states! {
    MessageWaits = "a message waits for the answer to the one before",
    TwoWaitForOneLoad = "two connections wait for one context",
    UnloadCalledOff = "somebody comes while a context is about to leave memory",
    KeyFoundInStore = "a key is known only to the store",
    CancelledOffered = "a run is cancelled while it is offered",
    CancelledStarting = "a run is cancelled before its start is durable",
    StartDurableLate = "a start becomes durable when the run is already to stop",
    ToolOpenAtTimeout = "a time-out while a tool is open",
    ToolOpenAtLoss = "a worker is lost while a tool is open",
    OfferNotAnswered = "an offer is withdrawn since nobody answered",
    OfferedTooOften = "a run ends since nobody takes it",
    LateMessageFenced = "a message of an attempt that is over is fenced",
    RepeatedNumber = "a worker repeats a number that was taken",
    LeaseKeptUnread = "a lease is kept since the worker is not read",
    WorkerNotRead = "a worker is not read until its messages are durable",
    WindowFull = "a window is full of events",
    WindowFullOfBytes = "a window is full of bytes",
    Joined = "deltas are joined for a device that is behind",
    OutputFull = "an event waits for the network to take others",
    TookNothing = "closed 4407: takes nothing",
    AckDuringRetry = "an acknowledgement comes while a retry goes out",
    PageDuringRetry = "a retry needs a page from the store",
    TrimHeldByRun = "trimming stops at a run that has not ended",
    ThreadPassedOver = "a run passes an older one whose thread is busy",
    DrainWithRuns = "the daemon is told to go down while runs are running",
    DrainOverDeadline = "the daemon goes down though a run has not ended in time",
    DrainInHurry = "the daemon is told twice to go down",
    KeyPurged = "a key is purged",
    EndPurged = "the end of a run is purged",
    TrimmedWhole = "a stream is trimmed as a whole",
    Listed = "a run is listed as not delivered",
    DeliveredLate = "a run that was listed is delivered after all",
    Called = "the webhook is called",
    CallFailed = "a call of the webhook fails",
    CallsWait = "calls of the webhook wait for others",
    TopicForbidden = "a topic is asked for that may not be read",
    TopicWithoutRoom = "a topic has to wait for a full store, and its connection does not",
    TopicKept = "a topic is kept while others are subscribed",
    TopicEnded = "a topic ends with the token that was good for it",
    PublishedBefore = "a publication is repeated with its key",
    Alerted = "operators are alerted",
    Erased = "a user is erased",
    ErasedAfterCrash = "the erasing of a user goes on after a crash",
    ErasedWhileRunning = "a user is erased while a run is with a worker",
    WaitsForErasure = "somebody waits for a user to be erased",
    MemoryShort = "memory is short",
    PageShed = "a page of old events has waited for memory",
    WorkerExpired = "a worker's token expires while it is connected",
    RevokedConnected = "tokens are revoked of somebody who is connected",
    PositionsWait = "positions wait for a full store",
    RoundGoesOn = "positions wait until others are stored",
}

/// How often each came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    #[cfg(debug_assertions)]
    counts: [u64; Sometimes::ALL.len()],
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            #[cfg(debug_assertions)]
            counts: [0; Sometimes::ALL.len()],
        }
    }
}

impl Seen {
    /// It has come about.
    #[cfg(debug_assertions)]
    pub(crate) fn mark(&mut self, state: Sometimes) {
        self.counts[state as usize] += 1;
    }

    /// Nobody counts.
    #[cfg(not(debug_assertions))]
    pub(crate) const fn mark(&mut self, _: Sometimes) {}

    /// How often it has.
    #[cfg(debug_assertions)]
    pub const fn count(&self, state: Sometimes) -> u64 {
        self.counts[state as usize]
    }

    /// Nobody has counted.
    #[cfg(not(debug_assertions))]
    pub const fn count(&self, _: Sometimes) -> u64 {
        0
    }
}
