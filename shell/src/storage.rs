//! The face of the store towards the loop: give records and questions, get completions back.
//!
//! Production answers it from a storage thread, the simulator from its own clock; the loop cannot tell them
//! apart.

use runcast_core::ids::{AppendId, BackupName, LoadId};
use runcast_core::input::NoBackup;
use runcast_core::record::{Found, Query, Record};
use std::sync::Arc;

/// Stable storage, as the loop sees it. No call waits.
pub trait Storage {
    /// Queues records. Appends are first in, first out.
    fn append(&mut self, id: AppendId, records: Arc<[Record]>);
    /// Queues a question. It is answered from what is durable when its turn comes.
    fn load(&mut self, load: LoadId, query: Query);
    /// Begins to write what is durable at this moment to a file of this name, beside what goes on.
    fn back_up(&mut self, name: &BackupName);
    /// Ends a turn: all appends since the last call become one commit.
    fn submit(&mut self);
    /// The next thing that is done, if any.
    fn completed(&mut self) -> Option<Completion>;
}

/// Something the store has done.
#[derive(Debug)]
pub enum Completion {
    /// All appends up to this one are on stable storage.
    Appended(AppendId),
    /// The store is full: this append and all after it were dropped; it waits for this id to be given again.
    Full(AppendId),
    /// The answer to a question.
    Loaded(LoadId, Found),
    /// A backup is written, so many bytes; or there is none.
    BackedUp(Result<u64, NoBackup<String>>),
    /// A write or a sync failed. What is stored is unknown from here on; the process must end, since a retry
    /// may lie.
    Failed(String),
}
