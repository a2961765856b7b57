//! Commands to a run's worker (PROTOCOL §6): numbered within an attempt, durable before they are said, and
//! said again on each new connection until the worker confirms them.

use crate::Core;
use crate::conn::text;
use crate::context::RunOf;
use crate::durable::Reveal;
use crate::effect::Effects;
use crate::ids::{Request, RunId};
use crate::record::{Record, RowKey, Table};
use crate::run::{Cause, Run};
use crate::wire::json::Object;
use crate::wire::worker::{Attempt, about};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Commands about a run that may be unconfirmed; a user's input beyond them is refused.
pub(crate) const COMMANDS_MAX: usize = 32;

/// The commands of an attempt.
#[derive(Debug, Default)]
pub(crate) struct Commands {
    /// Those that the worker has not confirmed.
    open: VecDeque<Command>,
    /// The number of the last one.
    pub(crate) last: u64,
}

/// A command.
#[derive(Debug, Serialize, Deserialize)]
struct Command {
    i: u64,
    order: Order,
    /// Only what is durable is said.
    #[serde(skip)]
    is_durable: bool,
}

/// What a worker is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// To stop.
    Cancel(Cause),
    /// What the user says.
    Input {
        /// To which question; none for steering.
        request: Option<Request>,
        /// Its words, as written.
        data: Box<RawValue>,
        /// Nobody has answered in time.
        is_expired: bool,
    },
}

impl Commands {
    /// The commands as they are stored: rows of one run.
    pub(crate) fn from_rows<'a>(rows: impl Iterator<Item = &'a [u8]>, last: u64) -> Self {
        let mut open: VecDeque<Command> = rows
            .map(|row| serde_json::from_slice(row).expect("a stored row is what was stored"))
            .map(|command| Command { is_durable: true, ..command })
            .collect();
        open.make_contiguous().sort_by_key(|command| command.i);
        Self { open, last }
    }

    /// How many are not confirmed.
    pub(crate) fn open(&self) -> usize {
        self.open.len()
    }
}

/// The row of a command. No name has a slash: rows of one run begin with its id and one.
fn command_key(run: &Run, id: &RunId, i: u64) -> RowKey {
    RowKey { table: Table::RunCommand, owner: run.spec.user.text(), name: format!("{id}/{i}").into() }
}

impl Core {
    /// Gives a run's worker one more command.
    pub(crate) fn order(&mut self, of: &RunOf, order: Order) {
        let Some(run) = self.run_mut(of) else { return };
        run.commands.last += 1;
        let i = run.commands.last;
        let command = Command { i, order, is_durable: false };
        let row = Record::Put { key: command_key(run, &of.run, i), value: crate::record::row(&command) };
        run.commands.open.push_back(command);
        let attempt = Attempt { run: of.run.clone(), attempt: run.attempt };
        self.durable.record(row);
        self.store_run(of);
        self.durable.reveal(Reveal::Command { of: attempt, i });
    }

    /// A command is durable: its worker is told.
    pub(crate) fn on_command_durable(&mut self, of: &Attempt, i: u64, out: &mut Effects) {
        let Some(place) = self.run_of(&of.run) else { return };
        let Some(run) = self.run_mut(&place).filter(|run| run.attempt == of.attempt) else { return };
        let Some(command) = run.commands.open.iter_mut().find(|command| command.i == i) else { return };
        command.is_durable = true;
        let message = command.message(of);
        let conn = run.worker().cloned().and_then(|worker| self.line_to(&worker));
        if let Some(conn) = conn {
            self.send(conn, text(message), out);
        }
    }

    /// Says a run's commands again, on a new connection of its worker.
    pub(crate) fn repeat_commands(&mut self, of: &RunOf, out: &mut Effects) {
        let Some(run) = self.run_mut(of) else { return };
        let attempt = Attempt { run: of.run.clone(), attempt: run.attempt };
        let durable = run.commands.open.iter().filter(|command| command.is_durable);
        let messages: alloc::vec::Vec<Object> = durable.map(|command| command.message(&attempt)).collect();
        let conn = run.worker().cloned().and_then(|worker| self.line_to(&worker));
        for message in messages {
            if let Some(conn) = conn {
                self.send(conn, text(message), out);
            }
        }
    }

    /// A worker has all commands up to `i`.
    pub(crate) fn confirm(&mut self, of: &RunOf, i: u64) {
        let Some(run) = self.run_mut(of) else { return };
        let mut rows = alloc::vec::Vec::new();
        while run.commands.open.front().is_some_and(|first| first.i <= i && first.is_durable) {
            if let Some(first) = run.commands.open.pop_front() {
                rows.push(Record::Delete { key: command_key(run, &of.run, first.i) });
            }
        }
        rows.into_iter().for_each(|row| self.durable.record(row));
    }

    /// The attempt is over, and with it its commands.
    pub(crate) fn void_commands(&mut self, of: &RunOf) {
        let Some(run) = self.run_mut(of) else { return };
        let open = core::mem::take(&mut run.commands).open;
        let rows: alloc::vec::Vec<Record> =
            open.iter().map(|command| Record::Delete { key: command_key(run, &of.run, command.i) }).collect();
        rows.into_iter().for_each(|row| self.durable.record(row));
    }
}

impl Command {
    fn message(&self, of: &Attempt) -> Object {
        match &self.order {
            Order::Cancel(cause) => about("cancel", of).raw("i", self.i).str("reason", cause.as_str()),
            Order::Input { request, data, is_expired } => about("input", of)
                .raw("i", self.i)
                .maybe_str("request", request.as_ref().map(Request::as_str))
                .raw("data", &**data)
                .maybe_raw("expired", is_expired.then_some(true)),
        }
    }
}
