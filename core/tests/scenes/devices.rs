//! How many devices of a user are kept (PROTOCOL §3 `device`): as many as the configuration says, and of
//! those that are not connected the one longest unheard of is forgotten.

use crate::daemon::Daemon;
use runcast_core::input::Input;
use runcast_core::time::Span;
use serde_json::json;

/// How a device's connection begins, which is over soon.
fn visit(daemon: &mut Daemon, device: &str) -> String {
    let conn = daemon.connect("/ws", "alice", "user", &json!({"type": "hello", "device": device}));
    let welcome = daemon.heard(conn).remove(0);
    daemon.feed(Input::Closed { conn });
    daemon.pass(Span::secs(10));
    welcome["resume"]["status"].as_str().expect("it is welcome").to_owned()
}

#[test]
fn as_many_devices_as_may_be_are_known_and_the_one_longest_unheard_of_is_forgotten_for_the_next() {
    let mut daemon = Daemon::new(|config| config.store.devices_per_user = 2);
    assert_eq!(visit(&mut daemon, "laptop"), "fresh");
    assert_eq!(visit(&mut daemon, "phone"), "fresh");
    assert_eq!(visit(&mut daemon, "laptop"), "resumed");
    assert_eq!(visit(&mut daemon, "phone"), "resumed");
    assert_eq!(visit(&mut daemon, "tablet"), "fresh");
    assert_eq!(visit(&mut daemon, "phone"), "resumed");
    assert_eq!(visit(&mut daemon, "laptop"), "fresh");
}

#[test]
fn a_device_that_has_acknowledged_nothing_begins_where_it_began_before() {
    let mut daemon = Daemon::new(|_| {});
    let other = daemon.user("alice");
    let run = daemon.ask(other);
    daemon.says(other, &json!({"type": "cancel", "run": run}));
    let hello = json!({"type": "hello", "device": "phone"});
    let mut begin = || {
        let conn = daemon.connect("/ws", "alice", "user", &hello);
        let welcome = daemon.heard(conn).remove(0);
        daemon.feed(Input::Closed { conn });
        welcome["resume"]["from"].clone()
    };
    assert_eq!((begin(), begin()), (json!(2), json!(2)));
}

#[test]
fn deltas_are_joined_for_a_device_that_is_more_than_a_window_behind_and_not_before() {
    for (deltas, expected) in [(4, 4), (5, 1)] {
        let mut daemon = Daemon::new(|_| {});
        let agents = json!([{"agent": "echo", "slots": 1}]);
        let worker = daemon.worker(&json!({"type": "hello", "worker": "w", "agents": agents}));
        let user = daemon.user("alice");
        daemon.ask(user);
        let run = daemon.start(worker);
        daemon.says(user, &json!({"type": "ack", "seq": 2}));
        daemon.feed(Input::Closed { conn: user });
        for n in 1..=deltas {
            daemon.says(
                worker,
                &json!({"type": "event", "run": run, "attempt": 1, "n": n, "event": "agent_output",
                        "data": {"delta": "x"}}),
            );
        }
        let hello = json!({"type": "hello", "device": "d", "window": 4});
        let user = daemon.connect("/ws", "alice", "user", &hello);
        let events = daemon.heard(user).into_iter().filter(|said| said["type"] == "event");
        assert_eq!(events.count(), expected, "{deltas} behind");
    }
}
