//! Erasing a user (PROTOCOL §7 `DELETE /v1/users/{user}`): connections are closed, runs end, and then, when
//! all that is durable, everything that the store has goes, page by page. That it has begun is stored first
//! and goes last, so that it goes on after a crash. Whoever comes meanwhile waits, and finds a user who was
//! never there.

use crate::context::RunOf;
use crate::durable::Reveal;
use crate::effect::{Content, Effect, Effects, Response};
use crate::ending::End;
use crate::ids::{ConnId, Owner, RunId, User};
use crate::planted::Bug;
use crate::purge::rows_beside;
use crate::record::{Found, Image, Query, Record, RowKey, Table};
use crate::run::{Cause, Phase};
use crate::sometimes::Sometimes;
use crate::stream::Stream;
use crate::wire::error::{CloseCode, Code, Refusal};
use crate::{Core, Load};
use alloc::vec::Vec;
use bytes::Bytes;

/// Rows that are erased at once.
const ROWS: usize = 256;
/// What is erased page by page, in this order.
const TABLES: [Table; 3] = [Table::Key, Table::History, Table::Device];

/// A user who is being erased.
#[derive(Debug, Default)]
pub(crate) struct Erase {
    /// Who asked for it.
    askers: Vec<ConnId>,
    /// Who waits for the user to be there again.
    waiting: Vec<ConnId>,
    /// Whether rows are being erased: nothing else of the user is on its way.
    is_scanning: bool,
}

impl Erase {
    /// How many wait for the user to be there again.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// One of them has gone.
    pub(crate) fn stop_waiting(&mut self, id: ConnId) {
        self.waiting.retain(|other| *other != id);
    }
}

/// The row that says that a user is being erased.
fn erasing_key(user: &User) -> RowKey {
    RowKey { table: Table::Erasing, owner: "".into(), name: user.text() }
}

impl Core {
    /// An operator wants a user erased.
    pub(crate) fn on_erase(&mut self, id: ConnId, user: User, out: &mut Effects) {
        if self.durable.is_full() {
            return self.respond_refusal(id, &self.storage_unavailable(), out);
        }
        let is_begun = self.is_erased(&user);
        self.erasing.entry(user.clone()).or_default().askers.push(id);
        if !is_begun {
            self.durable.record(Record::Put { key: erasing_key(&user), value: Bytes::new() });
            self.find_and_erase(&user, out);
        }
    }

    /// After a start: what had begun goes on, whoever asked for it.
    pub(crate) fn recover_erasing(&mut self, image: &Image, out: &mut Effects) {
        let begun = image.rows.iter().filter(|(key, _)| key.table == Table::Erasing);
        for user in begun.map(|(key, _)| User::parse(&key.name).expect("a stored name is a user")) {
            self.seen.mark(Sometimes::ErasedAfterCrash);
            self.erasing.insert(user.clone(), Erase::default());
            self.find_and_erase(&user, out);
        }
    }

    fn find_and_erase(&mut self, user: &User, out: &mut Effects) {
        if self.users.contains_key(user) {
            self.begin_erase(user, out);
        } else {
            self.load_context(user, out);
        }
    }

    /// Whether a user is being erased.
    pub(crate) fn is_erased(&self, user: &User) -> bool {
        self.erasing.contains_key(user)
    }

    /// A connection waits until its user has been erased. Whether it must.
    pub(crate) fn waits_for_erasure(&mut self, id: ConnId, user: &User) -> bool {
        let Some(erase) = self.erasing.get_mut(user) else { return false };
        self.seen.mark(Sometimes::WaitsForErasure);
        erase.waiting.push(id);
        true
    }

    /// The refusal of a run of a user who is being erased.
    pub(crate) fn check_erased(&self, user: &User) -> Result<(), Refusal> {
        if !self.is_erased(user) {
            return Ok(());
        }
        let message = "this user is being erased";
        Err(Refusal::new(Code::Overloaded, message, "try again when that is done").retry(1_000))
    }

    /// The context of a user who is to be erased is there.
    pub(crate) fn begin_erase(&mut self, user: &User, out: &mut Effects) {
        let context = self.users.get(user).expect("a context in use is in memory");
        let conns: Vec<ConnId> = context.conns.keys().copied().collect();
        let runs: Vec<RunId> = context.runs.keys().cloned().collect();
        for conn in conns {
            self.close(conn, CloseCode::Disconnected, "an operator has erased this user", out);
        }
        for run in runs {
            self.end_for_operator(&RunOf { user: user.clone(), run }, out);
        }
        self.leave_memory(user);
    }

    fn end_for_operator(&mut self, of: &RunOf, out: &mut Effects) {
        let Some(run) = self.run_mut(of).filter(|run| !run.is_ended()) else { return };
        if let Phase::Offered(worker) = run.phase.clone() {
            self.withdraw(of, &worker, out);
        } else if !run.is_queued() {
            self.seen.mark(Sometimes::ErasedWhileRunning);
        }
        self.end(of, End::stopped(Cause::Operator));
    }

    /// Nothing of a user who is to be erased is on its way any more: the rows go.
    pub(crate) fn erase_rows(&mut self, user: &User, out: &mut Effects) {
        let Some(erase) = self.erasing.get_mut(user) else { return };
        if !core::mem::replace(&mut erase.is_scanning, true) {
            self.ask_rows(user, TABLES[0], out);
        }
    }

    fn ask_rows(&mut self, user: &User, table: Table, out: &mut Effects) {
        let load = self.ask(Load::Erase(user.clone(), table));
        let query = Query::First { table, owner: user.text(), skip: 0, rows_max: ROWS };
        out.push(Effect::Load { load, query });
    }

    /// A page of rows that are to go has come.
    pub(crate) fn on_rows_to_erase(&mut self, user: &User, table: Table, found: Found, out: &mut Effects) {
        let rows = match found {
            Found::Rows(rows) => rows,
            Found::Damaged => return self.give_up_erasing(user, out),
            Found::Events(_) => unreachable!("rows were asked for"),
        };
        if rows.is_empty() {
            let next = TABLES.iter().position(|other| *other == table).and_then(|at| TABLES.get(at + 1));
            return match next {
                Some(next) => self.ask_rows(user, *next, out),
                None => self.erase_stream(user),
            };
        }
        for (key, row) in rows {
            for other in rows_beside(&key, &row) {
                self.durable.record(Record::Delete { key: other });
            }
            self.durable.record(Record::Delete { key });
        }
        // The store answers from what is durable.
        self.durable.reveal(Reveal::ErasedSome { user: user.clone(), table });
    }

    /// A page of rows is gone for certain.
    pub(crate) fn on_erased_some(&mut self, user: &User, table: Table, out: &mut Effects) {
        self.ask_rows(user, table, out);
    }

    /// The last of a user: what was not delivered, the events, and the stream's own rows.
    fn erase_stream(&mut self, user: &User) {
        self.forget_undelivered_of(user);
        self.ends.forget(user);
        let context = self.users.remove(user).expect("a context in use is in memory");
        let (stream, owner) = (context.stream, Owner::User(user.clone()));
        if stream.last() > 0 && !self.planted.is(Bug::EraseLeavesEvents) {
            let floor = stream.last() + 1;
            self.durable.record(Record::Trim { stream: stream.key().clone(), floor });
        }
        self.durable.record(Record::Delete { key: Stream::marks_key(&owner) });
        self.durable.record(Record::Delete { key: Stream::row_key(&owner) });
        self.durable.record(Record::Delete { key: erasing_key(user) });
        self.durable.reveal(Reveal::Erased(user.clone()));
    }

    /// A user is gone for certain.
    pub(crate) fn on_erased(&mut self, user: &User, out: &mut Effects) {
        self.seen.mark(Sometimes::Erased);
        let erase = self.erasing.remove(user).expect("who is erased was to be");
        for asker in erase.askers {
            self.answer(asker, Response::new(204, Content::Nothing), out);
        }
        for id in erase.waiting {
            self.open_context(id, user, out);
        }
    }

    /// What is to be erased cannot be read.
    pub(crate) fn give_up_erasing(&mut self, user: &User, out: &mut Effects) {
        let erase = self.erasing.remove(user).expect("who is erased was to be");
        self.durable.record(Record::Delete { key: erasing_key(user) });
        let message = "what is stored of this user is damaged";
        let refusal = Refusal::new(Code::StorageUnavailable, message, "restore the store from a backup");
        for asker in erase.askers {
            self.respond_refusal(asker, &refusal, out);
        }
        for id in erase.waiting {
            self.open_context(id, user, out);
        }
        self.leave_memory(user);
    }
}
