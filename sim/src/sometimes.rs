//! Counts how often the states came about for which the simulator exists. An oracle that is silent in worlds
//! where nothing happens proves nothing: a swarm in which one of these stays zero has not looked there.

use runcast_core::sometimes::{Seen, Sometimes as InCore};
use std::fmt::Write as _;

macro_rules! states {
    ($($name:ident = $text:literal,)*) => {
        /// A state that matters, as seen from outside the core.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum State {
            $(#[doc = $text] $name,)*
        }

        impl State {
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
    CrashWithAppends = "a crash between append and appended",
    CrashKeepsAppends = "a crash keeps what nobody was told to be durable",
    Retried = "a run is tried again after its worker was lost",
    Asked = "a run asks its user",
    Answered = "a question is answered",
    AnsweredTwice = "a question is answered twice",
    AnswerExpired = "a question's time runs out",
    AgentUnavailable = "an agent's circuit is open",
    ThreadBusy = "a thread is busy, and the run is refused for that",
    TopicRead = "a topic is read from a new beginning",
    TopicResumed = "a topic is resumed",
    TopicReset = "a topic is reset",
    TopicRetry = "an event of a topic is sent again",
    TokenReplaced = "a token is replaced by a newer one",
    NoticeExpiring = "a token is said to expire soon",
    PublishedAgain = "a publication is asked for again, and made once",
    WorkerJoined = "a worker is told of",
    WorkerSilent = "a worker is told to be silent",
    WorkerLeft = "a worker is told to have left",
    BreakerOpened = "a breaker is told to be open",
    BreakerClosed = "a breaker is told to be closed",
    CrashWhileFolding = "a crash during folding",
    CrashSoonAgain = "a second crash within a second of the start",
    CrashWithToolOpen = "a crash while a tool is open",
    DiskFull = "the disk is full",
    DiskBroken = "a sync fails, and the process ends",
    DiskLost = "the daemon comes back with an empty disk",
    JoinedAgain = "deltas that were joined are sent again",
    ResumedMidWindow = "a connection is resumed in the middle of a window after a crash",
    Resumed = "a connection is resumed",
    Fresh = "a connection begins fresh",
    ResetTrimmed = "a connection is reset: trimmed",
    ResetEpoch = "a connection is reset: another incarnation",
    ResetAhead = "a connection is reset: its position is past the head",
    Redelivered = "an event is sent again",
    RedeliveredTwice = "an event is sent a third time",
    RedeliveredThrice = "an event is sent a fourth time",
    Duplicate = "a run is asked for twice, and accepted once",
    DuplicateAfterCrash = "a run is asked for again after a crash",
    EndOk = "a run ends well",
    EndError = "a run ends badly",
    EndCancelled = "a run ends cancelled",
    EndTimedOut = "a run is timed out",
    EndWorkerLost = "a run ends since its worker is lost",
    EndWhileQueued = "a run ends before it started",
    StartedLater = "a run is started by a later offer than its first",
    WorkerContinues = "a worker comes back to a run that goes on",
    WorkerEnded = "a worker comes back to a run whose end it had sent",
    WorkerGone = "a worker comes back to a run that is lost",
    WorkerDies = "a worker is gone for good with runs",
    Declined = "a worker declines an offer",
    Fenced = "a worker is fenced",
    WorkerSaysAgain = "a worker has to send again what a full disk did not take",
    CancelGiven = "a worker is told to stop a run",
    CancelIgnored = "a worker goes on with a run that it was told to stop",
    NoticeConcurrency = "a queued run waits for the daemon's limit",
    NoticeUserLimit = "a queued run waits for its user's limit",
    NoticeThreadOrder = "a queued run waits for its thread",
    NoticeNoWorker = "a queued run waits for a worker",
    NoticeStarting = "a queued run is offered",
    NoticeWorking = "a run is said to be working",
    NoticeBacklog = "a device is more than a window behind",
    NoticeBacklogOver = "a device is no longer behind",
    RefusedUserQueueFull = "a user's queue is full",
    RefusedQueueFull = "the queue is full",
    RefusedStorage = "a run is refused since the disk is full",
    RefusedAgentUnknown = "an agent is unknown",
    RefusedOthersRun = "another's run is asked for",
    RefusedAckAhead = "an acknowledgement is ahead",
    Drained = "the daemon goes down as it was told",
    NotReady = "the daemon says that it is not ready",
    LookedAt = "an operator looks at what the daemon does",
    Draining = "something is refused, or waits, since the daemon goes down",
    ClosedDraining = "closed 4400: the daemon goes down",
    ErasedForAnOperator = "an operator hears that a user is erased",
    SentAway = "an operator hears that connections are closed",
    OldTokenRefused = "a client comes back with a token that is revoked",
    ClosedDisconnected = "closed 4507: disconnected by an operator",
    ClosedAcksOverdue = "closed 4403: acks overdue",
    ClosedSilent = "closed 4404: silent",
    ClosedOvertaken = "closed 4411: overtaken by trimming",
    ClosedToken = "closed 4501: token refused",
    ClosedTooMuchEarly = "closed 4502: too much before hello",
    ClosedNoHello = "closed 4503: no hello",
    ClosedViolation = "closed 4504: protocol violation",
    ClosedTooLarge = "closed 4505: message too large",
    ClosedExpired = "closed 4506: token expired",
    ClosedReplaced = "closed 4510: replaced by a newer connection",
    ClosedBreach = "closed 1002: a breach of RFC 6455",
    ClosedNotUtf8 = "closed 1007: text that is not UTF-8",
    ClosedRateLimit = "closed 4509: rate limit, persistently",
    RateLimited = "a message is refused, since there were too many",
    EqualAcksTaken = "a thousand equal acknowledgements, and nothing comes of them",
    FragmentsRead = "a message in fragments of one byte is answered",
    DripRead = "a head, a hello and a question are read that come a byte a write",
    SlowHeadRefused = "a head that drips too slowly is refused",
    PingsAnswered = "after a flood of pings a question is answered",
    GoneMidFrame = "a client is gone in the middle of a frame",
    OldTokenReplayed = "a token is replayed whose time is over, and refused",
    RevokedReplayed = "a token is replayed that was revoked, and refused",
    OutOfOrder = "a worker's messages come out of order, or one is left out",
    GapTold = "a worker is told that a message is missing",
    WorkerDrained = "a worker that wants no more runs goes when it has none",
    SaidTooEarly = "a worker speaks of a run before its start is acknowledged, and is told so",
    WorkerCorrected = "a worker breaks the order of a run's events, and is told so before the acknowledgement",
    NumberMissed = "a worker leaves out a number, and is closed",
    OthersRunFenced = "a worker speaks of a run that is another's, and is fenced",
    OldKeyRefused = "a token is refused whose key was replaced while the daemon ran",
    TwinReplaced = "a device calls twice at once, and one of its connections stays",
}

/// Marks that a state has come about: always, or if a condition holds.
#[macro_export]
macro_rules! sometimes {
    ($tally:expr, $state:ident) => {
        $tally.mark($crate::sometimes::State::$state)
    };
    ($tally:expr, $state:ident if $condition:expr) => {
        if $condition {
            $tally.mark($crate::sometimes::State::$state);
        }
    };
}

/// How often each state came about, in the core and around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    around: [u64; State::ALL.len()],
    in_core: [u64; InCore::ALL.len()],
}

impl Default for Tally {
    fn default() -> Self {
        Self { around: [0; State::ALL.len()], in_core: [0; InCore::ALL.len()] }
    }
}

impl Tally {
    /// A state has come about.
    pub fn mark(&mut self, state: State) {
        self.around[state as usize] += 1;
    }

    /// Adds what a core has seen in its life.
    pub fn add_seen(&mut self, seen: &Seen) {
        for (sum, state) in self.in_core.iter_mut().zip(InCore::ALL) {
            *sum += seen.count(*state);
        }
    }

    /// Adds another world's.
    pub fn add(&mut self, other: &Self) {
        self.around.iter_mut().zip(other.around).for_each(|(sum, count)| *sum += count);
        self.in_core.iter_mut().zip(other.in_core).for_each(|(sum, count)| *sum += count);
    }

    /// Every state and how often it came about.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let around = State::ALL.iter().map(|state| state.what()).zip(self.around);
        around.chain(InCore::ALL.iter().map(|state| state.what()).zip(self.in_core))
    }

    /// The states that never came about.
    pub fn missing(&self) -> Vec<&'static str> {
        self.iter().filter(|(_, count)| *count == 0).map(|(what, _)| what).collect()
    }

    /// A line for each, the rarest first.
    pub fn table(&self) -> String {
        let mut lines: Vec<_> = self.iter().collect();
        lines.sort_by_key(|(_, count)| *count);
        let mut text = String::new();
        for (what, count) in lines {
            writeln!(text, "{count:>10}  {what}").expect("a string takes everything");
        }
        text
    }
}

/// What the code of a close, an error, a notice or an end stands for, where it stands for one.
pub fn state_of(word: &str) -> Option<State> {
    Some(match word {
        "4507" => State::ClosedDisconnected,
        "4400" => State::ClosedDraining,
        "draining" => State::Draining,
        "4403" => State::ClosedAcksOverdue,
        "4404" => State::ClosedSilent,
        "4411" => State::ClosedOvertaken,
        "4501" => State::ClosedToken,
        "4502" => State::ClosedTooMuchEarly,
        "4503" => State::ClosedNoHello,
        "4504" => State::ClosedViolation,
        "4505" => State::ClosedTooLarge,
        "4506" => State::ClosedExpired,
        "4510" => State::ClosedReplaced,
        "1002" => State::ClosedBreach,
        "1007" => State::ClosedNotUtf8,
        "4509" => State::ClosedRateLimit,
        "rate_limited" => State::RateLimited,
        "user_queue_full" => State::RefusedUserQueueFull,
        "queue_full" => State::RefusedQueueFull,
        "storage_unavailable" => State::RefusedStorage,
        "agent_unknown" => State::RefusedAgentUnknown,
        "run_not_found" => State::RefusedOthersRun,
        "ack_ahead" => State::RefusedAckAhead,
        "input_already_given" => State::AnsweredTwice,
        "agent_unavailable" => State::AgentUnavailable,
        "thread_busy" => State::ThreadBusy,
        "concurrency" => State::NoticeConcurrency,
        "user_limit" => State::NoticeUserLimit,
        "thread_order" => State::NoticeThreadOrder,
        "no_worker" => State::NoticeNoWorker,
        "starting" => State::NoticeStarting,
        "working" => State::NoticeWorking,
        "expiring" => State::NoticeExpiring,
        "worker_joined" => State::WorkerJoined,
        "worker_silent" => State::WorkerSilent,
        "worker_left" => State::WorkerLeft,
        "breaker_opened" => State::BreakerOpened,
        "breaker_closed" => State::BreakerClosed,
        "ok" => State::EndOk,
        "error" => State::EndError,
        "cancelled" => State::EndCancelled,
        "timed_out" => State::EndTimedOut,
        "worker_lost" => State::EndWorkerLost,
        "continue" => State::WorkerContinues,
        "ended" => State::WorkerEnded,
        "gone" => State::WorkerGone,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_came_about_is_named() {
        let mut tally = Tally::default();
        let all = tally.missing().len();
        sometimes!(tally, DiskFull);
        sometimes!(tally, DiskLost if 1 > 2);
        assert_eq!(tally.missing().len(), all - 1);
        assert!(tally.missing().contains(&State::DiskLost.what()));
        assert!(tally.table().ends_with("         1  the disk is full\n"));
    }
}
