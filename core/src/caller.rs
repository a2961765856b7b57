//! Who asks, and how they hear the answer: as a message on a WebSocket, or as the answer to an HTTP request.
//! What is asked is carried out by the same code for both.

use crate::Core;
use crate::conn::{Role, text};
use crate::context::RunOf;
use crate::durable::Reveal;
use crate::effect::{Content, Effects, Response};
use crate::ending::About;
use crate::handshake::Identity;
use crate::ids::{Agent, ConnId, Device, RunId, User};
use crate::scope::Scope;
use crate::wire::error::Refusal;
use crate::wire::json::Object;
use alloc::string::String;

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) conn: ConnId,
    pub(crate) identity: Identity,
    /// On which device, if on one.
    pub(crate) device: Option<Device>,
    pub(crate) form: Form,
}

/// How the answer is given.
#[derive(Clone, Debug)]
pub(crate) enum Form {
    /// As a message that repeats this `id`.
    Message(Option<String>),
    /// As the answer to the connection's HTTP request.
    Request,
}

impl Caller {
    /// The `id` that the answer repeats.
    pub(crate) fn id(&self) -> Option<&str> {
        match &self.form {
            Form::Message(id) => id.as_deref(),
            Form::Request => None,
        }
    }

    /// Whether it may see and steer a run of this agent and user: its own, or, over HTTP, as a publisher
    /// those of its agents.
    pub(crate) fn may(&self, user: &User, agent: &Agent) -> bool {
        let scopes = self.identity.scopes;
        let is_own = scopes.has(Scope::User) && *user == self.identity.user;
        let is_publisher = matches!(self.form, Form::Request) && scopes.has(Scope::Publish);
        is_own || is_publisher && self.identity.allows(agent)
    }

    /// Whether it may do this over HTTP as an operator: see how a run is, and end it, whosesoever it is.
    pub(crate) fn operates(&self, about: About) -> bool {
        let is_theirs = match about {
            About::Cancel | About::State => true,
            About::Input => false,
        };
        is_theirs && matches!(self.form, Form::Request) && self.identity.scopes.has(Scope::Operate)
    }

    /// Tells an operator whose run it is.
    pub(crate) fn say_whose(&self, run: Object, user: &User) -> Object {
        let whose = self.operates(About::State).then(|| user.as_str());
        run.maybe_str("user", whose)
    }
}

impl Core {
    /// The one who says something on a user's WebSocket.
    pub(crate) fn caller(&self, conn: ConnId, id: Option<String>) -> Option<Caller> {
        let Role::User(me) = &self.conns.get(&conn)?.role else { return None };
        let (identity, device) = (me.identity.clone(), me.device.clone());
        Some(Caller { conn, identity, device, form: Form::Message(id) })
    }

    /// A run in memory, if this caller may ask this about it. One about which it may not is looked up as if
    /// there were none.
    pub(crate) fn run_for(&self, caller: &Caller, run: &RunId, about: About) -> Option<RunOf> {
        let of = self.run_of(run)?;
        (self.is_theirs(caller, &of) || caller.operates(about)).then_some(of)
    }

    /// Whether a caller need not be an operator to see and steer a run in memory.
    pub(crate) fn is_theirs(&self, caller: &Caller, of: &RunOf) -> bool {
        let run = self.users.get(&of.user).and_then(|context| context.runs.get(&of.run));
        run.is_some_and(|run| caller.may(&of.user, &run.spec.agent))
    }

    /// Answers, once all that was recorded so far is durable. `status` is for HTTP.
    pub(crate) fn reply(&mut self, to: &Caller, status: u16, answer: Object) {
        let conn = to.conn;
        self.durable.reveal(match to.form {
            Form::Message(_) => Reveal::Reply { conn, text: text(answer) },
            Form::Request => {
                Reveal::Respond { conn, response: Response::new(status, Content::Json(answer.finish())) }
            }
        });
    }

    /// Refuses, at once.
    pub(crate) fn refuse(&mut self, to: &Caller, of: &str, refusal: &Refusal, out: &mut Effects) {
        match &to.form {
            Form::Message(id) => self.send_error(to.conn, Some(of), id.as_deref(), refusal, out),
            Form::Request => self.respond_refusal(to.conn, refusal, out),
        }
    }
}
