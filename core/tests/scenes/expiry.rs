//! The time of a token (PROTOCOL §5 `expiring`, `refresh`): who is connected with it is warned a minute
//! before it is over, and so again when it was replaced.

use crate::daemon::Daemon;
use runcast_core::time::Span;
use serde_json::json;

#[test]
fn whoever_brings_another_token_is_warned_again_before_that_is_over() {
    let mut daemon = Daemon::new(|config| {
        config.server.heartbeat = Span::secs(3600);
        config.auth.leeway = Span::ZERO;
    });
    daemon.claims.exp = 100;
    let user = daemon.user("alice");
    for until_warned in [40, 100] {
        daemon.heard(user);
        daemon.pass(Span::secs(until_warned) - Span::millis(1));
        assert!(daemon.heard(user).iter().all(|said| said["notice"] != "expiring"), "it is too early");
        daemon.pass(Span::millis(1));
        let heard = daemon.heard(user);
        let warning = heard.iter().find(|said| said["notice"] == "expiring").expect("it is warned");
        assert_eq!(warning["expires_ms"], 60_000);
        daemon.claims.exp += 100;
        daemon.says(user, &json!({"type": "refresh", "token": "t"}));
        daemon.verified(user, "alice", "user");
    }
    assert_eq!(daemon.closed(user), None);
    daemon.pass(Span::secs(160));
    assert_eq!(daemon.closed(user).map(|code| code as u16), Some(4506));
}

#[test]
fn a_token_that_is_over_since_the_clock_was_set_ends_its_connection_within_minutes() {
    let mut daemon = Daemon::new(|config| config.server.heartbeat = Span::secs(3600));
    daemon.claims.exp = 7_200;
    let user = daemon.user("alice");
    let worker = daemon.worker(&json!({"type": "hello", "agents": [{"agent": "echo", "slots": 1}]}));
    daemon.pass(Span::secs(1));
    daemon.says(worker, &json!({"type": "beat"}));
    daemon.set_clock(10_000);
    daemon.pass(Span::secs(300));
    assert_eq!(daemon.closed(user).map(|code| code as u16), Some(4506));
    assert_ne!(daemon.closed(worker), None);
}
