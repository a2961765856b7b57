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
