//! Everything the core can ask of the outside. Run in the order emitted.

use crate::ids::{AppendId, BackupName, ConnId, LoadId, RunId, User};
use crate::note::Note;
use crate::record::{Query, Record};
use crate::wire::error::{CloseCode, Code};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;
use core::net::IpAddr;

/// The caller's buffer. The core only pushes to it.
pub type Effects = Vec<Effect>;

/// One thing to do.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Answer the head with 101 and select `runcast.v1`.
    Upgrade {
        /// On which connection.
        conn: ConnId,
        /// The longest message to take, in bytes. A longer one is `Message::TooLarge`.
        message_bytes: usize,
    },
    /// Take longer messages from here on: it is known now whose WebSocket it is.
    Allow {
        /// On which connection.
        conn: ConnId,
        /// The longest message to take, in bytes.
        message_bytes: usize,
    },
    /// Let a page of this origin read the answer to the request (Fetch Standard, CORS): before the answer.
    Share {
        /// On which connection.
        conn: ConnId,
        /// As the request's head has it.
        origin: Box<str>,
    },
    /// Answer the head and close the connection when the answer is out.
    Respond {
        /// On which connection.
        conn: ConnId,
        /// The answer.
        response: Response,
    },
    /// Read the body of the request, so many bytes; answered by `Body`. Only after a `Request` whose head
    /// told that length.
    Body {
        /// On which connection.
        conn: ConnId,
        /// Its length.
        length: usize,
    },
    /// Answer the head with 200 and `text/event-stream`. What is sent from then on is the stream's own bytes.
    Stream {
        /// On which connection.
        conn: ConnId,
    },
    /// Send a text message.
    Send {
        /// On which connection.
        conn: ConnId,
        /// The message; UTF-8.
        text: Bytes,
    },
    /// Send a WebSocket ping. Not counted in `Flushed`.
    Ping {
        /// On which connection.
        conn: ConnId,
    },
    /// Send a close frame after all that was sent before, and close. `Closed` comes when it is done or
    /// hopeless.
    Close {
        /// Which connection.
        conn: ConnId,
        /// The code.
        code: CloseCode,
        /// In words, at most 123 bytes.
        reason: String,
    },
    /// Read this connection, or let its bytes wait in the network.
    Read {
        /// Which connection.
        conn: ConnId,
        /// Whether to read it. Connections begin with `true`.
        on: bool,
    },
    /// Look at a token's signature; answered by `Verified`.
    Verify {
        /// For which connection.
        conn: ConnId,
        /// The token.
        token: Token,
    },
    /// Make these records durable; answered by `Appended` or `AppendFailed`.
    Append {
        /// Rises by one, or begins again at the one that failed.
        id: AppendId,
        /// In order.
        records: Arc<[Record]>,
    },
    /// Read from the store; answered by `Loaded`.
    Load {
        /// Which question.
        load: LoadId,
        /// The question.
        query: Query,
    },
    /// Call the webhook: nobody has got the end of this run. Answered by `Called`.
    Webhook {
        /// Which run: one call about it at a time.
        run: RunId,
        /// The body, JSON.
        body: String,
    },
    /// Write what is stored at this moment to a file of this name, beside the store. Answered by `BackedUp`;
    /// one at a time.
    Backup {
        /// A name like an id: it is no path.
        name: BackupName,
    },
    /// This happened: for the log alone.
    Note(Note),
    /// Write this into the audit trail.
    Audit(Audit),
    /// The process may exit: everything is durable, and whoever was there has been closed or has not taken
    /// it in time. The answer to `Drain`.
    Exit,
}

/// A line of the audit trail: who was refused for want of a right, or what an operator does, or a publisher
/// for another user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// On which connection.
    pub conn: ConnId,
    /// From where.
    pub peer: IpAddr,
    /// Who, as far as a good token says.
    pub by: Option<User>,
    /// What: the kind of request, or of message. Empty where that was not read.
    pub action: String,
    /// What of: the user, run, topic or backup that is named. Never what may be a token.
    pub about: Option<String>,
    /// Why it is refused, if it is.
    pub refused: Option<Code>,
}

/// The answer to an HTTP request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The body.
    pub content: Content,
    /// `Retry-After`, in seconds.
    pub retry_after_secs: Option<u64>,
    /// `Allow`: the methods that there are.
    pub allow: Option<&'static str>,
}

impl Response {
    /// An answer without further headers.
    pub const fn new(status: u16, content: Content) -> Self {
        Self { status, content, retry_after_secs: None, allow: None }
    }
}

/// The body of a [`Response`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// None, with a status that has none.
    Nothing,
    /// `text/plain`.
    Text(String),
    /// `application/json`.
    Json(String),
    /// `application/problem+json`.
    Problem(String),
    /// A page that the shell carries.
    Page(Page),
    /// What [`View::counts`](crate::View::counts), [`View::gauges`](crate::View::gauges) and the shell have
    /// counted, as OpenMetrics text. The shell writes it.
    Metrics,
}

/// The pages that the shell carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// The demo chat, at `/`.
    Chat,
    /// The operators' page, at `/console`.
    Console,
}

/// A token. Shows itself to nobody who prints it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Takes a token in.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// For the one who looks at its signature.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}
