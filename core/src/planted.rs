//! Planted bugs: mistakes that somebody could make, one line each at the place where they would be made. The
//! simulator switches on one at a time, and must see it (`cargo sim bugs`): the proof that its oracles are
//! awake.
//!
//! The gate is `debug_assertions`, which the profiles `dev`, `test` and `sim` set and `release` does not:
//! there [`Planted::bug`] does not exist, [`Planted`] has no room for a bug, and every `is` is `false` before
//! code is made of it. A cargo feature would not do: one build of the whole workspace unifies features, so
//! the simulator's would be the daemon's too. A flag of our own in `RUSTFLAGS` would be lost wherever
//! somebody else sets that variable. And where a bug can be planted nobody but the simulator does it: the
//! daemon's code never calls [`Planted::bug`], which a rule of the repository holds.

macro_rules! bugs {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)*) => {
        /// A mistake.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug {
            $($(#[doc = $doc])+ $name,)*
        }

        impl Bug {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name, as `cargo sim` takes it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// What is wrong, in a line.
            pub const fn what(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($doc,)+).trim_ascii_start(),)*
                }
            }
        }
    };
}

bugs! {
    /// A worker's message is acknowledged before it is durable.
    AckBeforeAppend = "ack-before-append",
    /// An event is sent to devices before it is durable.
    SendBeforeAppended = "send-before-appended",
    /// A `welcome` tells a head that is not durable.
    HeadBeforeDurable = "head-before-durable",
    /// A resumed connection begins one event too late.
    ResumeOffByOne = "resume-off-by-one",
    /// A device that is resumed begins one event too early.
    ResumeTooEarly = "resume-too-early",
    /// A device is welcome at its second call, though its place is not stored yet.
    WelcomeBeforePlaced = "welcome-before-placed",
    /// A device that is behind is sent a page of another user's stream.
    ResumeOnAnothers = "resume-on-anothers",
    /// The window counts the events ever sent, so acknowledging makes no room.
    WindowNeverReopens = "window-never-reopens",
    /// One event more than the window is sent unacknowledged.
    WindowOneTooMany = "window-one-too-many",
    /// The timer of an acknowledgement fires after three quarters of its time.
    TimerEarly = "timer-early",
    /// A retry sends the unacknowledged events from the newest to the oldest.
    RetryLosesOrder = "retry-loses-order",
    /// A retry sends the oldest event again and forgets the others.
    RetryStopsMidway = "retry-stops-midway",
    /// Of deltas that are joined one is left out.
    JoiningLosesOne = "joining-loses-one",
    /// A device's position moves in memory and is not stored.
    PositionNotPersisted = "position-not-persisted",
    /// A device that resumes before its position has it there from then on.
    PositionGoesBack = "position-goes-back",
    /// A run that ends leaves its open tools open.
    NoClosingOfTools = "no-closing-of-tools",
    /// A run that is ended without its worker stays with it, and a late result ends it again.
    TwoEnds = "two-ends",
    /// A user's newest run starts first, whatever its thread's order.
    LastInFirstOut = "last-in-first-out",
    /// A user's runs start in the order in which they came, whatever their priority.
    PriorityIgnored = "priority-ignored",
    /// An accepted run is told that all of its user's waiting runs are ahead, also those of lower priority.
    PlaceIgnoresPriority = "place-ignores-priority",
    /// An accepted run is told that whoever waits is ahead, also where its slot is free and others wait for
    /// another agent's.
    PlaceCountsEverybody = "place-counts-everybody",
    /// A run that leaves its worker frees two slots of the daemon.
    SlotFreedTwice = "slot-freed-twice",
    /// A run that leaves its worker frees no slot of the daemon.
    SlotNeverFreed = "slot-never-freed",
    /// A dead worker keeps its runs.
    LeaseNeverRunsOut = "lease-never-runs-out",
    /// A worker is given up after three quarters of its lease.
    LeaseTooShort = "lease-too-short",
    /// The delay before a new attempt is the same each time.
    DelayStaysShort = "delay-stays-short",
    /// A run that was lost is offered again after half of its delay.
    RetriedTooEarly = "retried-too-early",
    /// A run that is to stop is ended after three quarters of its grace.
    GraceTooShort = "grace-too-short",
    /// A run that is to stop is left to a worker that does not end it.
    GraceNeverOver = "grace-never-over",
    /// A question is closed after three quarters of its time.
    QuestionClosedEarly = "question-closed-early",
    /// A question that nobody answers stays open.
    QuestionStaysOpen = "question-stays-open",
    /// Of an agent that has failed too often runs are started again after three quarters of its pause.
    BreakerTooShort = "breaker-too-short",
    /// That a thread is free again wakes nobody: its next run waits for something else.
    ThreadWakesNobody = "thread-wakes-nobody",
    /// What an ended run's id leads to is not forgotten.
    RouteStays = "route-stays",
    /// Whoever has gone is not forgotten.
    ContextStays = "context-stays",
    /// A worker's message of an attempt that is over counts for the present one.
    LateAttemptAccepted = "late-attempt-accepted",
    /// A run that its worker lost is given to another, though nobody said that it may be repeated.
    ExecutedTwice = "executed-twice",
    /// An idempotency key is not stored, and forgotten with its run.
    KeyForgotten = "key-forgotten",
    /// A notice goes to the devices of another user.
    NoticeToWrongUser = "notice-to-wrong-user",
    /// The log has in it what was asked for when an input is refused.
    LogQuotesInput = "log-quotes-input",
    /// Whoever answers a question is told that it is taken before that is stored.
    InputAnsweredEarly = "input-answered-early",
    /// Whoever cancels a run is told that it stops before that is stored.
    CancelAnsweredEarly = "cancel-answered-early",
    /// An operator's list of runs shows what their users have asked for.
    StatusShowsInput = "status-shows-input",
    /// The notice that a run works comes once, and never again.
    WorkingSaidOnce = "working-said-once",
    /// Nobody is warned that a run's time is almost up.
    NobodyWarned = "nobody-warned",
    /// Trimming passes the first event of a run that has not ended.
    TrimUnderActiveRun = "trim-under-active-run",
    /// A stream that begins anew has the epoch of the one before.
    EpochNotChanged = "epoch-not-changed",
    /// A worker's event that says what the one before said is taken for its repetition.
    DedupeByContent = "dedupe-by-content",
    /// Going down, the daemon forgets what is queued.
    DrainDropsQueued = "drain-drops-queued",
    /// Going down, the daemon still takes new runs.
    DrainTakesRuns = "drain-takes-runs",
    /// What ended long ago is forgotten by its id, and stays in its user's list.
    PurgeLeavesHistory = "purge-leaves-history",
    /// What was not delivered before a start is forgotten.
    UndeliveredForgotten = "undelivered-forgotten",
    /// A run is listed as undelivered after three quarters of its time.
    ListedTooEarly = "listed-too-early",
    /// A call of the webhook that fails is not made again.
    FailedCallForgotten = "failed-call-forgotten",
    /// The webhook is told when a run was listed, in place of when it ended.
    WrongEndTold = "wrong-end-told",
    /// A device that begins after a run has ended counts for it.
    NewcomerCounts = "newcomer-counts",
    /// A user is erased, but for what was said.
    EraseLeavesEvents = "erase-leaves-events",
    /// Tokens are revoked, and those who are connected with them stay.
    RevokedStay = "revoked-stay",
    /// That tokens were revoked is not stored.
    RevocationForgotten = "revocation-forgotten",
    /// A commit is not synced before it is said to be durable.
    CommitNotSynced = "commit-not-synced",
    /// Folding the journal loses the last event of each stream.
    FoldLosesLast = "fold-loses-last",
    /// Whoever is authenticated may read the topics of operators.
    TopicToAnyone = "topic-to-anyone",
    /// A connection whose token has expired stays until something else ends it.
    ExpiredStays = "expired-stays",
    /// A newer token that may not read a topic leaves the connection reading it.
    TopicOutlivesToken = "topic-outlives-token",
    /// The key of a publication is not stored.
    PublicationTwice = "publication-twice",
    /// What a device acknowledges in a topic counts in its user's own stream.
    TopicAckMovesOwn = "topic-ack-moves-own",
    /// A topic that is kept when others are subscribed begins anew.
    KeptTopicBeginsAnew = "kept-topic-begins-anew",
    /// An alert that is over is not said to be.
    AlertStays = "alert-stays",
    /// Acknowledgements count against the rate of messages.
    AcksCount = "acks-count",
    /// A device's older connection lives on beside the newer one.
    TwinStays = "twin-stays",
    /// Of a worker's messages one that is missing is not missed.
    GapAccepted = "gap-accepted",
    /// A worker that takes no more runs is offered some.
    DrainOfWorkerOverheard = "drain-of-worker-overheard",
    /// That a connection takes output again is overheard.
    LostWakeUp = "lost-wake-up",
}

/// Which bug is planted, if one is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Planted {
    #[cfg(debug_assertions)]
    bug: Option<Bug>,
}

impl Planted {
    /// Plants a bug. Only builds that check everything have this.
    #[cfg(debug_assertions)]
    pub const fn bug(bug: Bug) -> Self {
        Self { bug: Some(bug) }
    }

    /// Whether this is the one.
    #[cfg(debug_assertions)]
    pub fn is(self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Never.
    #[cfg(not(debug_assertions))]
    pub const fn is(self, _: Bug) -> bool {
        false
    }
}

#[cfg(not(debug_assertions))]
const _: () = assert!(size_of::<Planted>() == 0, "a release build has no room for a bug");
