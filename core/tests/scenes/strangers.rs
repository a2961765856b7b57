//! Connections that have said nothing yet (PROTOCOL §3): of one address, far more than it may have.

use crate::daemon::Daemon;
use runcast_core::config::Server;
use std::net::IpAddr;

/// By this the shell tells whether the system lets it open so many sockets.
#[test]
fn so_many_connections_are_open_at_once_as_are_told_and_no_more() {
    let mut daemon = Daemon::new(|config| config.server.connections = 16);
    let most = Server { connections: 16, ..Server::default() }.connections_most();
    let crowd: Vec<_> =
        (0..most + 10).map(|at| daemon.open_from([10, 0, (at / 256) as u8, at as u8].into())).collect();
    let refused = crowd.iter().filter(|conn| daemon.answered(**conn).is_some()).count();
    assert_eq!(refused, 10);
}

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
