//! The names of things. A name is checked once, where it comes in, and is then a type of its own.

#[cfg(test)]
mod properties;

use alloc::sync::Arc;
use core::borrow::Borrow;
use core::fmt;

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

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident: $check:expr, $rule:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

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

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = alloc::string::String::deserialize(d)?;
                Self::parse(&text).ok_or_else(|| serde::de::Error::custom(Self::RULE))
            }
        }
    )*};
}

names! {
    /// Who a verified token's `sub` names. Owner of everything.
    User: |t| !t.is_empty() && t.len() <= USER_BYTES && !t.chars().any(char::is_control),
        "1 to 256 bytes of UTF-8 without control characters";
    /// A conversation in its user's own namespace.
    Thread: |t| is_name(t, NAME_BYTES), NAME_RULE;
    /// What executes runs.
    Agent: |t| is_name(t, NAME_BYTES), NAME_RULE;
    /// A worker's own name; unique only together with its token's `sub`.
    WorkerName: |t| is_name(t, NAME_BYTES), NAME_RULE;
    /// One installation of a client.
    Device: |t| is_name(t, NAME_BYTES), NAME_RULE;
    /// What makes a repeated request the same request.
    Key: |t| is_name(t, NAME_BYTES), NAME_RULE;
    /// A tool call, unique in its attempt.
    Call: |t| is_name(t, NAME_BYTES), NAME_RULE;
    /// A question to the user, unique in its attempt.
    Request: |t| is_name(t, NAME_BYTES), NAME_RULE;
    /// A run: `run_{thread}_{8 hex}`, unique in the daemon.
    RunId: |t| is_name(t, NAME_BYTES + 13), "a run's id, run_{thread}_{8 hex}";
    /// A stream that many users may read.
    Topic: |t| is_name(t, NAME_BYTES), NAME_RULE;
    /// What a publisher calls an event.
    EventName: |t| is_name(t, NAME_BYTES), NAME_RULE;
    /// A backup, and its file.
    BackupName: |t| is_name(t, NAME_BYTES), NAME_RULE;
    /// One incarnation of a stream.
    Epoch: |t| is_name(t, NAME_BYTES), NAME_RULE;
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
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
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
        Self(alloc::format!("run_{thread}_{random:08x}").into())
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
