//! Durable before visible: records on their way to stable storage, and what may be shown once they are there.
//!
//! Whatever handles an input records what must be stored and attaches what is to be revealed. At the end of
//! the input the records leave as one append; the reveals wait until the store says that it has it. A store
//! that is full keeps the appends here, in order, until it takes them.

use crate::Core;
use crate::context::RunOf;
use crate::deadlines::{Deadlines, Timer};
use crate::effect::{Effect, Effects, Response};
use crate::ids::{AppendId, ConnId, Owner, User};
use crate::note::Note;
use crate::record::{Record, Table};
use crate::subscribe::Change;
use crate::time::{Mono, Span};
use crate::wire::error::CloseCode;
use crate::wire::worker::Attempt;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;

/// Time between two tries while the store is full.
pub(crate) const RETRY: Span = Span::secs(1);

/// Something that may be shown, or done, once the records before it are durable.
#[derive(Debug)]
pub(crate) enum Reveal {
    /// An answer.
    Reply {
        /// To whom.
        conn: ConnId,
        /// The message.
        text: Bytes,
    },
    /// The answer to an HTTP request.
    Respond {
        /// To whom.
        conn: ConnId,
        /// The answer.
        response: Response,
    },
    /// A user's connection is welcome.
    Welcome(ConnId),
    /// What a connection reads may change.
    Subscribed(Box<Change>),
    /// A worker's connection is welcome.
    WorkerWelcome {
        /// Which.
        conn: ConnId,
        /// What it is told then.
        welcome: Bytes,
    },
    /// A stream has events up to here.
    Head {
        /// Whose.
        owner: Owner,
        /// Up to which.
        seq: u64,
    },
    /// An accepted run may be offered to workers.
    Queued(RunOf),
    /// A run's worker may execute it.
    Started(Attempt),
    /// A run's messages up to `n` are stored.
    Ack {
        /// Of which attempt.
        of: Attempt,
        /// Up to which.
        n: u64,
        /// On which connection the message came.
        conn: ConnId,
    },
    /// The time begins in which a cancelled run's worker must end it.
    Cancelled(RunOf),
    /// A run's worker may be told a command.
    Command {
        /// Of which attempt.
        of: Attempt,
        /// Which.
        i: u64,
    },
    /// A run's end is stored.
    Ended(RunOf),
    /// Rows of a user who is being erased are gone.
    ErasedSome {
        /// Whose.
        user: User,
        /// Of which table.
        table: Table,
    },
    /// Some ends of a user's runs, of which there were too many, are gone.
    ForgotSome {
        /// Whose.
        user: User,
    },
    /// A user is gone.
    Erased(User),
    /// Nothing of a user is on its way any more: the context may leave memory.
    Unload {
        /// Whose.
        user: User,
        /// Unless it could leave once more since.
        leaves: u64,
    },
}

#[derive(Debug)]
struct Pending {
    id: AppendId,
    /// When it was recorded.
    since: Mono,
    records: Arc<[Record]>,
    /// How many of [`Durable::reveals`] wait for it.
    reveals: usize,
}

/// Records and reveals on their way.
#[derive(Debug, Default)]
pub(crate) struct Durable {
    records: Vec<Record>,
    /// Those that wait for appends, in their order, and at the end those of this input.
    reveals: VecDeque<Reveal>,
    /// How many those at the end are.
    new_reveals: usize,
    pending: VecDeque<Pending>,
    last: AppendId,
    /// The newest that the store was given.
    given: AppendId,
    is_full: bool,
}

impl Durable {
    /// Something must be stored.
    pub(crate) fn record(&mut self, record: Record) {
        if let Record::Put { key, value } = &record
            && let Some(Record::Put { value: old, .. }) = self
                .records
                .iter_mut()
                .rev()
                .find(|old| matches!(old, Record::Put { key: old, .. } if old == key))
        {
            *old = value.clone();
            return;
        }
        self.records.push(record);
    }

    /// The same without looking for an earlier word on that row: if there is one, both are stored, and the
    /// later counts.
    pub(crate) fn record_another(&mut self, record: Record) {
        self.records.push(record);
    }

    /// The append that will have what is recorded now.
    pub(crate) const fn next(&self) -> AppendId {
        AppendId(self.last.0 + 1)
    }

    /// Whether this append is durable.
    pub(crate) fn has(&self, append: AppendId) -> bool {
        append <= self.last && self.pending.front().is_none_or(|first| first.id > append)
    }

    /// Something may be shown once all that was recorded so far is durable.
    pub(crate) fn reveal(&mut self, reveal: Reveal) {
        self.reveals.push_back(reveal);
        self.new_reveals += 1;
    }

    /// Whether the store takes nothing at present.
    pub(crate) const fn is_full(&self) -> bool {
        self.is_full
    }

    /// Whether nothing is on its way, nor waits for it.
    pub(crate) fn is_idle(&self) -> bool {
        self.records.is_empty() && self.reveals.is_empty() && self.pending.is_empty()
    }

    /// Appends that are not durable yet.
    pub(crate) fn waiting(&self) -> usize {
        self.pending.len()
    }

    /// Takes out what keeps a connection from being heard until it is revealed.
    fn take_waiters(&mut self) -> Vec<Reveal> {
        let is_waiter = |reveal: &Reveal| {
            matches!(reveal, Reveal::Welcome(_) | Reveal::WorkerWelcome { .. } | Reveal::Subscribed(_))
        };
        let mut all = core::mem::take(&mut self.reveals).into_iter();
        let mut waiters = Vec::new();
        for pending in &mut self.pending {
            for reveal in all.by_ref().take(core::mem::take(&mut pending.reveals)) {
                if is_waiter(&reveal) {
                    waiters.push(reveal);
                } else {
                    self.reveals.push_back(reveal);
                    pending.reveals += 1;
                }
            }
        }
        assert!(all.next().is_none(), "all that is revealed waits for an append");
        waiters
    }

    /// What is revealed when they are.
    pub(crate) fn reveals(&self) -> usize {
        self.reveals.len()
    }

    /// Ends an input: its records leave as one append. What waits for nothing is returned to be revealed at
    /// once.
    #[must_use]
    pub(crate) fn commit(&mut self, now: Mono, out: &mut Effects) -> Vec<Reveal> {
        let reveals = core::mem::take(&mut self.new_reveals);
        if self.records.is_empty() {
            return match self.pending.back_mut() {
                Some(last) => {
                    last.reveals += reveals;
                    Vec::new()
                }
                None => self.reveals.drain(..).collect(),
            };
        }
        self.last = self.next();
        let records: Arc<[Record]> = self.records.drain(..).collect();
        self.pending.push_back(Pending { id: self.last, since: now, records, reveals });
        if !self.is_full {
            self.give(self.last, out);
        }
        Vec::new()
    }

    /// For how long the oldest append has been on its way. While the store is full that says nothing.
    pub(crate) fn waited(&self, now: Mono) -> Span {
        let oldest = self.pending.front().filter(|_| !self.is_full);
        oldest.map_or(Span::ZERO, |oldest| now.since(oldest.since))
    }

    /// The store has everything up to `upto`: returns what may be revealed now, in order.
    #[must_use]
    pub(crate) fn appended(&mut self, upto: AppendId, out: &mut Effects) -> Vec<Reveal> {
        assert!(upto <= self.given, "the store has only what it was given");
        self.is_full = false;
        let mut reveals = 0;
        while let Some(first) = self.pending.pop_front_if(|first| first.id <= upto) {
            reveals += first.reveals;
        }
        let reveals = self.reveals.drain(..reveals).collect();
        // What was recorded between a retry and its success.
        self.give(AppendId(self.given.0 + 1), out);
        reveals
    }

    /// The store was full at `from`.
    pub(crate) fn failed(&mut self, from: AppendId, now: Mono, deadlines: &mut Deadlines) {
        assert!(
            self.pending.front().is_some_and(|first| first.id == from),
            "what failed is the first that is not durable"
        );
        self.is_full = true;
        deadlines.set(Timer::StoreRetry, now + RETRY);
    }

    /// Gives the store again what it did not take.
    pub(crate) fn retry(&mut self, out: &mut Effects) {
        if let Some(first) = self.pending.front() {
            self.give(first.id, out);
        }
    }

    /// Gives the store all that waits, from this one on.
    fn give(&mut self, from: AppendId, out: &mut Effects) {
        let first = self.pending.partition_point(|pending| pending.id < from);
        for pending in self.pending.range(first..) {
            out.push(Effect::Append { id: pending.id, records: pending.records.clone() });
        }
        self.given = self.last;
    }
}

impl Core {
    /// The store has everything up to there.
    pub(crate) fn on_appended(&mut self, upto: AppendId, out: &mut Effects) {
        self.watch_commit(self.durable.waited(self.now.mono));
        if self.durable.is_full() {
            self.note(Note::StoreTakes);
            self.renew_leases();
            self.queue.has_changed = true;
        }
        let reveals = self.durable.appended(upto, out);
        self.reveal(reveals, out);
    }

    /// The store is full.
    pub(crate) fn on_append_failed(&mut self, from: AppendId, out: &mut Effects) {
        self.counts.store_full += 1;
        let was_full = self.durable.is_full();
        self.durable.failed(from, self.now.mono, &mut self.deadlines);
        if was_full {
            return;
        }
        self.note(Note::StoreFull);
        for waiter in self.durable.take_waiters() {
            if let Reveal::Subscribed(change) = waiter {
                self.refuse_change(*change, out);
            } else if let Reveal::Welcome(conn) | Reveal::WorkerWelcome { conn, .. } = waiter {
                self.close_unstored(conn, out);
            }
        }
    }

    /// A connection would wait for a full store, and hear nothing.
    pub(crate) fn close_unstored(&mut self, id: ConnId, out: &mut Effects) {
        self.close(id, CloseCode::StorageUnavailable, "the store takes nothing at present", out);
    }
}
