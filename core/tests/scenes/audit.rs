//! The audit trail: who is refused for want of a right, as far as a good token says.

use crate::daemon::Daemon;
use runcast_core::ids::User;
use serde_json::json;

#[test]
fn whoever_is_refused_at_the_door_for_want_of_a_scope_is_named() {
    let mut daemon = Daemon::new(|_| {});
    daemon.connect("/worker", "mallory", "user", &json!({"type": "hello"}));
    let by: Vec<_> = daemon.trail.iter().map(|line| line.by.as_ref().map(User::as_str)).collect();
    assert_eq!(by, [Some("mallory")]);
}
