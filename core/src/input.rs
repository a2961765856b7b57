//! Everything that can happen to the core.

use crate::ids::{AppendId, ConnId, LoadId, RunId};
use crate::record::Found;
use core::net::IpAddr;

/// Why there is no backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoBackup<Text> {
    /// One of its name is there, and nothing is written over.
    There,
    /// It cannot be written: words with what to do.
    Failed(Text),
}

impl<Text: AsRef<str>> NoBackup<Text> {
    /// The same, to be looked at.
    pub fn as_str(&self) -> NoBackup<&str> {
        match self {
            Self::There => NoBackup::There,
            Self::Failed(why) => NoBackup::Failed(why.as_ref()),
        }
    }
}

/// One thing that happened outside. Handled whole, at once.
#[derive(Debug)]
pub enum Input<'a> {
    /// A socket was accepted; its head has not been read.
    Opened {
        /// The loop's name for it.
        conn: ConnId,
        /// Where it comes from.
        peer: IpAddr,
    },
    /// A whole HTTP head was read. Answered by `Upgrade` or `Respond`, perhaps after `Verify`.
    Request {
        /// On which connection.
        conn: ConnId,
        /// What it asks.
        head: Head<'a>,
    },
    /// The body of a request, whole. The answer to `Effect::Body`.
    Body {
        /// On which connection.
        conn: ConnId,
        /// The body.
        body: &'a [u8],
    },
    /// What came before the upgrade is not an HTTP head.
    BadHead {
        /// On which connection.
        conn: ConnId,
        /// What is wrong with it.
        problem: HeadProblem,
    },
    /// A WebSocket frame or message arrived.
    Message {
        /// On which connection.
        conn: ConnId,
        /// What.
        message: Message<'a>,
    },
    /// The answer to a `Verify`. The answers of one connection come in the order of its questions.
    Verified {
        /// For which connection.
        conn: ConnId,
        /// Claims of a token whose signature holds, or why it does not.
        outcome: Result<Claims, TokenProblem>,
    },
    /// So many payload bytes of a connection's `Send` effects, in whole messages, have left for the network.
    Flushed {
        /// On which connection.
        conn: ConnId,
        /// How many since the last such input.
        bytes: usize,
    },
    /// The peer is gone, or the close that the core asked for is done. The last input of a connection.
    Closed {
        /// Which.
        conn: ConnId,
    },
    /// All appends up to this one are on stable storage.
    Appended {
        /// The last of them.
        upto: AppendId,
    },
    /// The store is full: this append and all after it were not stored. The core gives them again, with the
    /// same ids, when it wants them tried again; the store takes nothing before that.
    AppendFailed {
        /// The first that failed.
        from: AppendId,
    },
    /// The answer to a `Load`.
    Loaded {
        /// To which.
        load: LoadId,
        /// What was found.
        found: Found,
    },
    /// The time of [`Core::deadline`](crate::Core::deadline) has come, or may have.
    Timer,
    /// The answer to a `Webhook`.
    Called {
        /// About which run.
        run: RunId,
        /// Whether it was taken (any 2xx).
        is_taken: bool,
    },
    /// The answer to a `Backup`.
    BackedUp {
        /// Its size in bytes, or why there is none.
        outcome: Result<u64, NoBackup<&'a str>>,
    },
    /// So many bytes of memory are in use. Told now and then, where the system tells it.
    Memory {
        /// How many.
        used: u64,
    },
    /// The daemon is to go down, and ends with [`Effect::Exit`](crate::effect::Effect::Exit). Said again:
    /// without waiting for runs.
    Drain,
}

/// What arrived on an upgraded connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A text message.
    Text(&'a str),
    /// A ping: a sign of life.
    Ping,
    /// A pong: an answer to a ping, or a sign of life.
    Pong,
    /// A binary message.
    Binary,
    /// A message longer than the connection takes. Nothing after it can be read.
    TooLarge,
    /// A text message that is not UTF-8. Nothing after it can be read.
    NotUtf8,
    /// A bad frame, an unmasked one …: a breach of RFC 6455. Nothing after it can be read.
    Breach(&'static str),
}

/// The head of an HTTP request, as far as anyone asks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Head<'a> {
    /// `GET`, …
    pub method: &'a str,
    /// The path, without the query.
    pub path: &'a str,
    /// The query, without the question mark.
    pub query: Option<&'a str>,
    /// The `Host` header.
    pub host: Option<&'a str>,
    /// The `Origin` header.
    pub origin: Option<&'a str>,
    /// The `Authorization` header.
    pub authorization: Option<&'a str>,
    /// The `Sec-WebSocket-Protocol` headers, joined by commas.
    pub protocols: Option<&'a str>,
    /// Whether this is a request to upgrade to a WebSocket as RFC 6455 §4.2.1 has it.
    pub upgrade: UpgradeRequest,
    /// Whether a body follows.
    pub body: BodyLength,
    /// The `Idempotency-Key` header.
    pub idempotency_key: Option<&'a str>,
    /// The `Last-Event-ID` header.
    pub last_event_id: Option<&'a str>,
    /// The `Forwarded` headers, joined by commas.
    pub forwarded: Option<&'a str>,
    /// The `X-Forwarded-For` headers, joined by commas.
    pub forwarded_for: Option<&'a str>,
}

/// What a head says of the body after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyLength {
    /// There is none.
    #[default]
    None,
    /// So many bytes.
    Bytes(u64),
    /// It has a `Transfer-Encoding`: nobody knows beforehand.
    Unknown,
}

/// Whether a head asks for a WebSocket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpgradeRequest {
    /// It does not.
    #[default]
    No,
    /// It does, rightly.
    Valid,
    /// It does, with a wrong version, key or method: what was expected.
    Invalid(&'static str),
}

/// Why a head cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadProblem {
    /// Not HTTP/1.1: what was expected.
    Malformed(&'static str),
    /// Longer than 16 KiB or 64 headers.
    TooLarge,
}

/// What a token says, once its signature holds. Judged by the core.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// Who.
    pub sub: alloc::string::String,
    /// Not valid at and after, in Unix seconds.
    pub exp: u64,
    /// Not valid before, in Unix seconds.
    pub nbf: Option<u64>,
    /// Made at, in Unix seconds.
    pub iat: Option<u64>,
    /// Made by.
    pub iss: Option<alloc::string::String>,
    /// Made for.
    pub aud: alloc::vec::Vec<alloc::string::String>,
    /// Space-separated scopes; `user` when absent.
    pub scope: Option<alloc::string::String>,
    /// The agents it is good for; all when absent.
    pub agents: Option<alloc::vec::Vec<alloc::string::String>>,
}

/// Why a token is not worth judging. Found by the shell, which has the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenProblem {
    /// Not a JWT, or a claim is missing or of the wrong type: which and what was expected.
    Malformed(alloc::string::String),
    /// Signed by no key that is known (or the `kid` names none).
    Signature,
    /// Signed with an algorithm that its key is not for.
    Algorithm,
}
