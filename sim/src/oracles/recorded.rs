//! O20, for DESIGN §1.1 "The same inputs give the same bytes out": the inputs of one process of the daemon,
//! written down and given to a fresh core, have the same effects, byte for byte. All other promises lean on
//! it: a bug that is found once is found again.

use runcast_core::Core;
use runcast_core::config::Config;
use runcast_core::effect::Effect;
use runcast_core::ids::{AppendId, ConnId, LoadId, RunId};
use runcast_core::input::{
    BodyLength, Claims, Head, HeadProblem, Input, Message, NoBackup, TokenProblem, UpgradeRequest,
};
use runcast_core::planted::Planted;
use runcast_core::record::{Found, Image};
use runcast_core::time::Now;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hasher};
use std::net::IpAddr;

/// What a core is opened on.
#[derive(Clone, Debug)]
pub struct Start {
    /// The daemon's.
    pub config: Config,
    /// All its randomness.
    pub seed: [u8; 32],
    /// What the store knows.
    pub image: Image,
    /// When.
    pub now: Now,
    /// The bug in it, if any.
    pub planted: Planted,
}

impl Start {
    fn open(&self, out: &mut Vec<Effect>) -> Core {
        let Self { config, seed, image, now, planted } = self.clone();
        Core::open_planted(config, seed, image, now, planted, out)
    }
}

/// One process of the daemon, from its start.
#[derive(Debug)]
pub struct Recording {
    start: Start,
    opening: u64,
    inputs: Vec<(Now, Recorded)>,
    /// The digest of each input's effects.
    effects: Vec<u64>,
}

/// An input that owns what it says.
#[derive(Debug)]
enum Recorded {
    Opened(ConnId, IpAddr),
    Request(ConnId, Box<RecordedHead>),
    Body(ConnId, Box<[u8]>),
    BadHead(ConnId, HeadProblem),
    Text(ConnId, Box<str>),
    Breach(ConnId, &'static str),
    Ping(ConnId),
    Pong(ConnId),
    Binary(ConnId),
    TooLarge(ConnId),
    NotUtf8(ConnId),
    Verified(ConnId, Box<Result<Claims, TokenProblem>>),
    Flushed(ConnId, usize),
    Closed(ConnId),
    Appended(AppendId),
    AppendFailed(AppendId),
    Loaded(LoadId, Found),
    Timer,
    Called(RunId, bool),
    BackedUp(Result<u64, NoBackup<Box<str>>>),
    Memory(u64),
    Drain,
}

#[derive(Debug)]
struct RecordedHead {
    method: String,
    path: String,
    fields: [Option<String>; 9],
    upgrade: UpgradeRequest,
    body: BodyLength,
}

impl Recording {
    /// Of a process that opens its core now; `opening` are the effects of that.
    pub fn new(start: Start, opening: &[Effect]) -> Self {
        Self { start, opening: digest(opening), inputs: Vec::new(), effects: Vec::new() }
    }

    /// An input is handled.
    pub fn input(&mut self, now: Now, input: &Input<'_>) {
        self.inputs.push((now, Recorded::of(input)));
    }

    /// These are its effects.
    pub fn effects(&mut self, effects: &[Effect]) {
        self.effects.push(digest(effects));
    }

    /// Gives all inputs to a fresh core.
    ///
    /// # Errors
    /// The first that has other effects there.
    pub fn replay(&self) -> Result<(), String> {
        let mut out = Vec::new();
        let mut core = self.start.open(&mut out);
        if digest(&out) != self.opening {
            return Err("a core opened again on the same image begins otherwise".to_owned());
        }
        for (number, ((now, input), effects)) in self.inputs.iter().zip(&self.effects).enumerate() {
            out.clear();
            core.handle(*now, input.input(), &mut out);
            if digest(&out) != *effects {
                return Err(format!("input {number}, {input:?}, has other effects in a fresh core: {out:?}"));
            }
        }
        Ok(())
    }
}

/// A number for effects. Their printed form is all of them, but for tokens, which say nothing new.
fn digest(effects: &[Effect]) -> u64 {
    struct Digest(DefaultHasher);
    impl std::fmt::Write for Digest {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            self.0.write(text.as_bytes());
            Ok(())
        }
    }
    let mut digest = Digest(DefaultHasher::new());
    for effect in effects {
        if let Effect::Send { conn, text } = effect {
            // By far the most: their bytes as they are.
            digest.0.write_u64(conn.0);
            digest.0.write(text);
        } else {
            write!(digest, "{effect:?}").expect("a digest takes everything");
        }
    }
    digest.0.finish()
}

impl Recorded {
    fn of(input: &Input<'_>) -> Self {
        match input {
            Input::Opened { conn, peer } => Self::Opened(*conn, *peer),
            Input::Request { conn, head } => Self::Request(*conn, Box::new(RecordedHead::of(head))),
            Input::Body { conn, body } => Self::Body(*conn, (*body).into()),
            Input::BadHead { conn, problem } => Self::BadHead(*conn, *problem),
            Input::Message { conn, message } => match message {
                Message::Text(text) => Self::Text(*conn, (*text).into()),
                Message::Breach(why) => Self::Breach(*conn, why),
                Message::Ping => Self::Ping(*conn),
                Message::Pong => Self::Pong(*conn),
                Message::Binary => Self::Binary(*conn),
                Message::TooLarge => Self::TooLarge(*conn),
                Message::NotUtf8 => Self::NotUtf8(*conn),
            },
            Input::Verified { conn, outcome } => Self::Verified(*conn, Box::new(outcome.clone())),
            Input::Flushed { conn, bytes } => Self::Flushed(*conn, *bytes),
            Input::Closed { conn } => Self::Closed(*conn),
            Input::Appended { upto } => Self::Appended(*upto),
            Input::AppendFailed { from } => Self::AppendFailed(*from),
            Input::Loaded { load, found } => Self::Loaded(*load, found.clone()),
            Input::Timer => Self::Timer,
            Input::Called { run, is_taken } => Self::Called(run.clone(), *is_taken),
            Input::BackedUp { outcome } => {
                let failed = |why: &NoBackup<&str>| match why {
                    NoBackup::There => NoBackup::There,
                    NoBackup::Failed(why) => NoBackup::Failed(Box::from(*why)),
                };
                Self::BackedUp(outcome.as_ref().map(|bytes| *bytes).map_err(failed))
            }
            Input::Memory { used } => Self::Memory(*used),
            Input::Drain => Self::Drain,
        }
    }

    fn input(&self) -> Input<'_> {
        let message = |conn: &ConnId, message| Input::Message { conn: *conn, message };
        match self {
            Self::Opened(conn, peer) => Input::Opened { conn: *conn, peer: *peer },
            Self::Request(conn, head) => Input::Request { conn: *conn, head: head.head() },
            Self::Body(conn, body) => Input::Body { conn: *conn, body },
            Self::BadHead(conn, problem) => Input::BadHead { conn: *conn, problem: *problem },
            Self::Text(conn, text) => message(conn, Message::Text(text)),
            Self::Breach(conn, why) => message(conn, Message::Breach(why)),
            Self::Ping(conn) => message(conn, Message::Ping),
            Self::Pong(conn) => message(conn, Message::Pong),
            Self::Binary(conn) => message(conn, Message::Binary),
            Self::TooLarge(conn) => message(conn, Message::TooLarge),
            Self::NotUtf8(conn) => message(conn, Message::NotUtf8),
            Self::Verified(conn, outcome) => Input::Verified { conn: *conn, outcome: (**outcome).clone() },
            Self::Flushed(conn, bytes) => Input::Flushed { conn: *conn, bytes: *bytes },
            Self::Closed(conn) => Input::Closed { conn: *conn },
            Self::Appended(upto) => Input::Appended { upto: *upto },
            Self::AppendFailed(from) => Input::AppendFailed { from: *from },
            Self::Loaded(load, found) => Input::Loaded { load: *load, found: found.clone() },
            Self::Timer => Input::Timer,
            Self::BackedUp(outcome) => {
                Input::BackedUp { outcome: outcome.as_ref().map(|bytes| *bytes).map_err(NoBackup::as_str) }
            }
            Self::Called(run, is_taken) => Input::Called { run: run.clone(), is_taken: *is_taken },
            Self::Memory(used) => Input::Memory { used: *used },
            Self::Drain => Input::Drain,
        }
    }
}

impl RecordedHead {
    fn of(head: &Head<'_>) -> Self {
        let fields = [
            head.query,
            head.host,
            head.origin,
            head.authorization,
            head.protocols,
            head.idempotency_key,
            head.last_event_id,
            head.forwarded,
            head.forwarded_for,
        ];
        Self {
            method: head.method.to_owned(),
            path: head.path.to_owned(),
            fields: fields.map(|field| field.map(str::to_owned)),
            upgrade: head.upgrade,
            body: head.body,
        }
    }

    fn head(&self) -> Head<'_> {
        let fields = self.fields.each_ref().map(Option::as_deref);
        let [
            query,
            host,
            origin,
            authorization,
            protocols,
            idempotency_key,
            last_event_id,
            forwarded,
            forwarded_for,
        ] = fields;
        Head {
            method: &self.method,
            path: &self.path,
            query,
            host,
            origin,
            authorization,
            protocols,
            upgrade: self.upgrade,
            body: self.body,
            idempotency_key,
            last_event_id,
            forwarded,
            forwarded_for,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded() -> Recording {
        let (config, now, planted) = (Config::default(), Now::default(), Planted::default());
        let start = Start { config, seed: [7; 32], image: Image::default(), now, planted };
        let mut out = Vec::new();
        let mut core = start.open(&mut out);
        let mut recording = Recording::new(start, &out);
        let (conn, peer) = (ConnId(1), [10, 0, 0, 1].into());
        let head = Head { method: "GET", path: "/livez", ..Head::default() };
        for input in [Input::Opened { conn, peer }, Input::Request { conn, head }] {
            out.clear();
            recording.input(now, &input);
            core.handle(now, input, &mut out);
            recording.effects(&out);
        }
        recording
    }

    #[test]
    fn a_recording_has_the_same_effects_and_a_changed_one_has_not() {
        assert_eq!(recorded().replay(), Ok(()));
        let mut changed = recorded();
        changed.inputs.remove(0);
        changed.effects.remove(0);
        assert!(changed.replay().is_err());
    }
}
