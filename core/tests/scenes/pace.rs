//! What a client has sent and the daemon cannot handle yet is bounded (PROTOCOL §2, promise 8): by number and
//! by bytes, then its bytes wait in the network.

use crate::daemon::Daemon;
use runcast_core::ids::ConnId;
use serde_json::json;

/// A user's connection that waits for the disk.
fn busy(daemon: &mut Daemon) -> ConnId {
    let user = daemon.user("alice");
    daemon.is_slow = true;
    daemon.says(user, &json!({"type": "subscribe", "topics": ["system"]}));
    user
}

#[test]
fn who_has_sent_too_many_messages_is_read_again_when_they_are_handled() {
    let mut daemon = Daemon::new(|_| {});
    let user = busy(&mut daemon);
    for n in 0..63 {
        daemon.says(user, &json!({"type": "ping", "n": n}));
    }
    assert!(daemon.is_read(user));
    daemon.says(user, &json!({"type": "ping", "n": 63}));
    assert!(!daemon.is_read(user));
    daemon.commit();
    assert!(daemon.is_read(user));
    let pongs = daemon.heard(user).into_iter().filter(|said| said["type"] == "pong");
    let expected: Vec<_> = (0..64).map(|n| json!(n)).collect();
    assert_eq!(pongs.map(|said| said["n"].clone()).collect::<Vec<_>>(), expected);
}

#[test]
fn who_has_sent_too_many_bytes_is_not_read() {
    let mut daemon = Daemon::new(|_| {});
    let user = busy(&mut daemon);
    let long = json!({"type": "ping", "n": 0, "more": "x".repeat(60_000)});
    for _ in 0..4 {
        daemon.says(user, &long);
    }
    assert!(daemon.is_read(user));
    daemon.says(user, &long);
    assert!(!daemon.is_read(user));
}
