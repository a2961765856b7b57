//! What is kept of a topic (PROTOCOL §4 "Keeping"): its newest events, by number, bytes and age, like a
//! user's.

use crate::daemon::Daemon;
use runcast_core::ids::ConnId;
use runcast_core::time::Span;
use serde_json::{Value, json};

const DAY: Span = Span::secs(24 * 3600);

fn publish(daemon: &mut Daemon, keys: core::ops::Range<usize>) {
    for key in keys {
        daemon.publish("system", &format!("k-{key}"));
    }
}

/// Somebody who reads the topic from its first event on, and how it is told to be.
fn read(daemon: &mut Daemon) -> (ConnId, Value) {
    let hello = json!({"type": "hello", "device": "d", "topics": [{"topic": "system", "from": "oldest"}]});
    let conn = daemon.connect("/ws", "bob", "user", &hello);
    (conn, daemon.heard(conn).remove(0)["topics"][0].clone())
}

#[test]
fn a_topic_keeps_no_event_for_longer_than_is_configured() {
    let mut daemon = Daemon::new(|_| {});
    daemon.pass(DAY);
    publish(&mut daemon, 0..100);
    daemon.pass(DAY.times(6));
    assert_eq!(read(&mut daemon).1["floor"], 1);
    daemon.pass(DAY.times(2));
    let (_, topic) = read(&mut daemon);
    assert_eq!((&topic["floor"], &topic["head"]), (&json!(101), &json!(100)), "nothing is left");
    publish(&mut daemon, 100..101);
    daemon.restart();
    let (conn, topic) = read(&mut daemon);
    assert_eq!((&topic["floor"], &topic["head"]), (&json!(101), &json!(101)));
    assert_eq!(daemon.heard(conn), [Value::Null; 0], "its device has begun after that, and has not read it");
}

#[test]
fn who_has_not_acknowledged_what_is_too_old_of_a_topic_is_told() {
    let mut daemon = Daemon::new(|config| {
        config.store.keep = Span::secs(1);
        config.server.heartbeat = Span::secs(3600);
        config.delivery.ack_timeout = Span::secs(3600);
    });
    daemon.pass(Span::secs(1));
    let (conn, _) = read(&mut daemon);
    publish(&mut daemon, 0..1);
    daemon.pass(Span::secs(120));
    assert_eq!(daemon.closed(conn).map(|code| code as u16), Some(4411));
}

#[test]
fn a_topic_keeps_as_many_bytes_as_are_configured() {
    let mut daemon = Daemon::new(|config| config.store.bytes_per_user = 10_000);
    publish(&mut daemon, 0..400);
    let (_, topic) = read(&mut daemon);
    let kept = topic["head"].as_u64().zip(topic["floor"].as_u64()).map(|(head, floor)| head - floor);
    // An event has some 100 bytes; whole marks of 64 events go.
    assert!(kept.is_some_and(|kept| (64..192).contains(&kept)), "{topic}");
}
