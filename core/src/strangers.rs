//! Limits before authentication and beside it (PROTOCOL §3, §7): how many connections an address may have at
//! all, how often it may fail to say who it is, and how many requests one `sub` may make.

use crate::Core;
use crate::conn::Role;
use crate::effect::Effects;
use crate::handshake::Identity;
use crate::ids::ConnId;
use crate::input::Head;
use crate::limits::quota::Quota;
use crate::time::Span;
use crate::wire::error::{Code, Refusal};
use alloc::format;
use core::net::{IpAddr, Ipv6Addr};

/// Whose address it is, as far as limits count: an IPv6 customer has 64 bits of addresses to choose from.
pub(crate) fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}

/// What is answered to whoever has used up a quota.
fn rate_limited(message: alloc::string::String, wait: Span) -> Refusal {
    Refusal::new(Code::RateLimited, message, "ask less often").retry(wait.as_millis() + 1)
}

impl Core {
    /// Refuses a connection that was just accepted, its head unread, when there are far too many: up to the
    /// limits and somewhat more is told in the way that each client can understand.
    pub(crate) fn check_flood(&mut self, id: ConnId, peer: IpAddr, out: &mut Effects) {
        let server = &self.config.server;
        let of_peer = self.addresses.get(&neighbourhood(peer)).copied().unwrap_or(0);
        let is_flood = of_peer > server.connections_per_address.saturating_mul(2) && !self.is_proxy(peer);
        if is_flood || self.conns.len() > server.connections_most() {
            let message = "expected fewer connections at once";
            let refusal = Refusal::new(Code::RateLimited, message, "close others first").retry(5_000);
            self.respond_refusal(id, &refusal, out);
        }
    }

    /// Refuses an address that has failed too often to say who it is, whatever it brings. The checks of load
    /// balancers are answered.
    pub(crate) fn check_attempts(&self, id: ConnId, head: &Head<'_>) -> Result<(), Refusal> {
        let Some(peer) = self.conns.get(&id).map(|conn| neighbourhood(conn.peer)) else { return Ok(()) };
        if matches!(head.path, "/livez" | "/readyz") {
            return Ok(());
        }
        self.attempts.check(&peer, self.now.mono, self.attempts_quota()).map_err(|wait| {
            let limit = self.config.limits.unauthenticated_per_address_per_minute;
            let message = format!("expected at most {limit} attempts a minute of an address to authenticate");
            rate_limited(message, wait)
        })
    }

    /// Somebody has not said who they are: by a token that is refused, a head or a `hello` that is none. It
    /// counts unless they are known. What else may be wrong with a request counts for nobody: a whole
    /// neighbourhood would pay for it.
    pub(crate) fn count_attempt(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(&id) else { return };
        let is_known = match &conn.role {
            Role::Http => false,
            Role::Request(request) => request.identity.is_some(),
            Role::Greeting(greeting) => greeting.user().is_some(),
            Role::User(_) | Role::Worker(_) => true,
        };
        if !is_known {
            let (peer, quota) = (neighbourhood(conn.peer), self.attempts_quota());
            self.attempts.count(&peer, self.now.mono, quota);
        }
    }

    fn attempts_quota(&self) -> Quota {
        let burst = self.config.limits.unauthenticated_per_address_per_minute;
        Quota { burst, every: Span(60_000_000 / burst) }
    }

    /// One request more of whoever makes it, on whatever connection.
    pub(crate) fn count_request(&mut self, identity: Identity) -> Result<Identity, Refusal> {
        let limits = &self.config.limits;
        let quota =
            Quota { burst: limits.requests_burst, every: Span(1_000_000 / limits.requests_per_second) };
        let taken = self.requests.take(&identity.user, self.now.mono, quota);
        taken.map(|()| identity).map_err(|wait| {
            let message = format!(
                "expected at most {} requests a second of one `sub`, and {} at once",
                self.config.limits.requests_per_second, self.config.limits.requests_burst
            );
            rate_limited(message, wait)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_is_one_neighbourhood() {
        let of = |text: &str| neighbourhood(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    }
}
