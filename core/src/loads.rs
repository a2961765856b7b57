//! Questions to the store, and what becomes of their answers.

use crate::Core;
use crate::admission;
use crate::caller::Caller;
use crate::effect::Effects;
use crate::ending::About;
use crate::history::Page;
use crate::ids::{ConnId, Lane, LoadId, RunId, User};
use crate::listing::Listing;
use crate::publish;
use crate::record::{Found, Table};
use crate::wire::user::Input;
use crate::wire::worker::Hello;
use alloc::boxed::Box;

/// What the answer to a question is for.
#[derive(Debug)]
pub(crate) enum Load {
    /// A user's context.
    Context(User),
    /// A page of events of one of a connection's streams, after this seq.
    Page(ConnId, Lane, u64),
    /// What is known of a run that is asked for.
    Run(Box<admission::Asked>),
    /// The end of a run of which something is asked.
    Ended {
        /// Who asks.
        caller: Caller,
        /// The run.
        run: RunId,
        /// What.
        about: About,
        /// What the run is to hear.
        input: Option<Box<Input>>,
    },
    /// A user's runs that have ended.
    History(Caller, Listing),
    /// A page of events for a request.
    Events(Caller, Page),
    /// Rows of a user who is being erased.
    Erase(User, Table),
    /// The oldest rows of a table that is ordered by age.
    Aged(Table),
    /// A user's ended runs past those that are kept.
    Excess(User),
    /// Whether a publication is a repeated one.
    Publication(Box<publish::Asked>),
    /// The ends of runs that a worker still names.
    Worker(ConnId, Hello),
}

impl Core {
    /// A question to the store.
    pub(crate) fn ask(&mut self, load: Load) -> LoadId {
        self.last_load += 1;
        let id = LoadId(self.last_load);
        self.loads.insert(id, load);
        id
    }

    /// An answer has come.
    pub(crate) fn on_loaded(&mut self, load: LoadId, found: Found, out: &mut Effects) {
        let Some(load) = self.loads.remove(&load) else { unreachable!("an answer belongs to a question") };
        match load {
            Load::Context(user) => self.on_context(&user, found, out),
            Load::Page(conn, lane, after) => self.on_page(conn, &lane, after, found, out),
            Load::Run(asked) => self.on_asked(*asked, found, out),
            Load::Ended { caller, run, about, input } => {
                self.on_ended_looked_up(&caller, &run, about, input, found, out);
            }
            Load::History(caller, what) => self.on_history(&caller, &what, found, out),
            Load::Events(caller, page) => self.on_events(&caller, &page, found, out),
            Load::Erase(user, table) => self.on_rows_to_erase(&user, table, found, out),
            Load::Aged(table) => self.on_aged(table, found, out),
            Load::Excess(user) => self.on_excess(&user, found),
            Load::Publication(publication) => self.on_publication_looked_up(*publication, found, out),
            Load::Worker(conn, hello) => self.on_worker_looked_up(conn, hello, found, out),
        }
    }
}
