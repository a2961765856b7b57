//! The names of things. A name is checked once, where it comes in, and is then a type of its own.

#[cfg(test)]
mod properties;

use alloc::string::String;
use alloc::sync::Arc;
use core::cmp::Ordering;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::ops::Deref;

/// The longest name of the protocol's alphabet, in bytes (PROTOCOL, conventions).
pub const NAME_BYTES: usize = 128;
/// The longest user, in bytes.
pub const USER_BYTES: usize = 256;

/// A connection. Given by the loop, never reused within a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// A batch of records given to the store. Rises by one with each batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppendId(pub u64);

/// A question to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LoadId(pub u64);

/// What a name must look like, in words for an error.
pub const NAME_RULE: &str = "1 to 128 of A-Z a-z 0-9 _ . : @ -, beginning with a letter or digit";

fn is_name(text: &str, longest: usize) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= longest
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"_.:@-".contains(b))
}

/// The text of a name that is a key of large maps: those are searched many times for each event.
///
/// Their order is that of their last bytes, in which such names differ (`run_{thread}_{8 hex}`, `user-00042`,
/// a UUID): comparing two of them hardly ever follows a pointer.
#[derive(Clone)]
struct Keyed {
    /// The last eight bytes, or fewer, the very last first.
    tail: u64,
    text: Arc<str>,
}

impl From<&str> for Keyed {
    fn from(text: &str) -> Self {
        let tail = text.bytes().rev().take(8).fold(0, |tail, byte| tail << 8 | u64::from(byte));
        Self { tail, text: text.into() }
    }
}

impl From<Keyed> for Arc<str> {
    fn from(name: Keyed) -> Self {
        name.text
    }
}

impl fmt::Debug for Keyed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl Deref for Keyed {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl Ord for Keyed {
    fn cmp(&self, other: &Self) -> Ordering {
        self.tail.cmp(&other.tail).then_with(|| {
            if Arc::ptr_eq(&self.text, &other.text) { Ordering::Equal } else { self.text.cmp(&other.text) }
        })
    }
}

impl PartialOrd for Keyed {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Keyed {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Keyed {}

impl Hash for Keyed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.text.as_bytes());
    }
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident($text:ty): $check:expr, $rule:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($text);

        impl $name {
            /// What is expected, in words for an error.
            pub const RULE: &'static str = $rule;

            /// The name, if it follows [`Self::RULE`].
            pub fn parse(text: &str) -> Option<Self> {
                let check: fn(&str) -> bool = $check;
                check(text).then(|| Self(text.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The same, shared.
            pub fn text(&self) -> Arc<str> {
                self.0.clone().into()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = String::deserialize(d)?;
                Self::parse(&text).ok_or_else(|| serde::de::Error::custom(Self::RULE))
            }
        }
    )*};
}

names! {
    /// Who a verified token's `sub` names. Owner of everything.
    User(Keyed): |t| !t.is_empty() && t.len() <= USER_BYTES && !t.chars().any(char::is_control),
        "1 to 256 bytes of UTF-8 without control characters";
    /// A conversation in its user's own namespace.
    Thread(Arc<str>): |t| is_name(t, NAME_BYTES), NAME_RULE;
    /// What executes runs.
    Agent(Arc<str>): |t| is_name(t, NAME_BYTES), NAME_RULE;
    /// A worker's own name; unique only together with its token's `sub`.
    WorkerName(Arc<str>): |t| is_name(t, NAME_BYTES), NAME_RULE;
    /// One installation of a client.
    Device(Arc<str>): |t| is_name(t, NAME_BYTES), NAME_RULE;
    /// What makes a repeated request the same request.
    Key(Arc<str>): |t| is_name(t, NAME_BYTES), NAME_RULE;
    /// A tool call, unique in its attempt.
    Call(Arc<str>): |t| is_name(t, NAME_BYTES), NAME_RULE;
    /// A question to the user, unique in its attempt.
    Request(Arc<str>): |t| is_name(t, NAME_BYTES), NAME_RULE;
    /// A run: `run_{thread}_{8 hex}`, unique in the daemon.
    RunId(Keyed): |t| is_name(t, NAME_BYTES + 13), "a run's id, run_{thread}_{8 hex}";
    /// A stream that many users may read.
    Topic(Arc<str>): |t| is_name(t, NAME_BYTES), NAME_RULE;
    /// What a publisher calls an event.
    EventName(Arc<str>): |t| is_name(t, NAME_BYTES), NAME_RULE;
    /// A backup, and its file.
    BackupName(Arc<str>): |t| is_name(t, NAME_BYTES), NAME_RULE;
    /// One incarnation of a stream.
    Epoch(Arc<str>): |t| is_name(t, NAME_BYTES), NAME_RULE;
}

/// Whose stream it is. Every user has one, and every topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// A user's.
    User(User),
    /// A topic's.
    Topic(Topic),
}

/// One of the streams that a connection reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Its user's own.
    #[default]
    Own,
    /// A topic's.
    Topic(Topic),
}

impl Lane {
    /// The topic, where it is one.
    pub fn topic(&self) -> Option<&Topic> {
        match self {
            Self::Own => None,
            Self::Topic(topic) => Some(topic),
        }
    }
}

impl From<Option<Topic>> for Lane {
    fn from(topic: Option<Topic>) -> Self {
        topic.map_or(Self::Own, Self::Topic)
    }
}

impl RunId {
    /// The id of a new run on `thread`.
    pub(crate) fn new(thread: &Thread, random: u32) -> Self {
        Self(alloc::format!("run_{thread}_{random:08x}").as_str().into())
    }
}

impl Epoch {
    /// The name of a new incarnation.
    pub(crate) fn new(random: u64) -> Self {
        Self(alloc::format!("e-{random:016x}").into())
    }
}

impl Thread {
    /// A thread that the daemon names.
    pub(crate) fn new(random: u64) -> Self {
        Self(alloc::format!("thread_{random:016x}").into())
    }
}

impl Device {
    /// A device that the daemon names.
    pub(crate) fn new(random: u64) -> Self {
        Self(alloc::format!("device-{random:016x}").into())
    }
}

impl WorkerName {
    /// A worker that the daemon names.
    pub(crate) fn new(random: u64) -> Self {
        Self(alloc::format!("worker-{random:016x}").into())
    }
}
