//! `POST /v1/topics/{topic}/events` (PROTOCOL §7): a key names one publication, also while that is on its way
//! to the disk.

use crate::daemon::Daemon;
use serde_json::json;

#[test]
fn a_publication_on_its_way_is_known_though_another_has_just_become_durable() {
    let mut daemon = Daemon::new(|_| {});
    // Somebody reads the topic, so that it is stored.
    daemon.connect("/ws", "bob", "user", &json!({"type": "hello", "device": "d", "topics": ["system"]}));
    daemon.is_slow = true;
    daemon.publish("system", "k-1");
    daemon.publish("system", "k-2");
    daemon.commit_one();
    let again = daemon.publish("system", "k-2");
    daemon.commit();
    assert_eq!(daemon.answered(again), Some(&(200, json!({"seq": 2, "duplicate": true}))));
}
