//! What is put on stable storage: the core's words to the store.
//!
//! The store knows rows and streams and nothing of what they mean. All records of one
//! [`Effect::Append`](crate::effect::Effect::Append) become durable together or not at all, and appends
//! become durable in the order in which they were emitted.

use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;

/// One change of what is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The next event of a stream. `seq` is always one more than the stream's last.
    Event {
        /// Whose stream.
        stream: StreamKey,
        /// Its place.
        seq: u64,
        /// The finished JSON text, as every device is sent it.
        bytes: Bytes,
    },
    /// A row is written, or replaced.
    Put {
        /// Which.
        key: RowKey,
        /// Its new content.
        value: Bytes,
    },
    /// A row is gone. A row that is not there is no error.
    Delete {
        /// Which.
        key: RowKey,
    },
    /// Events of a stream below `floor` are no longer needed. May be carried out late.
    Trim {
        /// Whose stream.
        stream: StreamKey,
        /// The oldest seq still needed.
        floor: u64,
    },
}

/// Names a stream in the store: one incarnation of it, so that a stream that begins anew shares
/// nothing with the one before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey(pub Arc<str>);

/// Names a row. `owner` is the user to whom it belongs, empty for the daemon's own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    /// What kind of row.
    pub table: Table,
    /// Whose.
    pub owner: Arc<str>,
    /// Which of them.
    pub name: Arc<str>,
}

/// The kinds of rows. The numbers are stored: they are never reused or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// The daemon's own facts, one row each.
    Daemon = 1,
    /// A run that has not ended: what was asked. In the image.
    RunSpec = 2,
    /// A run that has not ended: how far it is, and its user's stream then. In the image.
    RunState = 3,
    /// A user's stream: epoch, floor, head. Of events that have come since, the rows of its runs tell.
    User = 4,
    /// A device's position.
    Device = 5,
    /// A run that has ended, by id (owner is empty, the row names the user).
    Ended = 6,
    /// An idempotency key.
    Key = 7,
    /// A run that has not ended: its tool calls. In the image.
    RunTools = 8,
    /// A run that has not ended: what it asks its user. In the image.
    RunQuestions = 9,
    /// A run that has not ended: a command that its worker has not confirmed. In the image.
    RunCommand = 10,
    /// A run that has ended, among its user's, newest first.
    History = 11,
    /// A topic's stream: epoch, floor, head. In the image.
    Topic = 12,
    /// A worker that the topic `agents` has told of and not told to be gone. In the image.
    Presence = 13,
    /// How old an idempotency key is: ascending by that.
    KeyAge = 20,
    /// How old the end of a run is: ascending by that.
    EndAge = 21,
    /// A run whose end no device has acknowledged, by id. In the image.
    Undelivered = 22,
    /// A user who is being erased, by name. In the image.
    Erasing = 23,
    /// An alert that was told and is not over, by name. In the image.
    Alert = 24,
    /// A user of whom tokens were revoked, by name. In the image.
    Revoked = 25,
}

impl Table {
    /// All tables, in the order of their numbers.
    pub const ALL: [Self; 19] = [
        Self::Daemon,
        Self::RunSpec,
        Self::RunState,
        Self::User,
        Self::Device,
        Self::Ended,
        Self::Key,
        Self::RunTools,
        Self::RunQuestions,
        Self::RunCommand,
        Self::History,
        Self::Topic,
        Self::Presence,
        Self::KeyAge,
        Self::EndAge,
        Self::Undelivered,
        Self::Erasing,
        Self::Alert,
        Self::Revoked,
    ];

    /// The table with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|table| *table as u8 == number)
    }

    /// Whether all rows of this table are in the [`Image`].
    pub const fn is_alive(self) -> bool {
        match self {
            Self::Daemon
            | Self::RunSpec
            | Self::RunState
            | Self::RunTools
            | Self::RunQuestions
            | Self::RunCommand
            | Self::Topic
            | Self::Presence
            | Self::Undelivered
            | Self::Erasing
            | Self::Alert
            | Self::Revoked => true,
            Self::User
            | Self::Device
            | Self::Ended
            | Self::Key
            | Self::History
            | Self::KeyAge
            | Self::EndAge => false,
        }
    }

    /// Whether the rows of this table are what a user's context is made of ([`Query::Owner`]).
    pub const fn is_context(self) -> bool {
        matches!(self, Self::User | Self::Device)
    }
}

/// What the store knows at start that the core must have before it takes the first connection:
/// all rows of the alive tables, and of each owner named there all context rows. In the order of their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// The rows, ascending by key.
    pub rows: Vec<(RowKey, Bytes)>,
}

/// A question to the store. It is answered from what is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// These rows; those that are not there are left out.
    Rows(Vec<RowKey>),
    /// All context rows of an owner.
    Owner(Arc<str>),
    /// Rows of an owner in one table, ascending by name: after the first so many, at most so many.
    First {
        /// Which kind of row.
        table: Table,
        /// Whose.
        owner: Arc<str>,
        /// After so many.
        skip: usize,
        /// At most so many.
        rows_max: usize,
    },
    /// A page of a stream: events after `after`, in order, at most so many and so many bytes, but at least
    /// one if there is one.
    Events {
        /// Whose stream.
        stream: StreamKey,
        /// The seq before the first.
        after: u64,
        /// At most so many.
        events_max: usize,
        /// At most so many bytes, or one event.
        bytes_max: usize,
    },
}

/// The answer to a [`Query`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// To [`Query::Rows`], [`Query::Owner`] and [`Query::First`]: ascending by key.
    Rows(Vec<(RowKey, Bytes)>),
    /// To [`Query::Events`]: seq and finished text, consecutive.
    Events(Vec<(u64, Bytes)>),
    /// What was asked for is there but cannot be trusted (a checksum does not hold). Never answered by
    /// silence.
    Damaged,
}

/// A row's stored form: JSON, so that it may grow.
pub(crate) fn row(value: &impl serde::Serialize) -> Bytes {
    Bytes::from(serde_json::to_vec(value).expect("rows are plain data"))
}
