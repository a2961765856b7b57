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
        // Nobody looks at it, but for people, who take what stands before the `@` for the host.
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(bad("expected no user or password in it; say who you are with a token"));
        }
        let authority = format!("{host}:{}", uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 }));
        Ok(Target { uri, authority, is_tls })
    }

    /// Whether it is this machine, by the host to which it leads: a development token is shown to nobody
    /// else.
    pub(crate) fn is_near(&self) -> bool {
        let near = ["127.0.0.1", "localhost", "[::1]"];
        self.target("/").is_ok_and(|target| target.uri.host().is_some_and(|host| near.contains(&host)))
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
        for url in [
            "",
            "example.org",
            "ftp://example.org",
            "http://",
            "http:// ",
            "http://alice@example.org",
            "http://localhost:x@evil.example/",
            "ws://:@localhost",
        ] {
            assert!(matches!(Place::from(url).target("/v1"), Err(Lost::BadUrl { .. })), "{url}");
        }
    }

    #[test]
    fn the_development_token_stays_on_this_machine() {
        for url in ["ws://127.0.0.1:8787", "http://localhost", "ws://[::1]:1/", "http://127.0.0.1/x"] {
            assert!(Place::from(url).is_near(), "{url}");
        }
        for url in [
            "ws://example.org",
            "ws://127.0.0.1.example.org",
            "ws://localhost.evil:80",
            "http://10.0.0.1/127.0.0.1",
            "http://localhost:x@evil.example/",
            "http://127.0.0.1:8787@evil.example",
            "https://[::1]:1@evil.example:443/",
            "http://evil.example/@localhost",
            "localhost",
        ] {
            assert!(!Place::from(url).is_near(), "{url}");
        }
    }
}
