//! Requests under `/v1/` (PROTOCOL §7): which there are, who may make them, and the way of each: its token,
//! its body, its user's context, its answer.
//!
//! What is asked is carried out where the same is done for messages of a WebSocket.

mod routes;

use crate::Core;
use crate::audit::{Trail, told};
use crate::caller::{Caller, Form};
use crate::conn::{Role, clear_timers};
use crate::deadlines::Timer;
use crate::effect::{Content, Effect, Effects, Response, Token};
use crate::handshake::{Identity, Unfit, bearer, check_query};
use crate::history::Page;
use crate::http::shorten;
use crate::ids::{BackupName, ConnId, Key, NAME_RULE, RunId, Thread, Topic, User};
use crate::input::{BodyLength, Claims, Head, TokenProblem};
use crate::listing::Listing;
use crate::overview::Wanted;
use crate::revoke::read_disconnect;
use crate::scope::Scope;
use crate::sse::Begin;
use crate::undelivered::{LISTED, LISTED_MAX};
use crate::wire::error::{Code, Refusal};
use crate::wire::json::wrong;
use crate::wire::query::Params;
use crate::wire::topic::{Publication, read_publication};
use crate::wire::user::{self, Ack, Ask, Input};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use routes::{Refused, Route, What, route};

/// A request whose head was read.
#[derive(Debug)]
pub(crate) struct Request {
    route: &'static Route,
    /// What stands in the path for the part in braces.
    name: Option<String>,
    params: Params,
    key: Option<Key>,
    last_event_id: Option<String>,
    /// The length of its body, if it is to have one.
    length: Option<usize>,
    pub(crate) identity: Option<Identity>,
    /// Whose token was good and did not suffice.
    refused: Option<User>,
    /// What is to be done as soon as the user's context is there.
    todo: Option<Todo>,
}

/// What is asked, read whole.
#[derive(Debug)]
enum Todo {
    Ask(User, Box<Ask>),
    State(RunId),
    Cancel(RunId),
    Input(Input),
    List(Listing),
    Events(Page),
    Stream(Begin),
    Ack(Ack),
    Publish(Publication),
    Workers,
    Status(Option<Wanted>),
    Drain,
    Undelivered(usize),
    Erase(User),
    User(User),
    Metrics,
    Disconnect(User, bool),
    Revoke(User),
    Backup(BackupName),
}

impl Core {
    pub(crate) fn on_api_request(&mut self, id: ConnId, head: Head<'_>, out: &mut Effects) {
        if let Some(origin) = head.origin.filter(|origin| self.is_configured(origin)) {
            out.push(Effect::Share { conn: id, origin: origin.into() });
            // A browser asks whether it may before it does: without a token, which is what it asks for.
            if head.method == "OPTIONS" {
                let allow = Some(routes::METHODS);
                return self.answer(id, Response { allow, ..Response::new(204, Content::Nothing) }, out);
            }
        }
        match self.read_request(id, &head) {
            Ok(token) => {
                let by = self.now.mono + self.config.server.stuck_after;
                self.deadlines.set(Timer::Answer(id), by);
                out.push(Effect::Verify { conn: id, token });
            }
            Err(Refused { refusal, status, allow }) => self.respond_problem(id, status, allow, &refusal, out),
        }
    }

    /// Everything that a head alone can be refused for.
    fn read_request(&mut self, id: ConnId, head: &Head<'_>) -> Result<Token, Refused> {
        check_query(head)?;
        self.check_origin(head)?;
        let (route, name) = route(head.method, head.path)?;
        // From here on it is known what is asked, also of whoever is refused it.
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.role = Role::Request(Box::new(Request::new(route, name)));
        }
        self.check_room(id).map_err(|(_, refusal)| refusal)?;
        let Some(authorization) = head.authorization else {
            let message = "expected a token in the header `Authorization: Bearer <token>`, found none";
            return Err(Refusal::new(Code::TokenMissing, message, "send a bearer token").into());
        };
        let token = bearer(authorization)?;
        let params = Params::parse(head.query)?;
        let key = head
            .idempotency_key
            .map(|key| Key::parse(key).ok_or_else(|| wrong("Idempotency-Key", Key::RULE, key)));
        let length = if route.has_body(head.body) { Some(self.body_length(head.body)?) } else { None };
        let key = key.transpose()?;
        let last_event_id = head.last_event_id.map(String::from);
        if let Some(request) = self.request(id) {
            (request.params, request.key, request.length) = (params, key, length);
            request.last_event_id = last_event_id;
        }
        Ok(token)
    }

    fn body_length(&self, body: BodyLength) -> Result<usize, Refused> {
        let longest = self.config.server.message;
        match body {
            BodyLength::Bytes(bytes) => match usize::try_from(bytes) {
                Ok(bytes) if bytes <= longest => Ok(bytes),
                Ok(_) | Err(_) => {
                    let message = format!("expected a body of at most {longest} bytes, found {bytes}");
                    Err(Refusal::new(Code::TooLarge, message, "measure before sending").into())
                }
            },
            BodyLength::None | BodyLength::Unknown => {
                let message = "expected a body with `Content-Length`, and without `Transfer-Encoding`";
                let refusal = Refusal::new(Code::BadMessage, message, "send the body in one piece");
                Err(Refused { status: 411, ..refusal.into() })
            }
        }
    }

    /// The signature of a request's token was looked at.
    pub(crate) fn on_request_verified(
        &mut self,
        id: ConnId,
        outcome: Result<Claims, TokenProblem>,
        out: &mut Effects,
    ) {
        let Some(scopes) = self.request(id).map(|request| request.route.scopes) else { return };
        let judged = match self.judge(scopes, outcome) {
            Ok(identity) => self.count_request(identity).map_err(Unfit::from),
            Err(unfit) => Err(unfit),
        };
        let identity = match judged {
            Ok(identity) => identity,
            Err(Unfit { refusal, by }) => {
                if let Some(request) = self.request(id) {
                    request.refused = by;
                }
                return self.respond_refusal(id, &refusal, out);
            }
        };
        let Some(request) = self.request(id) else { return };
        request.identity = Some(identity);
        match request.length {
            Some(length) if length > 0 => {
                clear_timers(id, &mut self.deadlines);
                self.deadlines.set(Timer::Head(id), self.now.mono + self.config.server.hello_timeout);
                out.push(Effect::Body { conn: id, length });
            }
            Some(_) | None => self.on_request_whole(id, "", out),
        }
    }

    /// A request's body was read.
    pub(crate) fn on_body(&mut self, id: ConnId, body: &[u8], out: &mut Effects) {
        self.deadlines.clear(Timer::Head(id));
        self.deadlines.set(Timer::Answer(id), self.now.mono + self.config.server.stuck_after);
        match core::str::from_utf8(body) {
            Ok(body) => self.on_request_whole(id, body, out),
            Err(_) => {
                let refusal = Refusal::new(Code::BadJson, "expected a body in UTF-8", "send JSON");
                self.respond_refusal(id, &refusal, out);
            }
        }
    }

    fn on_request_whole(&mut self, id: ConnId, body: &str, out: &mut Effects) {
        if let Err(refusal) = self.check_still(id) {
            return self.respond_refusal(id, &refusal, out);
        }
        let Some(request) = self.request(id) else { return };
        let todo = match request.read(body) {
            Ok(todo) => todo,
            Err(refusal) => return self.respond_refusal(id, &refusal, out),
        };
        let Some(caller) = request.caller(id) else { return };
        let trail = request.trail(&todo);
        self.audit_request(&caller, trail);
        let Some(request) = self.request(id) else { return };
        match todo {
            Todo::State(run) => {
                let run = self.meant(&caller, run);
                self.on_run_state(caller, run, out);
            }
            Todo::Cancel(run) => {
                let run = self.meant(&caller, run);
                self.on_cancel(caller, run, out);
            }
            Todo::Input(input) => {
                let run = self.meant(&caller, input.run.clone());
                self.on_input(caller, Input { run, ..input }, out);
            }
            Todo::Stream(begin) => self.begin_stream(caller, begin, out),
            Todo::Publish(publication) => self.on_publish(caller, publication, out),
            Todo::Workers => self.respond_workers(id, out),
            Todo::Status(wanted) => self.respond_status(id, wanted.as_ref(), out),
            Todo::Drain => self.on_drain_request(id, out),
            Todo::Metrics => self.respond(id, 200, Content::Metrics, out),
            Todo::Undelivered(limit) => self.respond_undelivered(id, limit, out),
            Todo::Erase(user) => self.on_erase(id, user, out),
            Todo::Disconnect(user, reconnect) => self.on_disconnect(id, &user, reconnect, out),
            Todo::Revoke(user) => self.on_revoke(id, user, out),
            Todo::Backup(name) => self.on_backup(id, name, out),
            Todo::Ask(..) | Todo::List(_) | Todo::Events(_) | Todo::Ack(_) | Todo::User(_) => {
                let other = if let Todo::Ask(user, _) | Todo::User(user) = &todo { Some(user) } else { None };
                let user = other.cloned().unwrap_or(caller.identity.user);
                request.todo = Some(todo);
                self.open_context(id, &user, out);
            }
        }
    }

    /// The context of the user is there whom a request is about.
    pub(crate) fn on_request_context(&mut self, id: ConnId, out: &mut Effects) {
        if let Err(refusal) = self.check_still(id) {
            return self.respond_refusal(id, &refusal, out);
        }
        let Some(request) = self.request(id) else { return };
        let (Some(todo), Some(caller)) = (request.todo.take(), request.caller(id)) else { return };
        match todo {
            Todo::Ask(user, ask) => self.on_ask(caller, user, *ask, out),
            Todo::List(what) => self.on_list(caller, what, out),
            Todo::Events(page) => self.on_get_events(caller, page, out),
            Todo::Ack(ack) => self.on_device_ack(&caller, &ack, out),
            Todo::User(user) => self.respond_user(&caller, &user, out),
            Todo::State(_)
            | Todo::Cancel(_)
            | Todo::Input(_)
            | Todo::Stream(_)
            | Todo::Publish(_)
            | Todo::Workers
            | Todo::Status(_)
            | Todo::Drain
            | Todo::Metrics
            | Todo::Undelivered(_)
            | Todo::Erase(_)
            | Todo::Disconnect(..)
            | Todo::Revoke(_)
            | Todo::Backup(_) => unreachable!("done without a context"),
        }
    }

    /// Nothing has answered a request: what it waits for does not become durable.
    pub(crate) fn on_answer_overdue(&mut self, id: ConnId, out: &mut Effects) {
        let message = "expected the store to answer in time; what was asked may still come about";
        let hint = "ask again, with the same Idempotency-Key";
        let refusal = Refusal::new(Code::StorageUnavailable, message, hint);
        self.respond_refusal(id, &refusal.retry(crate::durable::RETRY.as_millis()), out);
    }

    /// A token that was good when it came may have been revoked since.
    fn check_still(&mut self, id: ConnId) -> Result<(), Refusal> {
        let Some(identity) = self.request(id).and_then(|request| request.identity.clone()) else {
            return Ok(());
        };
        self.check_revoked(&identity.user, identity.issued)
    }

    fn request(&mut self, id: ConnId) -> Option<&mut Request> {
        let conn = self.conns.get_mut(&id).filter(|conn| !conn.is_closing)?;
        if let Role::Request(request) = &mut conn.role { Some(request) } else { None }
    }

    /// Answers with 204.
    pub(crate) fn reply_nothing(&mut self, to: &Caller) {
        let response = Response::new(204, Content::Nothing);
        self.durable.reveal(crate::durable::Reveal::Respond { conn: to.conn, response });
    }
}

impl Request {
    fn new(route: &'static Route, name: Option<String>) -> Self {
        Self {
            route,
            name,
            params: Params::default(),
            key: None,
            last_event_id: None,
            length: None,
            identity: None,
            refused: None,
            todo: None,
        }
    }

    /// Whether it stands in the audit trail: if it is an operator's and touches users or the daemon, or a
    /// publisher's for another user. What a console asks for all the time does not, but for what is looked
    /// for there.
    fn trail(&self, todo: &Todo) -> Trail {
        let operates = self.identity.as_ref().is_some_and(|identity| identity.scopes.has(Scope::Operate));
        match todo {
            Todo::Status(wanted) => match wanted.as_ref().and_then(Wanted::find) {
                Some(text) => Trail::Searched(text.into()),
                None => Trail::Untold,
            },
            Todo::State(_) | Todo::Cancel(_) if operates => Trail::Written(self.about()),
            Todo::Ask(user, _) if self.by() != Some(user) => Trail::Written(told(user.as_str())),
            Todo::Drain
            | Todo::Undelivered(_)
            | Todo::Erase(_)
            | Todo::User(_)
            | Todo::Disconnect(..)
            | Todo::Revoke(_)
            | Todo::Backup(_) => Trail::Written(self.about()),
            Todo::State(_)
            | Todo::Cancel(_)
            | Todo::Ask(..)
            | Todo::Input(_)
            | Todo::List(_)
            | Todo::Events(_)
            | Todo::Stream(_)
            | Todo::Ack(_)
            | Todo::Publish(_)
            | Todo::Workers
            | Todo::Metrics => Trail::Untold,
        }
    }

    /// What kind it is.
    pub(crate) fn action(&self) -> String {
        format!("{} {}", self.route.method, self.route.path)
    }

    /// Which user, run, topic or backup it is about. What stands in the path and is no such name is not told.
    pub(crate) fn about(&self) -> Option<String> {
        let name = self.name.as_deref()?;
        let is_name = match self.route.what {
            What::Run | What::Cancel | What::Input => RunId::parse(name).is_some(),
            What::Erase | What::User | What::Disconnect | What::Revoke => User::parse(name).is_some(),
            What::Publish => Topic::parse(name).is_some(),
            What::Backup => BackupName::parse(name).is_some(),
            What::NewRun
            | What::Runs
            | What::Threads
            | What::Events
            | What::Stream
            | What::Ack
            | What::Workers
            | What::Status
            | What::Drain
            | What::Undelivered
            | What::Metrics => false,
        };
        if is_name { told(name) } else { None }
    }

    /// The user whose context it waits for, if it does.
    pub(crate) fn awaited(&self) -> Option<&User> {
        match self.todo.as_ref()? {
            Todo::Ask(user, _) | Todo::User(user) => Some(user),
            Todo::List(_) | Todo::Events(_) | Todo::Ack(_) => {
                self.identity.as_ref().map(|identity| &identity.user)
            }
            Todo::State(_)
            | Todo::Cancel(_)
            | Todo::Input(_)
            | Todo::Stream(_)
            | Todo::Publish(_)
            | Todo::Workers
            | Todo::Status(_)
            | Todo::Drain
            | Todo::Undelivered(_)
            | Todo::Erase(_)
            | Todo::Metrics
            | Todo::Disconnect(..)
            | Todo::Revoke(_)
            | Todo::Backup(_) => None,
        }
    }

    /// Who asks, as far as a good token says, though it may not allow this.
    pub(crate) fn by(&self) -> Option<&User> {
        self.identity.as_ref().map(|identity| &identity.user).or(self.refused.as_ref())
    }

    fn caller(&self, conn: ConnId) -> Option<Caller> {
        let identity = self.identity.clone()?;
        Some(Caller { conn, identity, device: None, form: Form::Request })
    }

    /// Reads what is asked. `body` is empty where there is none.
    fn read(&self, body: &str) -> Result<Todo, Refusal> {
        let key = self.key.clone();
        Ok(match self.route.what {
            What::NewRun => self.read_run(body)?,
            What::Run => Todo::State(self.run()?),
            What::Cancel => Todo::Cancel(self.run()?),
            What::Input => Todo::Input(user::read_input(body, self.run()?, key)?),
            What::Runs => Todo::List(Listing::runs(&self.params)?),
            What::Threads => Todo::List(Listing::Threads),
            What::Events => Todo::Events(Page::read(&self.params)?),
            What::Stream => Todo::Stream(Begin::read(&self.params, self.last_event_id.as_deref())?),
            What::Ack => Todo::Ack(user::read_ack(body)?),
            What::Publish => Todo::Publish(read_publication(body, self.topic()?, key)?),
            What::Workers => Todo::Workers,
            What::Status => Todo::Status(Wanted::read(&self.params)?),
            What::Drain => Todo::Drain,
            What::Erase => Todo::Erase(self.user()?),
            What::User => Todo::User(self.user()?),
            What::Metrics => Todo::Metrics,
            What::Disconnect => Todo::Disconnect(self.user()?, read_disconnect(body)?),
            What::Revoke => Todo::Revoke(self.user()?),
            What::Backup => Todo::Backup(self.backup()?),
            What::Undelivered => {
                let limit = self.params.number("limit", 1..=LISTED_MAX as u64)?;
                Todo::Undelivered(limit.map_or(LISTED, |limit| limit as usize))
            }
        })
    }

    fn read_run(&self, body: &str) -> Result<Todo, Refusal> {
        let name = self.name.as_deref();
        let thread = name.map(|name| Thread::parse(name).ok_or_else(|| wrong("thread", NAME_RULE, name)));
        let (user, ask) = user::read_run(body, thread.transpose()?.as_ref(), self.key.clone())?;
        let Some(identity) = &self.identity else { unreachable!("a body is read after the token") };
        let user = match user {
            Some(user) if identity.scopes.has(Scope::Publish) => user,
            Some(user) if user == identity.user => user,
            Some(_) => {
                let message = "expected the scope `publish` in `scope`, to run agents for other users";
                return Err(Refusal::new(
                    Code::TokenScope,
                    message,
                    "leave out `user`, or get a token for this",
                ));
            }
            None if identity.scopes.has(Scope::User) => identity.user.clone(),
            None => return Err(wrong("user", "the user whose run it is to be", "nothing")),
        };
        Ok(Todo::Ask(user, Box::new(ask)))
    }

    /// The topic of the path.
    fn topic(&self) -> Result<Topic, Refusal> {
        let name = self.name.as_deref().unwrap_or_default();
        Topic::parse(name).ok_or_else(|| wrong("topic", NAME_RULE, name))
    }

    /// The user of the path.
    fn user(&self) -> Result<User, Refusal> {
        let name = self.name.as_deref().unwrap_or_default();
        User::parse(name).ok_or_else(|| wrong("user", User::RULE, name))
    }

    /// The backup of the path.
    fn backup(&self) -> Result<BackupName, Refusal> {
        let name = self.name.as_deref().unwrap_or_default();
        BackupName::parse(name).ok_or_else(|| wrong("backup", NAME_RULE, name))
    }

    /// The run of the path.
    fn run(&self) -> Result<RunId, Refusal> {
        let name = self.name.as_deref().unwrap_or_default();
        RunId::parse(name).ok_or_else(|| {
            let message = format!("expected {}, found {}", RunId::RULE, shorten(name));
            Refusal::new(Code::RunNotFound, message, "check the run's id")
        })
    }
}

#[cfg(test)]
mod tests;
