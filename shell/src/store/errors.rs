//! Why a store cannot be opened, written or read.

use super::backend::Fault;
use crate::disk::is_full;
use std::io;
use std::ops::Range;

/// Why a store cannot be opened. Each message is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Written by a newer version of Runcast. Nothing was touched.
    #[error(
        "the store is of version {found}, this Runcast knows versions up to {known}: \
         start a newer Runcast, or use another data directory"
    )]
    Newer {
        /// The store's version.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// Written by a version of Runcast that kept its journal in another way. Nothing was touched.
    #[error(
        "the store is of version {found}, this Runcast reads versions from {oldest} on: \
         start the Runcast that wrote it, or use another data directory"
    )]
    Older {
        /// The store's version.
        found: u32,
        /// The oldest version known here.
        oldest: u32,
    },
    /// Another kind of file. Nothing was touched.
    #[error("the store's file is not a Runcast store: move it away, or use another data directory")]
    NotAStore,
    /// What is needed at start cannot be trusted. Names what.
    #[error("the store is damaged ({0}): restore it from a backup, or move it away to begin anew")]
    Damaged(String),
    /// Bytes that the disk does not give back hold, or may hold, what nothing else tells.
    #[error(
        "bytes {} to {} of the store's file cannot be read ({why}), and with them {lost} is lost: \
         check the disk, then restore the store from a backup, or move it away to begin anew",
        bytes.start, bytes.end
    )]
    Unreadable {
        /// Which.
        bytes: Range<u64>,
        /// What the disk says.
        why: String,
        /// What is in them.
        lost: String,
    },
    /// No room.
    #[error("the store cannot be opened, the disk is full: free some space")]
    Full,
    /// The disk does not do what it should. Says what.
    #[error("the store cannot be read or written ({0}): check the disk")]
    Io(String),
}

/// Why records are not durable.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CommitError {
    /// No room. Nothing of the commit is stored; the same may be tried again later.
    #[error("the disk is full: free some space")]
    Full,
    /// A fold under way has failed. Nothing of the commit is stored; it may be tried again when that has
    /// ended.
    #[error("a fold has failed: end it, and commit again")]
    HeldUp,
    /// The disk has lost what a fold has to read. Nothing of the commit is stored; others go on while they
    /// find room, and the fold may be tried again.
    #[error("the store cannot be read ({0}): check the disk")]
    Unreadable(String),
    /// A write or a sync failed. What is stored is unknown, and the process must end.
    #[error("the store cannot be written ({0}): check the disk")]
    Io(String),
}

/// Why a question is not answered.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReadError {
    /// A fold under way has failed. It may be asked again when that has ended.
    #[error("a fold has failed: end it, and ask again")]
    HeldUp,
    /// The disk does not answer.
    #[error("the store cannot be read ({0}): check the disk")]
    Io(String),
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        if is_full(error.kind()) { Self::Full } else { Self::Io(error.to_string()) }
    }
}

impl From<ReadError> for CommitError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::HeldUp => Self::HeldUp,
            ReadError::Io(text) => Self::Io(text),
        }
    }
}

impl OpenError {
    pub(super) fn of(error: redb::Error, fault: Option<Fault>) -> Self {
        if let redb::Error::Corrupted(what) = error {
            return Self::Damaged(what);
        }
        match &fault {
            Some(fault) if is_full(fault.error.kind()) => Self::Full,
            _ => Self::Io(words(&error, fault)),
        }
    }
}

/// What to tell of redb's error: what has failed on the disk, if that is known.
pub(super) fn words(error: &redb::Error, fault: Option<Fault>) -> String {
    fault.map_or_else(|| error.to_string(), |fault| fault.to_string())
}
