//! Connections that have said nothing yet (PROTOCOL §3): of one address, far more than it may have.

use crate::daemon::Daemon;
use std::net::IpAddr;

#[test]
fn an_address_that_opens_far_too_many_is_refused_and_no_other() {
    let mut daemon = Daemon::new(|config| config.server.connections_per_address = 2);
    let (mut flood, other): (Vec<_>, IpAddr) = (Vec::new(), [203, 0, 113, 9].into());
    for _ in 0..5 {
        flood.push(daemon.open_from([198, 51, 100, 7].into()));
    }
    let other = daemon.open_from(other);
    assert!(flood[..4].iter().all(|conn| daemon.answered(*conn).is_none()), "twice as many wait");
    assert_eq!(daemon.answered(flood[4]).map(|(status, _)| *status), Some(429));
    assert!(daemon.answered(other).is_none());
}
