//! A user's client, blocking, for the commands: it keeps one stream coming, in order and without gaps,
//! through reconnects and restarts of the daemon.
//!
//! Its caller loops over [`Client::next`]. Calling it again says that what it returned last is processed:
//! only then is it acknowledged. What was seen is dropped, a gap makes it reconnect from its position, and
//! the close codes say whether it comes back (PROTOCOL §4, §5).

use crate::line::{Bell, Heard as Raw, Line, Lost};
use crate::place::Place;
use serde::Deserialize;
use serde_json::{Value, json};
use std::io;
use std::time::{Duration, Instant};

/// The first wait between two connections is at most this, and doubles …
const BACKOFF_MIN: Duration = Duration::from_millis(200);
/// … up to this, …
const BACKOFF_MAX: Duration = Duration::from_secs(15);
/// … or this, after a daemon that waited for acknowledgements in vain.
const OVERDUE_MAX: Duration = Duration::from_secs(60);
/// How often the first connection is tried.
const FIRST_TRIES: u32 = 5;
/// A connection that held for this long was a good one: the waits begin anew.
const HELD: Duration = Duration::from_secs(10);
/// At the latest after so many events an acknowledgement is sent.
const ACK_EVERY: u64 = 32;
/// How long a daemon may keep silent before its `welcome` says more.
const SILENCE: Duration = Duration::from_secs(25);

/// Where to, as whom, and from where.
pub struct Options {
    /// The daemon.
    pub place: Place,
    /// Asked before each connection, so that a new token is seen. Empty: none.
    pub token: Box<dyn Fn() -> String + Send>,
    /// The device's name; the daemon's choice when `None`.
    pub device: Option<String>,
    /// False: a viewer, which acknowledges nothing.
    pub ack: bool,
    /// `hello.from` of the first connection; later ones go on where it was.
    pub from: Value,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { place, device, ack, from, token: _ } = self;
        f.debug_struct("Options")
            .field("place", place)
            .field("device", device)
            .field("ack", ack)
            .field("from", from)
            .finish_non_exhaustive()
    }
}

/// What [`Client::next`] returns for.
#[derive(Debug)]
pub enum Heard {
    /// A connection begins.
    Welcome(Welcome),
    /// The next event of the stream.
    Event(Box<Event>),
    /// Anything else that the daemon says: notices, answers, errors.
    Told(Value),
    /// The connection is lost; it comes back by itself after `wait`.
    Lost {
        /// What happened.
        why: Lost,
        /// How long until the next try.
        wait: Duration,
    },
    /// Somebody rang [`Client::bell`].
    Rung,
    /// The deadline has passed.
    Late,
}

/// How a connection begins (PROTOCOL §3).
#[derive(Clone, Debug, Deserialize)]
pub struct Welcome {
    /// Whose stream it is.
    pub user: String,
    /// As whom one acknowledges; a viewer has none.
    pub device: Option<String>,
    /// The stream's incarnation.
    pub epoch: String,
    /// The newest event.
    pub head: u64,
    /// Where this connection begins.
    pub resume: Resume,
    /// How long silence is normal, in milliseconds.
    pub heartbeat_ms: u64,
    /// The user's runs that have not ended.
    #[serde(default)]
    pub runs: Vec<Value>,
}

/// Where a connection begins, and why there.
#[derive(Clone, Debug, Deserialize)]
pub struct Resume {
    /// `resumed`, `fresh` or `reset`.
    pub status: String,
    /// Of a reset: `epoch`, `trimmed` or `ahead`.
    pub reason: Option<String>,
    /// The position.
    pub from: u64,
}

/// One event (PROTOCOL §4).
#[derive(Clone, Debug, Deserialize)]
pub struct Event {
    /// Its place in the stream.
    pub seq: u64,
    /// Of a joined event: the position before its first.
    pub prev: Option<u64>,
    /// Unix time in milliseconds.
    #[serde(default)]
    pub ts: u64,
    /// The conversation.
    #[serde(default)]
    pub thread: String,
    /// The run.
    #[serde(default)]
    pub run: String,
    /// The attempt; 0 before the first.
    #[serde(default)]
    pub attempt: u64,
    /// Which event it is.
    pub event: String,
    /// Its content.
    #[serde(default)]
    pub data: Value,
    /// The message as it came.
    #[serde(skip)]
    pub text: String,
}

/// Why a client comes to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Over {
    /// The daemon does not want this client as it is.
    #[error("refused: {code}: {message}")]
    Refused {
        /// The code of PROTOCOL §5, or the close code.
        code: String,
        /// What the daemon says.
        message: String,
    },
    /// The first connection came not about.
    #[error("{0}")]
    Unreachable(Lost),
    /// A newer connection of the same device took its place.
    #[error("another connection of this device has taken over")]
    Replaced,
}

/// The client.
#[derive(Debug)]
pub struct Client {
    line: Line,
    options: Options,
    token: String,
    /// Who calls, and how often: a call that was given up takes no later one's place.
    by: String,
    calls: u64,
    position: Option<(String, u64)>,
    acked: u64,
    /// Set by `welcome`: when this connection began, and how long its silence is normal.
    welcomed: Option<(Instant, Duration)>,
    ever_welcomed: bool,
    tries: u32,
    retry_at: Option<Instant>,
    /// A loss that [`Client::send`] came upon.
    lost: Option<Lost>,
    /// What the daemon announced for after a drain.
    drain: Option<Duration>,
    /// The last error, which says more than the close code after it.
    refusal: Option<(String, String)>,
}

impl Client {
    /// A client that is not connected yet.
    ///
    /// # Errors
    /// When the system grants no poll.
    pub fn new(options: Options) -> io::Result<Self> {
        Ok(Self {
            line: Line::new()?,
            options,
            token: String::new(),
            by: format!("{:016x}", rand::random::<u64>()),
            calls: 0,
            position: None,
            acked: 0,
            welcomed: None,
            ever_welcomed: false,
            tries: 0,
            retry_at: None,
            lost: None,
            drain: None,
            refusal: None,
        })
    }

    /// Rung from another thread, it makes [`Client::next`] return [`Heard::Rung`].
    pub fn bell(&self) -> Bell {
        self.line.bell()
    }

    /// The seq up to which events were returned.
    pub fn position(&self) -> Option<u64> {
        self.position.as_ref().map(|(_, seq)| *seq)
    }

    /// Sends a request. False when there is no connection with a `welcome`: then it is to be sent after the
    /// next.
    pub fn send(&mut self, message: &Value) -> bool {
        self.welcomed.is_some() && self.try_send(message.to_string())
    }

    fn try_send(&mut self, text: String) -> bool {
        match self.line.send(text) {
            Ok(()) => true,
            Err(lost) => {
                self.lost.get_or_insert(lost);
                false
            }
        }
    }

    /// Begins anew elsewhere: the next connection, made at once, starts at `from`.
    pub fn restart(&mut self, from: Value) {
        self.line.hang_up();
        self.options.from = from;
        (self.position, self.welcomed, self.retry_at) = (None, None, None);
    }

    /// Goes on as a viewer, from where it is: for a client whose device another has taken over.
    pub fn watch_only(&mut self) {
        self.line.hang_up();
        (self.options.device, self.options.ack) = (None, false);
        (self.welcomed, self.retry_at) = (None, None);
    }

    /// Says goodbye: acknowledges what was returned, and closes.
    pub fn close(mut self) {
        self.acknowledge();
        self.line.hang_up();
    }

    /// Waits for what comes next, at most until the deadline; connects and reconnects on the way.
    ///
    /// # Errors
    /// [`Over`], when it is of no use to go on.
    pub fn next(&mut self, until: Option<Instant>) -> Result<Heard, Over> {
        loop {
            let step = match self.lost.take() {
                Some(lost) => Err(lost),
                None if self.line.is_open() => self.listen(until),
                None => self.come_back(until),
            };
            match step {
                Ok(Some(heard)) => return Ok(heard),
                Ok(None) => {}
                Err(why) => {
                    let wait = self.judge(&why)?;
                    self.retry_at = Some(Instant::now() + wait);
                    return Ok(Heard::Lost { why, wait });
                }
            }
        }
    }

    /// Waits until it is time, then connects and says `hello`.
    fn come_back(&mut self, until: Option<Instant>) -> Result<Option<Heard>, Lost> {
        let now = Instant::now();
        if let Some(retry_at) = self.retry_at.filter(|at| *at > now) {
            let first = until.map_or(retry_at, |until| until.min(retry_at));
            return Ok(match self.line.next(Some(first))? {
                Raw::Rung => Some(Heard::Rung),
                Raw::Late if until.is_some_and(|until| until <= Instant::now()) => Some(Heard::Late),
                Raw::Late | Raw::Text(_) | Raw::Alive => None,
            });
        }
        self.welcomed = None;
        self.token = (self.options.token)();
        self.line.open(&self.options.place, "/ws", &self.token)?;
        let from = match &self.position {
            Some((epoch, seq)) => json!({ "epoch": epoch, "seq": seq }),
            None => self.options.from.clone(),
        };
        self.calls += 1;
        let call = json!({ "by": self.by, "n": self.calls });
        let mut hello = json!({ "type": "hello", "from": from, "ack": self.options.ack, "call": call });
        if let Some(device) = &self.options.device {
            hello["device"] = json!(device);
        }
        self.line.send(hello.to_string())?;
        Ok(None)
    }

    fn listen(&mut self, until: Option<Instant>) -> Result<Option<Heard>, Lost> {
        if self.position.as_ref().is_some_and(|(_, seq)| *seq >= self.acked + ACK_EVERY) {
            self.acknowledge();
        }
        let raw = match self.line.take()? {
            Some(raw) => raw,
            None => {
                self.acknowledge();
                let silent_at = self.line.heard_at() + self.silence();
                self.line.next(Some(until.map_or(silent_at, |until| until.min(silent_at))))?
            }
        };
        match raw {
            Raw::Text(text) => self.hear(text),
            Raw::Alive => Ok(None),
            Raw::Rung => Ok(Some(Heard::Rung)),
            Raw::Late if self.line.heard_at().elapsed() >= self.silence() => {
                self.line.hang_up();
                Err(Lost::Broken(format!("nothing heard for {} ms", self.silence().as_millis())))
            }
            Raw::Late => Ok(until.is_some_and(|until| until <= Instant::now()).then_some(Heard::Late)),
        }
    }

    fn silence(&self) -> Duration {
        self.welcomed.map_or(SILENCE, |(_, silence)| silence)
    }

    /// Says that everything that was returned is processed.
    fn acknowledge(&mut self) {
        let Some(seq) = self.position() else { return };
        if self.options.ack && self.welcomed.is_some() && seq > self.acked {
            self.acked = seq;
            self.try_send(json!({ "type": "ack", "seq": seq }).to_string());
        }
    }

    fn hear(&mut self, text: String) -> Result<Option<Heard>, Lost> {
        let unreadable = |error: serde_json::Error| Lost::Broken(format!("cannot read the daemon: {error}"));
        let message: Value = serde_json::from_str(&text).map_err(unreadable)?;
        match message["type"].as_str().unwrap_or_default() {
            "welcome" => {
                let welcome = Welcome::deserialize(&message).map_err(unreadable)?;
                let silence = Duration::from_millis(welcome.heartbeat_ms.saturating_mul(5) / 2);
                self.welcomed = Some((Instant::now(), silence.max(Duration::from_millis(1))));
                self.ever_welcomed = true;
                (self.refusal, self.drain) = (None, None);
                self.position = Some((welcome.epoch.clone(), welcome.resume.from));
                self.acked = welcome.resume.from;
                Ok(Some(Heard::Welcome(welcome)))
            }
            "event" if message.get("topic").is_none() => {
                let mut event = Event::deserialize(message).map_err(unreadable)?;
                event.text = text;
                self.take_event(event)
            }
            "heartbeat" => match (message["at"].as_u64(), self.position()) {
                (Some(at), Some(position)) if at > position => Err(self.gap(at)),
                (_, _) => Ok(None),
            },
            "notice" if message["notice"] == "drain" => {
                self.drain = message["reconnect_ms"].as_u64().map(Duration::from_millis);
                Ok(Some(Heard::Told(message)))
            }
            "error" => {
                let text = |field: &str| message[field].as_str().unwrap_or_default().to_owned();
                // One that answers a request says nothing about the connection.
                if message["id"].is_null() {
                    self.refusal = Some((text("code"), text("message")));
                }
                Ok(Some(Heard::Told(message)))
            }
            _ => Ok(Some(Heard::Told(message))),
        }
    }

    /// Takes an event that continues the position, drops what was seen, and refuses what leaves something
    /// out.
    fn take_event(&mut self, event: Event) -> Result<Option<Heard>, Lost> {
        let Some((_, position)) = self.position.as_mut() else {
            self.line.hang_up();
            return Err(Lost::Broken("an event before `welcome`".into()));
        };
        if event.seq <= *position {
            // It comes again because its acknowledgement did not arrive: say it again.
            self.acked = 0;
            return Ok(None);
        }
        if event.prev.unwrap_or(event.seq - 1) != *position {
            return Err(self.gap(event.seq));
        }
        *position = event.seq;
        Ok(Some(Heard::Event(Box::new(event))))
    }

    fn gap(&mut self, seq: u64) -> Lost {
        let position = self.position().unwrap_or(0);
        self.line.hang_up();
        Lost::Broken(format!("a gap: {seq} does not continue {position}"))
    }

    /// How long to wait after a loss, or why not to come back.
    fn judge(&mut self, why: &Lost) -> Result<Duration, Over> {
        let held = self.welcomed.take().is_some_and(|(since, _)| since.elapsed() >= HELD);
        self.line.hang_up();
        self.tries = if held { 1 } else { self.tries + 1 };
        let refused = || {
            // An error that came just before says more than the close code.
            let told = self.refusal.clone().filter(|_| matches!(why, Lost::Closed { .. }));
            let (code, message) = told.unwrap_or_else(|| match why {
                Lost::Refused { code, message, .. } if !code.is_empty() => (code.clone(), message.clone()),
                Lost::Refused { status, .. } => (format!("http_{status}"), why.to_string()),
                Lost::Closed { code, reason } => (format!("close_{code}"), reason.clone()),
                Lost::Unreachable { .. }
                | Lost::BadUrl { .. }
                | Lost::NoTrust(_)
                | Lost::Untrusted { .. }
                | Lost::Broken(_) => ("lost".into(), why.to_string()),
            });
            Over::Refused { code, message }
        };
        let wait = match why {
            Lost::BadUrl { .. } => return Err(Over::Unreachable(why.clone())),
            // Once it was trusted: what is wrong now may be mended as certificates are renewed.
            Lost::NoTrust(_) | Lost::Untrusted { .. } if !self.ever_welcomed => {
                return Err(Over::Unreachable(why.clone()));
            }
            Lost::Closed { code: 4510, .. } => return Err(Over::Replaced),
            Lost::Closed { code: 4506, .. } if (self.options.token)() != self.token => {
                self.backoff(BACKOFF_MAX)
            }
            Lost::Closed { code: 4500..=4599, .. } => return Err(refused()),
            Lost::Closed { code: 4400, .. } => self
                .drain
                .take()
                .unwrap_or_else(|| Duration::from_secs(1) + Duration::from_secs(4).mul_f64(rand::random())),
            Lost::Closed { code: 4403, .. } => self.backoff(OVERDUE_MAX),
            Lost::Refused { status: 429 | 500..=599, retry_ms, .. } => {
                Duration::from_millis(retry_ms.unwrap_or(0)).min(OVERDUE_MAX) + self.backoff(BACKOFF_MAX)
            }
            Lost::Refused { .. } => return Err(refused()),
            Lost::Closed { .. }
            | Lost::Unreachable { .. }
            | Lost::NoTrust(_)
            | Lost::Untrusted { .. }
            | Lost::Broken(_) => self.backoff(BACKOFF_MAX),
        };
        if !self.ever_welcomed && self.tries >= FIRST_TRIES {
            return Err(Over::Unreachable(why.clone()));
        }
        Ok(wait)
    }

    /// Full jitter: anything from nothing to a bound, which doubles with each try.
    fn backoff(&self, max: Duration) -> Duration {
        let bound = BACKOFF_MIN.saturating_mul(1 << self.tries.saturating_sub(1).min(16)).min(max);
        bound.mul_f64(rand::random())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::{Peer, Server};
    use std::thread;

    fn client(server: &Server, ack: bool) -> Client {
        let (url, token) = (server.url(), Box::new(|| "secret".to_owned()));
        let device = ack.then(|| "laptop".to_owned());
        Client::new(Options { place: url.into(), token, device, ack, from: json!("head") }).unwrap()
    }

    fn welcome(from: u64) -> Value {
        json!({"type": "welcome", "user": "alice", "device": "laptop", "epoch": "e-1", "floor": 1,
            "head": from, "resume": {"status": "resumed", "from": from}, "heartbeat_ms": 60_000, "topics": [],
            "runs": [], "limits": {}})
    }

    fn event(seq: u64) -> Value {
        json!({"type": "event", "seq": seq, "ts": 1, "thread": "t", "run": "r", "attempt": 1,
            "event": "agent_output", "data": {"delta": seq.to_string()}})
    }

    /// The seqs of the next events, over losses and welcomes.
    fn seqs(client: &mut Client, count: usize) -> Vec<u64> {
        let mut seqs = Vec::new();
        while seqs.len() < count {
            if let Heard::Event(event) = client.next(None).unwrap() {
                seqs.push(event.seq);
            }
        }
        seqs
    }

    /// Takes the next connection to where its events begin.
    fn begin(server: &Server, from: u64) -> (Peer, Value) {
        let mut peer = server.accept();
        let hello = peer.hear();
        peer.say(&welcome(from));
        (peer, hello)
    }

    /// What is said of itself beside the call.
    fn without_call(mut hello: Value) -> Value {
        hello.as_object_mut().unwrap().remove("call").unwrap();
        hello
    }

    fn over(script: impl FnOnce(&Server) + Send + 'static) -> Over {
        let server = Server::new();
        let mut client = client(&server, true);
        let daemon = thread::spawn(move || script(&server));
        let over = loop {
            if let Err(over) = client.next(None) {
                break over;
            }
        };
        daemon.join().unwrap();
        over
    }

    #[test]
    fn it_says_hello_and_acknowledges_what_was_processed() {
        let server = Server::new();
        let mut client = client(&server, true);
        let daemon = thread::spawn(move || {
            let (mut peer, hello) = begin(&server, 5);
            assert_eq!((peer.path.as_str(), peer.authorization.as_deref()), ("/ws", Some("Bearer secret")));
            let named = json!({"type": "hello", "device": "laptop", "from": "head", "ack": true});
            assert_eq!(without_call(hello), named);
            peer.say(&event(6));
            assert_eq!(peer.hear(), json!({"type": "processed", "seq": 6}), "before the acknowledgement");
            assert_eq!(peer.hear(), json!({"type": "ack", "seq": 6}));
            peer.say(&event(7));
            assert_eq!(peer.hear(), json!({"type": "ack", "seq": 7}));
            assert_eq!(peer.closed(), Some(1000));
        });
        assert_eq!(seqs(&mut client, 1), [6]);
        assert!(client.send(&json!({"type": "processed", "seq": 6})));
        assert_eq!(seqs(&mut client, 1), [7]);
        client.close();
        daemon.join().unwrap();
    }

    #[test]
    fn what_was_seen_is_dropped_and_acknowledged_again() {
        let server = Server::new();
        let mut client = client(&server, true);
        let daemon = thread::spawn(move || {
            let (mut peer, _) = begin(&server, 0);
            peer.say(&event(1));
            assert_eq!(peer.hear()["seq"], 1);
            let mut again = event(1);
            again["redelivery"] = json!(1);
            peer.say(&again);
            assert_eq!(peer.hear(), json!({"type": "ack", "seq": 1}));
            peer.say(&event(2));
            let mut joined = event(5);
            (joined["prev"], joined["joined"]) = (json!(2), json!(3));
            peer.say(&joined);
            peer.say(&event(6));
            peer.closed();
        });
        assert_eq!(seqs(&mut client, 4), [1, 2, 5, 6]);
        client.close();
        daemon.join().unwrap();
    }

    #[test]
    fn a_gap_makes_it_reconnect_from_its_position() {
        let server = Server::new();
        let mut client = client(&server, false);
        let daemon = thread::spawn(move || {
            let (mut peer, hello) = begin(&server, 0);
            assert_eq!(without_call(hello), json!({"type": "hello", "from": "head", "ack": false}));
            peer.say(&event(1));
            peer.say(&event(3));
            assert_eq!(peer.closed(), Some(1000), "and a viewer acknowledges nothing");
            let (mut peer, hello) = begin(&server, 1);
            assert_eq!(hello["from"], json!({"epoch": "e-1", "seq": 1}));
            peer.say(&event(2));
            peer.say(&json!({"type": "heartbeat", "ts": 1, "head": 3, "at": 3}));
            peer.closed();
            let (mut peer, hello) = begin(&server, 2);
            assert_eq!(hello["from"], json!({"epoch": "e-1", "seq": 2}));
            peer.say(&event(3));
            peer.closed();
        });
        assert_eq!(seqs(&mut client, 3), [1, 2, 3]);
        client.close();
        daemon.join().unwrap();
    }

    #[test]
    fn a_lost_connection_comes_back_and_a_reset_is_followed() {
        let server = Server::new();
        let mut client = client(&server, true);
        let daemon = thread::spawn(move || {
            let (mut peer, _) = begin(&server, 0);
            peer.say(&event(1));
            peer.hear();
            drop(peer);
            server.refuse("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
            let mut peer = server.accept();
            assert_eq!(peer.hear()["from"], json!({"epoch": "e-1", "seq": 1}));
            let mut reset = welcome(40);
            (reset["epoch"], reset["resume"]["status"]) = (json!("e-2"), json!("reset"));
            peer.say(&reset);
            peer.say(&event(41));
            peer.hear();
            peer.close(4402);
            let (mut peer, hello) = begin(&server, 41);
            assert_eq!(hello["from"], json!({"epoch": "e-2", "seq": 41}));
            peer.say(&event(42));
            peer.closed();
        });
        assert_eq!(seqs(&mut client, 3), [1, 41, 42]);
        client.close();
        daemon.join().unwrap();
    }

    #[test]
    fn it_does_not_come_back_where_it_is_not_wanted() {
        let body = r#"{"code":"token_expired","message":"expired 5 s ago"}"#;
        let answer = format!("HTTP/1.1 401 Unauthorized\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let expired = Over::Refused { code: "token_expired".into(), message: "expired 5 s ago".into() };
        assert_eq!(over(move |server| server.refuse(&answer)), expired);
        let closed = over(|server| {
            let mut peer = server.accept();
            peer.hear();
            peer.say(&json!({"type": "error", "code": "token_expired", "message": "expired 5 s ago"}));
            peer.close(4501);
            peer.closed();
        });
        assert_eq!(closed, expired);
        let replaced = over(|server| {
            let (mut peer, _) = begin(server, 0);
            peer.close(4510);
            peer.closed();
        });
        assert_eq!(replaced, Over::Replaced);
    }

    #[test]
    fn an_earlier_refusal_is_not_why_it_was_closed() {
        let closed = over(|server| {
            let (mut peer, _) = begin(server, 0);
            peer.say(&json!({"type": "error", "of": "cancel", "id": "cancel", "code": "run_not_found",
                "message": "no such run"}));
            peer.close(4507);
            peer.closed();
        });
        assert!(matches!(&closed, Over::Refused { code, .. } if code == "close_4507"), "{closed}");
    }

    #[test]
    fn the_longest_event_that_a_daemon_may_send_is_taken() {
        let server = Server::new();
        let mut client = client(&server, true);
        let daemon = thread::spawn(move || {
            let (mut peer, _) = begin(&server, 0);
            let mut long = event(1);
            long["data"] = json!({ "delta": "x".repeat(16 << 20) });
            peer.say(&long);
            peer.close(4507);
            peer.closed();
        });
        assert!(matches!(client.next(None), Ok(Heard::Welcome(_))));
        let heard = client.next(None);
        assert!(matches!(heard, Ok(Heard::Event(_))));
        client.close();
        daemon.join().unwrap();
    }

    #[test]
    fn connections_are_counted_so_that_one_that_was_given_up_takes_no_later_ones_place() {
        let server = Server::new();
        let mut client = client(&server, true);
        let daemon = thread::spawn(move || {
            let (mut peer, first) = begin(&server, 0);
            peer.close(4401);
            let (mut peer, second) = begin(&server, 0);
            peer.say(&event(1));
            peer.closed();
            assert!(first["call"]["by"].as_str().is_some_and(|by| (1..=64).contains(&by.len())), "{first}");
            assert_eq!(first["call"]["by"], second["call"]["by"]);
            assert_eq!((&first["call"]["n"], &second["call"]["n"]), (&json!(1), &json!(2)));
        });
        assert_eq!(seqs(&mut client, 1), [1]);
        client.close();
        daemon.join().unwrap();
    }

    #[test]
    fn an_address_where_nobody_listens_is_given_up() {
        let server = Server::new();
        let mut client = client(&server, true);
        drop(server);
        let losses = std::iter::from_fn(|| Some(client.next(None))).take_while(Result::is_ok).count();
        assert_eq!(losses as u32, FIRST_TRIES - 1);
    }

    #[test]
    fn a_deadline_and_the_bell_are_heard_without_a_connection() {
        let server = Server::new();
        let mut client = client(&server, true);
        drop(server);
        assert!(matches!(client.next(None), Ok(Heard::Lost { .. })));
        client.retry_at = Some(Instant::now() + Duration::from_secs(3_600));
        assert!(matches!(client.next(Some(Instant::now())), Ok(Heard::Late)));
        client.bell().ring();
        assert!(matches!(client.next(None), Ok(Heard::Rung)));
    }
}
