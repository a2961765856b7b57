//! `POST /v1/topics/{topic}/events` (PROTOCOL §7): a key names one publication, also while that is on its way
//! to the disk.

use crate::daemon::Daemon;
use runcast_core::record::Table;
use runcast_core::time::Span;
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

/// Otherwise they would be stored faster than they go.
#[test]
fn however_many_keys_are_too_old_all_of_them_go_soon() {
    let mut daemon = Daemon::new(|config| config.runs.key_keep = Span::secs(1));
    for key in 0..600 {
        daemon.publish("system", &format!("k-{key}"));
    }
    assert_eq!((daemon.stored(Table::Key), daemon.stored(Table::KeyAge)), (600, 600));
    daemon.pass(Span::secs(61));
    assert_eq!((daemon.stored(Table::Key), daemon.stored(Table::KeyAge)), (0, 0));
}
