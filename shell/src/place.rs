//! Where a daemon is, for its clients: the built-in workers and the client commands.

use crate::line::Lost;
use crate::tls::{Socket, Trust, TrustError};
use std::io::{Read, Write};
use tungstenite::http::Uri;

/// Where a daemon is, and how it is known to be that one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `ws://host:port`, or the same with `http`, `wss` or `https`.
    pub url: String,
    /// Whose certificates are good for `wss` and `https`.
    pub trust: Trust,
}

impl<T: Into<String>> From<T> for Place {
    /// A place that well-known authorities have signed for, if its URL asks for TLS.
    fn from(url: T) -> Self {
        Self { url: url.into(), trust: Trust::WellKnown }
    }
}

/// Where one request goes.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// What is asked for, as a WebSocket's URL.
    pub(crate) uri: Uri,
    /// Host and port to connect to.
    pub(crate) authority: String,
    is_tls: bool,
}

impl Place {
    /// Where a request for this path goes.
    pub(crate) fn target(&self, path: &str) -> Result<Target, Lost> {
        let bad = |why: &str| Lost::BadUrl { url: self.url.clone(), why: why.into() };
        let whole = match self.url.split_once("://") {
            Some(("http", rest)) => format!("ws://{}{path}", rest.trim_end_matches('/')),
            Some(("https", rest)) => format!("wss://{}{path}", rest.trim_end_matches('/')),
            Some(_) | None => format!("{}{path}", self.url.trim_end_matches('/')),
        };
        let uri: Uri = whole.parse().map_err(|_| bad("expected a URL like ws://127.0.0.1:8787"))?;
        let is_tls = match uri.scheme_str() {
            Some("ws") => false,
            Some("wss") => true,
            Some(_) | None => {
                return Err(bad("expected it to begin with ws://, wss://, http:// or https://"));
            }
        };
        let host = uri.host().ok_or_else(|| bad("it names no host"))?;
        let authority = format!("{host}:{}", uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 }));
        Ok(Target { uri, authority, is_tls })
    }

    /// Speaks TLS over a connection to the target, if its URL asks for that.
    pub(crate) fn speak<T: Read + Write>(&self, target: &Target, below: T) -> Result<Socket<T>, Lost> {
        if !target.is_tls {
            return Ok(Socket::Plain(below));
        }
        let stream = self.trust.connect(below, target.uri.host().unwrap_or_default());
        let url = self.url.clone();
        match stream {
            Ok(stream) => Ok(Socket::Tls(Box::new(stream))),
            Err(TrustError::File(problem)) => Err(Lost::NoTrust(problem.to_string())),
            Err(why @ TrustError::Host(_)) => Err(Lost::BadUrl { url, why: why.to_string() }),
            Err(why @ TrustError::Tls(_)) => Err(Lost::Unreachable { url, why: why.to_string() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_to_connect_and_whether_in_the_clear() {
        for (url, uri, authority, is_tls) in [
            ("http://127.0.0.1:8787/", "ws://127.0.0.1:8787/v1", "127.0.0.1:8787", false),
            ("ws://example.org", "ws://example.org/v1", "example.org:80", false),
            ("https://example.org", "wss://example.org/v1", "example.org:443", true),
            ("wss://[::1]:8443", "wss://[::1]:8443/v1", "[::1]:8443", true),
        ] {
            let target = Place::from(url).target("/v1").expect(url);
            let found = (target.uri.to_string(), target.authority, target.is_tls);
            assert_eq!(found, (uri.to_owned(), authority.to_owned(), is_tls));
        }
        for url in ["", "example.org", "ftp://example.org", "http://", "http:// "] {
            assert!(matches!(Place::from(url).target("/v1"), Err(Lost::BadUrl { .. })), "{url}");
        }
    }
}
