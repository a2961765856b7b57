//! Erasing a user (PROTOCOL §7 `DELETE /v1/users/{user}`) of whom the store cannot read what it has.

use crate::daemon::Daemon;
use runcast_core::record::Table;
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

#[test]
fn an_operator_sees_nothing_more_of_who_was_erased() {
    let mut daemon = Daemon::new(|_| {});
    for name in ["alice", "bob"] {
        let user = daemon.user(name);
        let run = daemon.ask(user);
        daemon.says(user, &json!({"type": "cancel", "run": run}));
    }
    let ended = |daemon: &mut Daemon| {
        let lists = daemon.operator("GET", "/v1/status?limit=10").1["lists"].clone();
        let items = lists["ended"]["items"].as_array().expect("a list").clone();
        items.into_iter().map(|run| run["user"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(ended(&mut daemon), ["bob", "alice"]);
    assert_eq!(daemon.operator("DELETE", "/v1/users/alice").0, 204);
    assert_eq!(ended(&mut daemon), ["bob"]);
    let of_runs = [Table::Ended, Table::History, Table::EndAge, Table::Undelivered];
    assert_eq!(of_runs.map(|table| daemon.stored(table)), [1; 4], "bob's");
    assert_eq!(daemon.operator("GET", "/v1/users/alice").0, 404);
}
