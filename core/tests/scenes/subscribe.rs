//! `subscribe` (PROTOCOL §5): a device that is told where it begins in a topic begins there after a crash
//! too.

use crate::daemon::Daemon;
use serde_json::json;

#[test]
fn a_device_is_told_its_place_in_a_topic_when_that_is_durable() {
    let mut daemon = Daemon::new(|_| {});
    // Somebody reads the topic already, so that it is stored.
    daemon.connect("/ws", "bob", "user", &json!({"type": "hello", "device": "d", "topics": ["system"]}));
    let user = daemon.user("alice");
    daemon.heard(user);
    daemon.is_slow = true;
    daemon.says(user, &json!({"type": "subscribe", "topics": ["system"]}));
    assert!(daemon.heard(user).is_empty());
    daemon.commit();
    assert_eq!(daemon.heard(user)[0]["type"], "subscribed");
}

#[test]
fn a_device_that_comes_again_meanwhile_is_told_no_sooner() {
    let mut daemon = Daemon::new(|_| {});
    daemon.connect("/ws", "bob", "user", &json!({"type": "hello", "device": "d", "topics": ["system"]}));
    let user = daemon.user("alice");
    daemon.is_slow = true;
    daemon.says(user, &json!({"type": "subscribe", "topics": ["system"]}));
    let user = daemon.user("alice");
    daemon.says(user, &json!({"type": "subscribe", "topics": ["system"]}));
    let heard = daemon.heard(user);
    assert!(heard.iter().all(|said| said["type"] != "subscribed"), "{heard:?}");
    daemon.commit();
    assert!(daemon.heard(user).iter().any(|said| said["type"] == "subscribed"));
}
