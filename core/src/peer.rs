//! Whose connection it is: the peer's address, or, where the peer is a proxy that is trusted, the one that
//! the proxy tells (`Forwarded` of RFC 7239, or `X-Forwarded-For`).

use crate::Core;
use crate::ids::ConnId;
use crate::input::Head;
use crate::strangers::neighbourhood;
use crate::wire::error::{Code, Refusal};
use core::fmt;
use core::net::{IpAddr, SocketAddr};

/// Hops that are looked at, from the nearest on.
const HOPS: usize = 32;

/// A network: the addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Network {
    /// Reads `10.0.0.0/8`, `::1` and the like: an address, and how many of its bits count (all, without).
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(most);
        (prefix <= most).then_some(Self { address, prefix })
    }

    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differs = own.to_bits() ^ other.to_bits();
                differs.checked_shr(32 - self.prefix).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differs = own.to_bits() ^ other.to_bits();
                differs.checked_shr(128 - self.prefix).unwrap_or(0) == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Core {
    /// Finds out for whom a trusted proxy speaks: from then on the connection counts for that address.
    pub(crate) fn recognise(&mut self, id: ConnId, head: &Head<'_>) -> Result<(), Refusal> {
        let trusted = &self.config.server.trusted_proxies;
        let Some(peer) = self.conns.get(&id).map(|conn| conn.peer) else { return Ok(()) };
        if !is_trusted(trusted, peer) {
            return Ok(());
        }
        let standard = head.forwarded.map(|list| client(trusted, peer, parts(list, b',').map(for_of)));
        let usual = head.forwarded_for.map(|list| client(trusted, peer, list.rsplit(',').map(address)));
        if let (Some(standard), Some(usual)) = (standard, usual)
            && standard != usual
        {
            let message = "the headers `Forwarded` and `X-Forwarded-For` name two different clients";
            let hint = "have the proxy remove the one of them that it does not write itself";
            return Err(Refusal::new(Code::BadMessage, message, hint));
        }
        if let Some(client) = standard.or(usual) {
            self.count_for(id, client);
        }
        Ok(())
    }

    /// Whether this is a proxy that is trusted.
    pub(crate) fn is_proxy(&self, address: IpAddr) -> bool {
        is_trusted(&self.config.server.trusted_proxies, address)
    }

    /// Counts a connection for another address.
    fn count_for(&mut self, id: ConnId, address: IpAddr) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let before = core::mem::replace(&mut conn.peer, address);
        *self.addresses.entry(neighbourhood(address)).or_default() += 1;
        self.uncount(before);
    }

    /// An address has one connection less.
    pub(crate) fn uncount(&mut self, address: IpAddr) {
        let address = neighbourhood(address);
        if let Some(count) = self.addresses.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.addresses.remove(&address);
            }
        }
    }
}

fn is_trusted(trusted: &[Network], address: IpAddr) -> bool {
    trusted.iter().any(|network| network.contains(address))
}

/// The first that is not trusted, from the nearest hop on: who is behind it could say anything. What is no
/// address ends the search at the hop that has told it.
fn client(trusted: &[Network], peer: IpAddr, hops: impl Iterator<Item = Option<IpAddr>>) -> IpAddr {
    let mut nearest = peer;
    for hop in hops.take(HOPS) {
        let Some(hop) = hop else { return nearest };
        nearest = hop;
        if !is_trusted(trusted, hop) {
            return nearest;
        }
    }
    nearest
}

/// The parts of a text between such signs, the last one first. What stands in quotes has none: there a proxy
/// says what others have told it (RFC 7239 §4). From the right, since on the left a stranger may have begun a
/// quote that never ends.
fn parts(text: &str, sign: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    core::iter::from_fn(move || {
        let text = rest?;
        let mut is_quoted = false;
        let cut = (0..text.len()).rev().find(|&at| {
            let byte = text.as_bytes()[at];
            is_quoted ^= byte == b'"' && !is_escaped(&text.as_bytes()[..at]);
            byte == sign && !is_quoted
        });
        rest = cut.map(|at| &text[..at]);
        Some(cut.map_or(text, |at| &text[at + 1..]))
    })
}

/// Whether what comes after this is to be taken as it is.
fn is_escaped(before: &[u8]) -> bool {
    before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// The `for` of an element of `Forwarded`.
fn for_of(element: &str) -> Option<IpAddr> {
    let mut pairs = parts(element, b';').filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for")).and_then(|(_, value)| address(value))
}

/// An address, perhaps with quotes, brackets and a port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let with_port = || text.parse::<SocketAddr>().map(|address| address.ip());
    bare.parse().or_else(|_| with_port()).ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec::Vec;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_has_the_addresses_that_begin_like_it() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("192.168.1.7", "192.168.1.7", "192.168.1.8"),
            ("0.0.0.0/0", "8.8.8.8", "::1"),
            ("fd00::/8", "fd12::1", "fe80::1"),
            ("::1", "::1", "127.0.0.1"),
            ("127.0.0.1", "::ffff:127.0.0.1", "::1"),
        ] {
            let network = Network::parse(network).unwrap();
            assert!(network.contains(ip(inside)) && !network.contains(ip(outside)), "{network}");
            assert_eq!(Network::parse(&network.to_string()), Some(network));
        }
        for text in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "localhost", "10.0.0.0/x"] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_client_is_the_nearest_hop_that_is_not_trusted() {
        let trusted: Vec<Network> = ["10.0.0.0/8"].iter().filter_map(|it| Network::parse(it)).collect();
        let usual = |list: &str| client(&trusted, ip("10.0.0.1"), list.rsplit(',').map(address)).to_string();
        assert_eq!(usual("1.2.3.4"), "1.2.3.4");
        assert_eq!(usual("9.9.9.9, 1.2.3.4, 10.0.0.2"), "1.2.3.4", "what is before could be a lie");
        assert_eq!(usual("1.2.3.4:5678"), "1.2.3.4");
        assert_eq!(usual("unknown"), "10.0.0.1");
        assert_eq!(usual("1.2.3.4, unknown, 10.0.0.2"), "10.0.0.2");
        assert_eq!(usual("10.0.0.3,10.0.0.2"), "10.0.0.3");
        let standard =
            |list: &str| client(&trusted, ip("10.0.0.1"), parts(list, b',').map(for_of)).to_string();
        assert_eq!(standard("for=1.2.3.4;proto=https"), "1.2.3.4");
        assert_eq!(standard("For=\"[2001:db8::17]:4711\""), "2001:db8::17");
        assert_eq!(standard("proto=http;for=\"[2001:db8::17]\", for=10.0.0.9"), "2001:db8::17");
        assert_eq!(standard("for=_hidden"), "10.0.0.1");
        assert_eq!(standard("by=1.2.3.4"), "10.0.0.1");
    }

    #[test]
    fn what_a_proxy_quotes_names_nobody() {
        let trusted: Vec<Network> = ["10.0.0.0/8"].iter().filter_map(|it| Network::parse(it)).collect();
        // A proxy that tells the host says what the client has sent, and puts it in quotes.
        for list in [
            r#"host="a,for=6.6.6.6";for=1.2.3.4"#,
            r#"for=1.2.3.4;host="a,for=6.6.6.6""#,
            r#"host="a;for=6.6.6.6";for="1.2.3.4""#,
            r#"for=1.2.3.4;host="a;for=6.6.6.6;b""#,
            r#"for=1.2.3.4;host="a\",for=6.6.6.6""#,
            r#"for=1.2.3.4;host="a,for=6.6.6.6\\""#,
            r#"for=6.6.6.6;host=", for=1.2.3.4"#,
            r#"for=6.6.6.6, host=";for=9.9.9.9, for=1.2.3.4;host="b,c", for=10.0.0.7;host="d""#,
        ] {
            let found = client(&trusted, ip("10.0.0.1"), parts(list, b',').map(for_of));
            assert_eq!(found.to_string(), "1.2.3.4", "{list}");
        }
    }
}
