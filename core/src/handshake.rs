//! From a request head to `hello` (PROTOCOL §3): tokens, their judgement, and the order of it all.
//!
//! Nothing is handled before authentication and nothing is dropped: what a client sends early waits in its
//! inbox, and `welcome` is the first message it gets.

use crate::Core;
use crate::config::Server;
use crate::conn::Role;
use crate::deadlines::Timer;
use crate::effect::{Effect, Effects, Token};
use crate::http::{Path, shorten};
use crate::ids::{Agent, ConnId, User};
use crate::input::{Claims, Head, TokenProblem, UpgradeRequest};
use crate::scope::{Scope, Scopes};
use crate::strangers::neighbourhood;
use crate::time::{Span, WallMs};
use crate::wire::error::{CloseCode, Code, Refusal};
use crate::wire::{user, worker};
use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The longest message of a WebSocket of which it is not known whose it is: what has come of one is kept, for
/// anybody. A `hello` with all the agents that a worker may serve has room, with its token and hundreds of
/// runs.
const STRANGER_BYTES: usize = 64 * 1024;

/// Who a connection is for, as its token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) user: User,
    pub(crate) expires: WallMs,
    /// When the token was made, as far as it says.
    pub(crate) issued: Option<WallMs>,
    pub(crate) scopes: Scopes,
    /// The agents it is good for; all when none are named.
    agents: Option<Arc<BTreeSet<String>>>,
}

impl Identity {
    /// Whether it may run, or serve, this agent.
    pub(crate) fn allows(&self, agent: &Agent) -> bool {
        self.agents.as_ref().is_none_or(|agents| agents.contains(agent.as_str()))
    }
}

/// Why a token lets nobody in.
#[derive(Debug)]
pub(crate) struct Unfit {
    pub(crate) refusal: Refusal,
    /// Whose it is, where it is good and does not allow this: for the trail.
    pub(crate) by: Option<User>,
}

impl From<Refusal> for Unfit {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, by: None }
    }
}

/// A WebSocket on its way to its welcome.
#[derive(Debug)]
pub(crate) struct Greeting {
    path: Path,
    /// Where the tokens came from whose signatures are being looked at, in order.
    asked: VecDeque<Source>,
    /// A token in the subprotocol, to be looked at after the upgrade.
    subprotocol: Option<Token>,
    identity: Option<Identity>,
    /// Whose token was good and did not suffice.
    refused: Option<User>,
    hello: Option<Hello>,
    is_upgraded: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Header,
    Subprotocol,
    Hello,
}

#[derive(Debug)]
enum Hello {
    User(user::Hello),
    Worker(worker::Hello),
}

/// The tokens of a head.
#[derive(Default)]
struct Tokens {
    header: Option<Token>,
    subprotocol: Option<Token>,
}

impl Greeting {
    const fn new(path: Path) -> Self {
        Self {
            path,
            asked: VecDeque::new(),
            subprotocol: None,
            identity: None,
            refused: None,
            hello: None,
            is_upgraded: false,
        }
    }

    /// What it asks for by now.
    pub(crate) fn action(&self) -> &'static str {
        match self.path {
            Path::User | Path::Worker if self.is_upgraded => "hello",
            Path::Worker => "GET /worker",
            Path::User | Path::Live | Path::Ready | Path::Chat | Path::Console => "GET /ws",
        }
    }

    /// The longest message that it is given room for.
    pub(crate) fn message_bytes(&self, server: &Server) -> usize {
        let most = match self.path {
            // A worker's message of up to twice the limit is read, so that its number can be used up.
            Path::Worker => server.worker_message * 2,
            Path::User | Path::Live | Path::Ready | Path::Chat | Path::Console => server.message,
        };
        if self.identity.is_some() { most } else { most.min(STRANGER_BYTES) }
    }

    /// Who it is, as far as that is known.
    pub(crate) fn user(&self) -> Option<&User> {
        self.identity.as_ref().map(|identity| &identity.user)
    }

    /// Who is refused, as far as a good token says.
    pub(crate) fn refused(&self) -> Option<&User> {
        self.user().or(self.refused.as_ref())
    }
}

impl Core {
    pub(crate) fn on_upgrade_request(&mut self, id: ConnId, path: Path, head: Head<'_>, out: &mut Effects) {
        let tokens = self.check_head(&head);
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.role = Role::Greeting(Box::new(Greeting::new(path)));
        let tokens = match tokens {
            Ok(tokens) => tokens,
            Err(refusal) => return self.respond_refusal(id, &refusal, out),
        };
        let is_browser = tokens.header.is_none();
        if let Err((close, refusal)) = self.check_draining_for(path).and_then(|()| self.check_room(id)) {
            if !is_browser {
                return self.respond_refusal(id, &refusal, out);
            }
            self.upgrade(id, out);
            return self.close(id, close, &refusal.message, out);
        }
        let hello_by = self.now.mono + self.config.server.hello_timeout;
        self.deadlines.set(Timer::Hello(id), hello_by);
        let Some(greeting) = self.greeting(id) else { return };
        greeting.subprotocol = tokens.subprotocol;
        let Some(token) = tokens.header else { return self.upgrade(id, out) };
        greeting.asked.push_back(Source::Header);
        out.push(Effect::Verify { conn: id, token });
    }

    /// What must be right about a head before anything else is looked at.
    fn check_head(&self, head: &Head<'_>) -> Result<Tokens, Refusal> {
        check_query(head)?;
        self.check_origin(head)?;
        let mut protocols = head.protocols.unwrap_or("").split(',').map(str::trim);
        if head.upgrade == UpgradeRequest::No || !protocols.clone().any(|name| name == "runcast.v1") {
            let message = "expected a WebSocket upgrade with the subprotocol runcast.v1";
            return Err(Refusal::new(Code::SubprotocolRequired, message, "offer `runcast.v1`"));
        }
        if let UpgradeRequest::Invalid(expected) = head.upgrade {
            let message = format!("the upgrade is not as RFC 6455 has it: {expected}");
            return Err(Refusal::new(Code::BadMessage, message, "use a WebSocket library"));
        }
        Ok(Tokens {
            header: head.authorization.map(bearer).transpose()?,
            subprotocol: protocols.find_map(|name| name.strip_prefix("jwt.")).map(Token::new),
        })
    }

    /// A browser says where its page comes from: its own host, or one that is configured.
    pub(crate) fn check_origin(&self, head: &Head<'_>) -> Result<(), Refusal> {
        let Some(origin) = head.origin else { return Ok(()) };
        let host = origin.split_once("://").map_or(origin, |(_, host)| host);
        let is_own = head.host.is_some_and(|own| own.eq_ignore_ascii_case(host));
        if is_own || self.is_configured(origin) {
            return Ok(());
        }
        let found = shorten(origin);
        let message =
            format!("expected a page of the daemon's own host or of a configured origin, found {found}");
        Err(Refusal::new(Code::OriginForbidden, message, "add the page's origin to server.origins"))
    }

    /// Whether pages of this origin may connect though the daemon is elsewhere.
    pub(crate) fn is_configured(&self, origin: &str) -> bool {
        self.config.server.origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
    }

    /// Whoever only watches comes back later; a worker may have runs that are to end.
    fn check_draining_for(&self, path: Path) -> Result<(), (CloseCode, Refusal)> {
        let is_refused = if path == Path::Worker { self.is_closing_all() } else { self.is_draining() };
        if is_refused { Err((CloseCode::Draining, Self::draining())) } else { Ok(()) }
    }

    /// Whether there is room for one more, in all and from its address.
    pub(crate) fn check_room(&self, id: ConnId) -> Result<(), (CloseCode, Refusal)> {
        let server = &self.config.server;
        if self.conns.len() > server.connections {
            let message = format!("{} connections are all this daemon takes", server.connections);
            let refusal = Refusal::new(Code::Overloaded, message, "try again later").retry(5_000);
            return Err((CloseCode::Overloaded, refusal));
        }
        let peer = self.conns.get(&id).map(|conn| conn.peer);
        let of_peer = peer.and_then(|peer| self.addresses.get(&neighbourhood(peer))).copied().unwrap_or(0);
        if of_peer > server.connections_per_address {
            let message = format!("{} connections are all of one address", server.connections_per_address);
            let refusal = Refusal::new(Code::RateLimited, message, "close others first").retry(5_000);
            return Err((CloseCode::TooManyConnections, refusal));
        }
        Ok(())
    }

    fn upgrade(&mut self, id: ConnId, out: &mut Effects) {
        let mono = self.now.mono;
        self.deadlines.set(Timer::Heartbeat(id), mono + self.config.server.heartbeat);
        self.deadlines.set(Timer::Silence(id), mono + self.config.server.heartbeat.ratio(5, 2));
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let Role::Greeting(greeting) = &mut conn.role else { return };
        let message_bytes = greeting.message_bytes(&self.config.server);
        out.push(Effect::Upgrade { conn: id, message_bytes });
        greeting.is_upgraded = true;
        if let Some(token) = greeting.subprotocol.take() {
            greeting.asked.push_back(Source::Subprotocol);
            conn.is_busy = true;
            out.push(Effect::Verify { conn: id, token });
        }
    }

    /// A signature was looked at.
    pub(crate) fn on_verified(
        &mut self,
        id: ConnId,
        outcome: Result<Claims, TokenProblem>,
        out: &mut Effects,
    ) {
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| !conn.is_closing) else { return };
        if let Role::Request(_) = &conn.role {
            return self.on_request_verified(id, outcome, out);
        }
        if let Role::User(_) = &conn.role {
            return self.on_refreshed(id, outcome, out);
        }
        let Role::Greeting(greeting) = &mut conn.role else { return };
        let (Some(source), path) = (greeting.asked.pop_front(), greeting.path) else { return };
        let before = greeting.identity.clone();
        let scope = if path == Path::Worker { Scope::Worker } else { Scope::User };
        let judged = self.judge(&[scope], outcome).and_then(|identity| match before {
            Some(before) if before.user != identity.user => {
                let message = "expected tokens of one user; found two that name different ones";
                Err(Refusal::new(Code::TokenSubject, message, "send one token").into())
            }
            Some(_) | None => Ok(identity),
        });
        let identity = match judged {
            Ok(identity) => identity,
            Err(Unfit { refusal, by }) => {
                if let Some(greeting) = self.greeting(id) {
                    greeting.refused = by;
                }
                return match source {
                    Source::Header => self.respond_refusal(id, &refusal, out),
                    Source::Subprotocol | Source::Hello => self.refuse_token(id, &refusal, out),
                };
            }
        };
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let Role::Greeting(greeting) = &mut conn.role else { return };
        greeting.identity = Some(identity);
        if greeting.is_upgraded {
            let message_bytes = greeting.message_bytes(&self.config.server);
            out.push(Effect::Allow { conn: id, message_bytes });
        }
        match source {
            Source::Header => self.upgrade(id, out),
            Source::Subprotocol => {
                conn.is_busy = false;
                self.take_inbox(id, out);
            }
            Source::Hello => self.enter(id, out),
        }
    }

    fn greeting(&mut self, id: ConnId) -> Option<&mut Greeting> {
        let Role::Greeting(greeting) = &mut self.conns.get_mut(&id)?.role else { return None };
        Some(greeting)
    }

    /// What a token says, held against what is configured, against the clock, and against the scopes of which
    /// it must have one.
    pub(crate) fn judge(
        &self,
        wanted: &[Scope],
        outcome: Result<Claims, TokenProblem>,
    ) -> Result<Identity, Unfit> {
        let claims = outcome.map_err(|problem| token_problem(&problem))?;
        self.check_claims(&claims)?;
        let Some(user) = User::parse(&claims.sub) else {
            let message = format!("expected `sub` to be {}", User::RULE);
            return Err(Refusal::new(Code::TokenSubject, message, "name the user differently").into());
        };
        let issued = claims.iat.map(|iat| WallMs(iat.saturating_mul(1000)));
        let scopes = Scopes::parse(claims.scope.as_deref());
        if let Err(refusal) = self.check_revoked(&user, issued).and_then(|()| check_scope(wanted, scopes)) {
            return Err(Unfit { refusal, by: Some(user) });
        }
        let expires = expiry(&claims) + self.config.auth.leeway;
        let agents = claims.agents.map(|agents| Arc::new(agents.into_iter().collect()));
        Ok(Identity { user, expires, issued, scopes, agents })
    }

    /// Whether a token is good here and now.
    fn check_claims(&self, claims: &Claims) -> Result<(), Refusal> {
        let (now, leeway) = (self.now.wall, self.config.auth.leeway);
        let expires = expiry(claims);
        if expires + leeway <= now {
            let late = now.since(expires).as_millis();
            let message = format!("the token expired {late} ms ago");
            return Err(Refusal::new(Code::TokenExpired, message, "get a new token"));
        }
        if let Some(early) = claims.nbf.map(|nbf| WallMs(nbf.saturating_mul(1000)).since(now + leeway))
            && early > Span::ZERO
        {
            let message = format!("the token is valid only in {} ms", early.as_millis());
            return Err(Refusal::new(Code::TokenNotYetValid, message, "check the clocks"));
        }
        let auth = &self.config.auth;
        if auth.issuer.is_some() && auth.issuer != claims.iss {
            let message = "expected the configured issuer in `iss`";
            return Err(Refusal::new(Code::TokenIssuer, message, "see auth.issuer"));
        }
        if auth.audience.as_ref().is_some_and(|audience| !claims.aud.contains(audience)) {
            let message = "expected the configured audience in `aud`";
            return Err(Refusal::new(Code::TokenAudience, message, "see auth.audience"));
        }
        Ok(())
    }

    /// A message before the welcome: `hello`, or what waits for it.
    pub(crate) fn on_greeting_text(&mut self, id: ConnId, text: &str, out: &mut Effects) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let Role::Greeting(greeting) = &mut conn.role else { return };
        let read = if greeting.path == Path::Worker {
            read_worker_hello(text).map(|(hello, token)| (Hello::Worker(hello), token))
        } else {
            read_user_hello(text).map(|(hello, token)| (Hello::User(hello), token))
        };
        let (hello, token) = match read {
            Ok(read) => read,
            Err(refusal) => {
                self.send_error(id, Some("hello"), None, &refusal, out);
                return self.close(id, CloseCode::Violation, &refusal.message, out);
            }
        };
        greeting.hello = Some(hello);
        conn.is_busy = true;
        match token {
            Some(token) => {
                greeting.asked.push_back(Source::Hello);
                out.push(Effect::Verify { conn: id, token });
            }
            None if greeting.identity.is_some() => self.enter(id, out),
            None => {
                let message = "expected a token in the subprotocol, the Authorization header or `hello`";
                let refusal = Refusal::new(Code::TokenMissing, message, "send `hello` with a token");
                self.refuse_token(id, &refusal, out);
            }
        }
    }

    /// Whoever said `hello` is known now.
    fn enter(&mut self, id: ConnId, out: &mut Effects) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let Role::Greeting(greeting) = &mut conn.role else { return };
        self.deadlines.clear(Timer::Hello(id));
        let identity = greeting.identity.clone();
        match (identity, greeting.hello.take()) {
            (Some(identity), Some(Hello::User(hello))) => self.enter_user(id, identity, hello, None, out),
            (Some(identity), Some(Hello::Worker(hello))) => self.enter_worker(id, identity, hello, out),
            (_, None) | (None, _) => unreachable!("only an authenticated hello enters"),
        }
    }

    fn refuse_token(&mut self, id: ConnId, refusal: &Refusal, out: &mut Effects) {
        self.send_error(id, Some("hello"), None, refusal, out);
        self.close(id, CloseCode::TokenRefused, refusal.code.as_str(), out);
    }
}

fn read_user_hello(text: &str) -> Result<(user::Hello, Option<Token>), Refusal> {
    match user::read(text).map_err(|unread| *unread.refusal)?.body {
        user::Body::Hello(mut hello) => {
            let token = hello.token.take();
            Ok((hello, token))
        }
        user::Body::Run(_)
        | user::Body::Cancel(_)
        | user::Body::Input(_)
        | user::Body::Ack(..)
        | user::Body::Subscribe(_)
        | user::Body::Refresh(_)
        | user::Body::Ping(_) => Err(hello_first()),
    }
}

fn read_worker_hello(text: &str) -> Result<(worker::Hello, Option<Token>), Refusal> {
    match worker::read(text).map_err(|(_, refusal)| refusal)? {
        worker::Body::Hello(mut hello) => {
            let token = hello.token.take();
            Ok((hello, token))
        }
        worker::Body::Started(_)
        | worker::Body::Decline { .. }
        | worker::Body::Numbered { .. }
        | worker::Body::Got { .. }
        | worker::Body::Drain
        | worker::Body::Beat => Err(hello_first()),
    }
}

fn hello_first() -> Refusal {
    Refusal::new(Code::BadMessage, "expected `hello` as the first message", "say `hello` first")
}

/// A token in a query string is refused: it would end up in logs.
pub(crate) fn check_query(head: &Head<'_>) -> Result<(), Refusal> {
    let mut names = head.query.unwrap_or_default().split('&').filter_map(|pair| pair.split('=').next());
    if names.any(|name| matches!(name, "token" | "access_token" | "jwt")) {
        let message =
            "expected the token in a subprotocol, a header or `hello`; found it in the query string";
        let hint = "query strings end up in logs: send the subprotocol `jwt.<token>` or a header instead";
        return Err(Refusal::new(Code::BadMessage, message, hint));
    }
    Ok(())
}

pub(crate) fn bearer(authorization: &str) -> Result<Token, Refusal> {
    match authorization.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Token::new(token.trim())),
        Some(_) | None => Err(Refusal::new(
            Code::TokenMalformed,
            "expected `Authorization: Bearer <token>`",
            "send a bearer token",
        )),
    }
}

/// Until when a token is good.
fn expiry(claims: &Claims) -> WallMs {
    WallMs(claims.exp.saturating_mul(1000))
}

/// Whether a token has one of the scopes that are wanted.
fn check_scope(wanted: &[Scope], scopes: Scopes) -> Result<(), Refusal> {
    if wanted.iter().any(|scope| scopes.has(*scope)) {
        return Ok(());
    }
    let words: Vec<&str> = wanted.iter().map(|scope| scope.as_str()).collect();
    let message = format!("expected the scope `{}` in `scope`", words.join("` or `"));
    Err(Refusal::new(Code::TokenScope, message, "get a token for this"))
}

fn token_problem(problem: &TokenProblem) -> Refusal {
    match problem {
        TokenProblem::Malformed(what) => {
            Refusal::new(Code::TokenMalformed, format!("not a valid JWT: {what}"), "get a new token")
        }
        TokenProblem::Signature => Refusal::new(
            Code::TokenSignature,
            "expected a signature of a configured key; this token has none that holds",
            "check auth.keys and the token's `kid`",
        ),
        TokenProblem::Algorithm => Refusal::new(
            Code::TokenAlgorithm,
            "expected the algorithm that the key is for",
            "check the token's `alg` against auth.keys",
        ),
    }
}
