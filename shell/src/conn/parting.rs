//! How a peer goes, for the log.

use std::fmt;
use std::io;

/// How a peer went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parting {
    /// By a close frame, with this code if it had one.
    Closed(Option<u16>),
    /// Without a word.
    Gone,
    /// The network, or TLS, has failed: in what way.
    Failed(Box<str>),
}

impl Parting {
    /// The network, or TLS, has failed.
    pub(super) fn failed(error: &io::Error) -> Self {
        Self::Failed(error.to_string().into())
    }
}

impl fmt::Display for Parting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(Some(code)) => write!(f, "it has closed with {code}"),
            Self::Closed(None) => f.write_str("it has closed"),
            Self::Gone => f.write_str("it ended without a close"),
            Self::Failed(how) => f.write_str(how),
        }
    }
}
