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

/// Coming is being heard of, also of a device that acknowledges nothing.
#[test]
fn the_one_that_came_first_is_not_forgotten_if_it_came_again() {
    let mut daemon = Daemon::new(|config| config.store.devices_per_user = 2);
    let began: Vec<_> =
        ["laptop", "phone", "laptop", "tablet", "laptop"].map(|device| visit(&mut daemon, device)).into();
    assert_eq!(began, ["fresh", "fresh", "resumed", "fresh", "resumed"]);
}

#[test]
fn a_device_that_is_connected_is_not_forgotten_for_those_that_come_and_go() {
    let mut daemon = Daemon::new(|config| {
        config.store.devices_per_user = 2;
        config.server.heartbeat = Span::secs(3600);
    });
    let laptop = daemon.connect("/ws", "alice", "user", &json!({"type": "hello", "device": "laptop"}));
    for device in ["phone", "tablet", "watch"] {
        assert_eq!(visit(&mut daemon, device), "fresh");
    }
    daemon.feed(Input::Closed { conn: laptop });
    assert_eq!(visit(&mut daemon, "laptop"), "resumed");
}

/// What stands for many events would have to be sent again whole.
#[test]
fn whoever_has_not_acknowledged_what_stands_for_trimmed_events_is_told() {
    let mut daemon = Daemon::new(|config| config.store.events_per_user = 128);
    let agents = json!([{"agent": "echo", "slots": 1}]);
    let worker = daemon.worker(&json!({"type": "hello", "worker": "w", "agents": agents}));
    let asker = daemon.user("alice");
    let say = |daemon: &mut Daemon| {
        daemon.ask(asker);
        let run = daemon.start(worker);
        for n in 1..=200 {
            let (event, data) = ("agent_output", json!({"delta": "x"}));
            let event =
                json!({"type": "event", "run": run, "attempt": 1, "n": n, "event": event, "data": data});
            daemon.says(worker, &event);
        }
        let end = json!({"type": "complete", "run": run, "attempt": 1, "n": 201, "status": "ok"});
        daemon.says(worker, &end);
        let head = daemon.heard(asker).iter().filter_map(|said| said["seq"].as_u64()).max();
        daemon.says(asker, &json!({"type": "ack", "seq": head}));
    };
    say(&mut daemon);
    let hello = json!({"type": "hello", "device": "phone", "from": "oldest", "window": 4});
    let phone = daemon.connect("/ws", "alice", "user", &hello);
    let joined = daemon.heard(phone).into_iter().find(|said| said["joined"].is_u64()).expect("it is behind");
    daemon.says(phone, &json!({"type": "ack", "seq": joined["prev"]}));
    assert_eq!(daemon.closed(phone), None);
    say(&mut daemon);
    assert_eq!(daemon.closed(phone).map(|code| code as u16), Some(4411), "{joined}");
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
        let (worker, user, run) = daemon.running();
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

/// The daemon has named it, and it is stored with its first acknowledgement: from then on it is known.
#[test]
fn a_device_that_the_daemon_has_named_is_known_when_it_has_acknowledged() {
    let mut daemon = Daemon::new(|_| {});
    let first = daemon.connect("/ws", "alice", "user", &json!({"type": "hello"}));
    let device = daemon.heard(first).remove(0)["device"].clone();
    daemon.ask(first);
    daemon.says(first, &json!({"type": "ack", "seq": 1}));
    daemon.pass(Span::secs(1));
    // The store is full: whoever is known is welcome still.
    daemon.is_slow = true;
    daemon.says(first, &json!({"type": "run", "agent": "echo", "input": 1}));
    daemon.fail();
    let again = daemon.connect("/ws", "alice", "user", &json!({"type": "hello", "device": device}));
    assert_eq!(daemon.closed(again), None);
    assert_eq!(daemon.heard(again)[0]["resume"], json!({"status": "resumed", "from": 1}));
}

#[test]
fn of_a_user_no_more_connections_are_welcome_than_may_be_and_a_device_takes_its_own_place() {
    let mut daemon = Daemon::new(|config| config.server.connections_per_user = 2);
    let mut code = |device: &str| {
        let conn = daemon.connect("/ws", "alice", "user", &json!({"type": "hello", "device": device}));
        daemon.closed(conn).map(|code| code as u16)
    };
    assert_eq!(["laptop", "phone", "tablet", "phone"].map(&mut code), [None, None, Some(4408), None]);
}

/// An acknowledgement over HTTP may have been overtaken by one on a socket.
#[test]
fn an_acknowledgement_over_http_that_comes_late_takes_nothing_back() {
    let mut daemon = Daemon::new(|_| {});
    let user = daemon.user("alice");
    let epoch = daemon.heard(user).remove(0)["epoch"].clone();
    (0..3).for_each(|_| drop(daemon.ask(user)));
    daemon.says(user, &json!({"type": "ack", "seq": 2}));
    for (seq, acked) in [(1, 2), (3, 3), (2, 3)] {
        let body = json!({"device": "d", "epoch": epoch, "seq": seq}).to_string();
        let conn = daemon.post("/v1/ack", ("alice", "user"), None, &body);
        daemon.feed(Input::Body { conn, body: body.as_bytes() });
        assert_eq!(daemon.answered(conn).map(|(status, _)| *status), Some(204));
        daemon.restart();
        let user = daemon.user("alice");
        assert_eq!(daemon.heard(user)[0]["resume"], json!({"status": "resumed", "from": acked}));
        daemon.feed(Input::Closed { conn: user });
    }
}

/// A user whose last word is not on the disk stays in memory, though an earlier one is.
#[test]
fn whoever_comes_and_goes_while_the_disk_is_slow_is_where_the_last_acknowledgement_was() {
    let mut daemon = Daemon::new(|_| {});
    let (alice, bob) = (daemon.user("alice"), daemon.user("bob"));
    for _ in 0..3 {
        let run = daemon.ask(alice);
        daemon.says(alice, &json!({"type": "cancel", "run": run}));
    }
    daemon.is_slow = true;
    daemon.says(bob, &json!({"type": "run", "agent": "echo", "input": 1}));
    daemon.feed(Input::Closed { conn: alice });
    for acked in [2, 4] {
        let alice = daemon.user("alice");
        daemon.says(alice, &json!({"type": "ack", "seq": acked}));
        daemon.pass(Span::secs(1));
        daemon.feed(Input::Closed { conn: alice });
    }
    daemon.commit_one();
    let alice = daemon.user("alice");
    assert_eq!(daemon.heard(alice)[0]["resume"], json!({"status": "resumed", "from": 4}));
}

#[test]
fn a_device_that_comes_after_the_clock_was_set_back_does_not_forget_itself() {
    let mut daemon = Daemon::new(|config| config.store.devices_per_user = 2);
    daemon.set_clock(10_000);
    assert_eq!(["laptop", "phone"].map(|device| visit(&mut daemon, device)), ["fresh", "fresh"]);
    daemon.set_clock(5_000);
    let began = ["tablet", "tablet", "phone"].map(|device| visit(&mut daemon, device));
    assert_eq!(began, ["fresh", "resumed", "resumed"]);
    assert_eq!(visit(&mut daemon, "laptop"), "fresh", "it was the one longest unheard of");
}
