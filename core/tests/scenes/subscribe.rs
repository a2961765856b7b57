//! `subscribe` (PROTOCOL §5): a device that is told where it begins in a topic begins there after a crash
//! too.

use crate::daemon::Daemon;
use runcast_core::config::TopicConfig;
use runcast_core::ids::Topic;
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
fn a_device_that_has_its_place_in_a_topic_reads_it_though_the_disk_is_full() {
    let news = Topic::parse("news").expect("it is a name");
    let mut daemon = Daemon::new(|config| config.topics = [(news, TopicConfig::default())].into());
    let user = daemon.user("alice");
    for topics in [json!(["system"]), json!([])] {
        daemon.says(user, &json!({"type": "subscribe", "topics": topics}));
    }
    daemon.is_slow = true;
    daemon.says(user, &json!({"type": "run", "agent": "echo", "input": 1}));
    daemon.fail();
    daemon.heard(user);
    daemon.says(user, &json!({"type": "subscribe", "topics": ["system"]}));
    assert_eq!(daemon.heard(user)[0]["type"], "subscribed");
    daemon.says(user, &json!({"type": "subscribe", "topics": ["system", "news"]}));
    assert_eq!(daemon.heard(user)[0]["code"], "storage_unavailable");
}

/// What the store was asked for a topic that is read no longer is no answer to what it is asked now.
#[test]
fn a_topic_that_is_left_and_read_anew_from_elsewhere_begins_where_it_was_asked() {
    let mut daemon = Daemon::new(|_| {});
    let hello = json!({"type": "hello", "ack": false, "topics": ["system"]});
    let before = daemon.connect("/ws", "alice", "user", &hello);
    let epoch = daemon.heard(before)[0]["topics"][0]["epoch"].clone();
    for key in 1..=6 {
        daemon.publish("system", &key.to_string());
    }
    daemon.restart();
    daemon.answers_late = true;
    let from = json!({"epoch": epoch, "seq": 3});
    let hello = json!({"type": "hello", "ack": false, "topics": [{"topic": "system", "from": from}]});
    let user = daemon.connect("/ws", "alice", "user", &hello);
    daemon.says(user, &json!({"type": "subscribe", "topics": []}));
    daemon.says(user, &json!({"type": "subscribe", "topics": [{"topic": "system", "from": "oldest"}]}));
    daemon.answer();
    assert_eq!(daemon.closed(user), None);
    let heard = daemon.heard(user).into_iter().filter(|said| said["type"] == "event");
    assert_eq!(heard.map(|said| said["seq"].clone()).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
}
