//! Erasing a user (PROTOCOL §7 `DELETE /v1/users/{user}`) of whom the store cannot read what it has.

use crate::daemon::Daemon;
use serde_json::json;

#[test]
fn what_cannot_be_read_cannot_be_erased_and_that_is_said() {
    let mut daemon = Daemon::new(|_| {});
    let user = daemon.user("alice");
    let run = daemon.ask(user);
    daemon.says(user, &json!({"type": "cancel", "run": run}));

    daemon.is_damaged = true;
    let (status, problem) = daemon.operator("DELETE", "/v1/users/alice");
    assert_eq!((status, &problem["code"]), (503, &json!("storage_unavailable")));

    daemon.is_damaged = false;
    let (status, _) = daemon.operator("DELETE", "/v1/users/alice");
    assert_eq!(status, 204, "it can be tried again");
}
