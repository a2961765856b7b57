//! The codes of PROTOCOL §5: errors, their HTTP status, close codes.

use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal, $temporary:literal;)*) => {
        /// A stable name for what went wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// All codes.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// As it stands on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The HTTP status that goes with it.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// Whether the same request may succeed later.
            pub const fn is_temporary(self) -> bool {
                match self { $(Self::$name => $temporary,)* }
            }
        }
    };
}

codes! {
    /// Not JSON.
    BadJson = "bad_json", 400, false;
    /// JSON, but not what this message must look like.
    BadMessage = "bad_message", 400, false;
    /// A `type` that is not known here.
    UnknownType = "unknown_type", 400, false;
    /// No token where one is needed.
    TokenMissing = "token_missing", 401, false;
    /// Not a JWT, or without `sub` or `exp`.
    TokenMalformed = "token_malformed", 401, false;
    /// Past its `exp`.
    TokenExpired = "token_expired", 401, false;
    /// Before its `nbf`.
    TokenNotYetValid = "token_not_yet_valid", 401, true;
    /// Signed by no known key.
    TokenSignature = "token_signature", 401, false;
    /// Signed with an algorithm its key is not for.
    TokenAlgorithm = "token_algorithm", 401, false;
    /// From another issuer.
    TokenIssuer = "token_issuer", 401, false;
    /// For another audience.
    TokenAudience = "token_audience", 401, false;
    /// A `sub` that cannot be a user, or another than before.
    TokenSubject = "token_subject", 401, false;
    /// Made before an operator revoked its user's tokens.
    TokenRevoked = "token_revoked", 401, false;
    /// Good, but not for this.
    TokenScope = "token_scope", 403, false;
    /// The browser's page is from elsewhere.
    OriginForbidden = "origin_forbidden", 403, false;
    /// This token may not run (or serve) this agent.
    AgentForbidden = "agent_forbidden", 403, false;
    /// This token may not read (or write to) this topic, or there is none.
    TopicForbidden = "topic_forbidden", 403, false;
    /// No such run of this user.
    RunNotFound = "run_not_found", 404, false;
    /// No such agent, configured or ever served.
    AgentUnknown = "agent_unknown", 404, false;
    /// No such path.
    NotFound = "not_found", 404, false;
    /// A path, but not for this method.
    MethodNotAllowed = "method_not_allowed", 405, false;
    /// The same key with another body.
    KeyReused = "key_reused", 409, false;
    /// The thread has a run, and the request would not wait.
    ThreadBusy = "thread_busy", 409, true;
    /// Nobody waits for this input.
    InputNotAwaited = "input_not_awaited", 409, false;
    /// Someone was faster.
    InputAlreadyGiven = "input_already_given", 409, false;
    /// A backup of this name is there.
    BackupExists = "backup_exists", 409, false;
    /// An acknowledgement past what was sent.
    AckAhead = "ack_ahead", 409, false;
    /// The position is of another incarnation of the stream, trimmed, or past its head.
    Reset = "reset", 409, false;
    /// Longer than allowed.
    TooLarge = "too_large", 413, false;
    /// An upgrade without `runcast.v1`.
    SubprotocolRequired = "subprotocol_required", 426, false;
    /// Too many requests in a time.
    RateLimited = "rate_limited", 429, true;
    /// The daemon's queue is full.
    QueueFull = "queue_full", 429, true;
    /// This user's queue is full.
    UserQueueFull = "user_queue_full", 429, true;
    /// The agent fails, and nothing is given to it for a while.
    AgentUnavailable = "agent_unavailable", 503, true;
    /// The daemon is going down.
    Draining = "draining", 503, true;
    /// More than the daemon can take.
    Overloaded = "overloaded", 503, true;
    /// The store takes nothing at present.
    StorageUnavailable = "storage_unavailable", 503, true;
    /// To workers: a number was left out.
    Gap = "gap", 400, true;
    /// To workers: this attempt is over, or another's.
    Fenced = "fenced", 400, false;
    /// To workers: against the order of a run's events.
    BadEvent = "bad_event", 400, false;
}

impl Code {
    /// Whether it says why a token is refused.
    pub(crate) fn is_of_token(self) -> bool {
        self.as_str().starts_with("token_")
    }
}

/// What went wrong, for whoever asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The stable name.
    pub code: Code,
    /// What was expected and what was found.
    pub message: String,
    /// What to do.
    pub hint: &'static str,
    /// When to try again, in milliseconds.
    pub retry_ms: Option<u64>,
    /// What else is wrong with the same request.
    pub also: Box<[Refusal]>,
}

impl Refusal {
    /// A refusal that trying again will not change.
    pub fn new(code: Code, message: impl Into<String>, hint: &'static str) -> Self {
        Self { code, message: message.into(), hint, retry_ms: None, also: Box::default() }
    }

    /// The same, with the time after which trying again makes sense.
    #[must_use]
    pub fn retry(mut self, ms: u64) -> Self {
        self.retry_ms = Some(ms);
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)
    }
}

macro_rules! closes {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        /// Why a WebSocket is closed. 44xx: reconnect; 45xx: do not reconnect as you are.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum CloseCode {
            $($(#[$doc])* $name = $number,)*
        }

        impl CloseCode {
            /// All codes.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
        }
    };
}

closes! {
    /// Done.
    Normal = 1000;
    /// A breach of RFC 6455.
    Breach = 1002;
    /// Text that is not UTF-8.
    NotUtf8 = 1007;
    /// The daemon is going down.
    Draining = 4400;
    /// The server made a mistake.
    ServerError = 4401;
    /// The store takes nothing.
    StorageUnavailable = 4402;
    /// Events stay unacknowledged after all retries.
    AcksOverdue = 4403;
    /// No sign of life.
    Silent = 4404;
    /// More than the daemon can take.
    Overloaded = 4405;
    /// Output waits and none of it is taken.
    TakesNothing = 4407;
    /// Too many connections of this user, address, or in all.
    TooManyConnections = 4408;
    /// Trimming has overtaken it.
    Overtaken = 4411;
    /// The token is refused.
    TokenRefused = 4501;
    /// Too much was sent before `hello`.
    TooMuchEarly = 4502;
    /// No `hello` in time.
    NoHello = 4503;
    /// The protocol was broken.
    Violation = 4504;
    /// A message was too large.
    MessageTooLarge = 4505;
    /// The token has expired.
    TokenExpired = 4506;
    /// An operator has disconnected it.
    Disconnected = 4507;
    /// Rate limits were ignored, persistently.
    RateLimit = 4509;
    /// A newer connection took its place.
    Replaced = 4510;
}
