//! However much is due at once, it is done a little at a time: what is live comes in between.

use crate::daemon::Daemon;
use runcast_core::time::Span;
use serde_json::json;

const DEVICES: usize = 60;
const EVENTS: usize = 20;

#[test]
fn of_a_thousand_events_that_are_overdue_no_turn_sends_more_than_some_again() {
    let mut daemon = Daemon::new(|config| config.delivery.ack_timeout = Span::secs(3));
    let hello = json!({"type": "hello", "device": "d", "topics": ["system"]});
    let conns: Vec<_> =
        (0..DEVICES).map(|n| daemon.connect("/ws", &format!("user-{n}"), "user", &hello)).collect();
    for n in 0..EVENTS {
        daemon.publish("system", &format!("k-{n}"));
    }
    daemon.pass(Span::secs(2));
    conns.iter().for_each(|conn| drop(daemon.heard(*conn)));
    daemon.most_effects = 0;
    // All are sent again at 3 s, and no later than sixty turns take.
    daemon.pass(Span::secs(1) + Span::millis(60));
    // 128 and what the last device is sent, with a notice or two.
    assert!(daemon.most_effects <= 128 + EVENTS + 2, "{}", daemon.most_effects);
    for conn in conns {
        let again = daemon.heard(conn).into_iter().filter(|said| said["redelivery"] == 1);
        assert_eq!(again.count(), EVENTS);
    }
}
