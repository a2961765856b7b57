//! The topic `alerts` (PROTOCOL §7): what is said at which watermark.

use crate::daemon::Daemon;
use runcast_core::ids::ConnId;
use runcast_core::input::Input;
use serde_json::{Value, json};

fn watcher(daemon: &mut Daemon) -> ConnId {
    let hello = json!({"type": "hello", "ack": false, "topics": ["alerts"]});
    daemon.connect("/ws", "root", "user operate", &hello)
}

/// Which alerts were raised and cleared since the last time, and what was said of each.
fn told(daemon: &mut Daemon, watcher: ConnId) -> Vec<(String, String, Value)> {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let heard = daemon.heard(watcher).into_iter().filter(|said| said["topic"] == "alerts");
    heard.map(|said| (word(&said["event"]), word(&said["data"]["alert"]), said["data"].clone())).collect()
}

#[test]
fn a_queue_is_high_from_eight_tenths_of_its_room_to_below_seven() {
    let mut daemon = Daemon::new(|config| config.runs.queued = 10);
    let (watcher, user) = (watcher(&mut daemon), daemon.user("alice"));
    let mut runs: Vec<String> = (0..7).map(|_| daemon.ask(user)).collect();
    assert_eq!(told(&mut daemon, watcher), []);
    runs.push(daemon.ask(user));
    let raised = told(&mut daemon, watcher);
    assert_eq!(raised.len(), 1, "{raised:?}");
    assert_eq!((&*raised[0].0, &*raised[0].1), ("alert_raised", "queue_high"));
    assert_eq!(raised[0].2["message"], "8 of 10 runs are queued");

    let cancel = |daemon: &mut Daemon, run: &str| daemon.says(user, &json!({"type": "cancel", "run": run}));
    cancel(&mut daemon, &runs[0]);
    assert_eq!(told(&mut daemon, watcher), [], "at seven tenths it is high still");
    cancel(&mut daemon, &runs[1]);
    let cleared = told(&mut daemon, watcher);
    assert_eq!(cleared.len(), 1, "{cleared:?}");
    assert_eq!((&*cleared[0].0, &*cleared[0].1), ("alert_cleared", "queue_high"));
}

#[test]
fn memory_is_high_from_eight_tenths_of_the_budget_to_below_seven() {
    const MIB: u64 = 1 << 20;
    let mut daemon = Daemon::new(|config| config.store.memory = 100 * MIB);
    let watcher = watcher(&mut daemon);
    let mut after = |used: u64| {
        daemon.feed(Input::Memory { used: used * MIB });
        let told = told(&mut daemon, watcher);
        told.into_iter().map(|(event, alert, _)| format!("{event} {alert}")).collect::<Vec<_>>()
    };
    assert_eq!(after(79), [""; 0]);
    assert_eq!(after(80), ["alert_raised memory_high"]);
    assert_eq!(after(70), [""; 0]);
    assert_eq!(after(69), ["alert_cleared memory_high"]);
}

#[test]
fn connections_are_high_from_eight_tenths_of_their_limit() {
    let mut daemon = Daemon::new(|config| config.server.connections = 10);
    let watcher = watcher(&mut daemon);
    for user in 0..6 {
        daemon.user(&format!("user-{user}"));
    }
    assert_eq!(told(&mut daemon, watcher), []);
    daemon.user("user-6");
    let raised = told(&mut daemon, watcher);
    assert_eq!(raised.len(), 1, "{raised:?}");
    assert_eq!((&*raised[0].0, &*raised[0].1), ("alert_raised", "connections_high"));
}

/// Who would be refused at one moment and let in at the next could count on nothing.
#[test]
fn memory_that_is_short_is_so_until_there_is_clearly_more() {
    const MIB: u64 = 1 << 20;
    let mut daemon = Daemon::new(|config| config.store.memory = 100 * MIB);
    let user = daemon.user("alice");
    let mut is_refused = |used: u64| {
        daemon.feed(Input::Memory { used: used * MIB });
        daemon.heard(user);
        daemon.says(user, &json!({"type": "run", "agent": "echo", "input": 1}));
        daemon.heard(user).iter().any(|said| said["code"] == "overloaded")
    };
    assert_eq!([94, 95, 90, 89, 94].map(&mut is_refused), [false, true, true, false, false]);
}
