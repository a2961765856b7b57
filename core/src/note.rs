//! What is worth a line of the log: said as facts with their ids, in the order in which they came about. The
//! shell writes them; nothing in the core or on the wire depends on them. Those of runs may be ahead of the
//! store by one commit: after a crash what was said may not have been, and is said again.
//!
//! Why a connection is closed stands in [`Effect::Close`].

use crate::Core;
use crate::context::RunOf;
use crate::effect::{Effect, Effects};
use crate::ids::{Agent, ConnId, Device, RunId, User};
use crate::wire::error::{Code, Refusal};
use alloc::string::String;
use core::net::IpAddr;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A user's connection is welcome.
    Connected {
        /// Which.
        conn: ConnId,
        /// From where.
        peer: IpAddr,
        /// Whose.
        user: User,
        /// On which device; a viewer has none.
        device: Option<Device>,
        /// How it begins in its stream.
        resume: &'static str,
    },
    /// A worker's connection is welcome.
    WorkerConnected {
        /// Which.
        conn: ConnId,
        /// From where.
        peer: IpAddr,
        /// The `sub` of its token.
        sub: String,
        /// Its name.
        worker: String,
    },
    /// A message or a request was refused.
    Refused {
        /// On which connection.
        conn: ConnId,
        /// How.
        code: Code,
        /// What was expected and what was found. Never a token.
        message: String,
    },
    /// A run was accepted.
    Accepted {
        /// Which.
        run: RunId,
        /// Whose.
        user: User,
        /// What executes it.
        agent: Agent,
    },
    /// An attempt at a run begins.
    Started {
        /// Which run.
        run: RunId,
        /// Which attempt.
        attempt: u64,
        /// The worker's name.
        worker: String,
        /// How long it was queued, in milliseconds.
        queued_ms: u64,
    },
    /// An attempt was lost, and another follows.
    Retried {
        /// Which run.
        run: RunId,
        /// When, in milliseconds.
        delay_ms: u64,
    },
    /// A run has ended.
    Ended {
        /// Which.
        run: RunId,
        /// How.
        status: &'static str,
        /// Time executed, in milliseconds.
        running_ms: u64,
    },
    /// Nobody has acknowledged the end of a run in time.
    Undelivered {
        /// Which run.
        run: RunId,
        /// Whose.
        user: User,
    },
    /// The store takes nothing any more, since it is full.
    StoreFull,
    /// It takes what it is given again.
    StoreTakes,
}

impl Core {
    /// Something is worth a line.
    pub(crate) fn note(&mut self, note: Note) {
        self.notes.push(note);
    }

    /// A message or a request is refused: that is counted, and noted.
    pub(crate) fn note_refusal(&mut self, conn: ConnId, refusal: &Refusal) {
        self.counts.refuse(refusal.code);
        self.note(Note::Refused { conn, code: refusal.code, message: refusal.message.clone() });
    }

    /// A run has ended.
    pub(crate) fn note_end(&mut self, of: &RunOf, status: &'static str, running_ms: u64) {
        self.note(Note::Ended { run: of.run.clone(), status, running_ms });
    }

    /// Ends an input: what was noted leaves, and what stands in the audit trail.
    pub(crate) fn tell_notes(&mut self, out: &mut Effects) {
        if self.notes.is_empty() && self.trail.is_empty() {
            return;
        }
        out.extend(self.notes.drain(..).map(Effect::Note));
        out.extend(self.trail.drain(..).map(Effect::Audit));
    }
}
