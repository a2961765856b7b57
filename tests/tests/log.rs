//! The log tells each thing that happens in a line with its ids, and never what users write or show.

use runcast_tests::{Ask, Daemon, User, Worker, sign, token};
use serde_json::json;

#[test]
fn a_run_is_followed_from_connection_to_close_and_nothing_private_is_told() {
    let daemon = Daemon::start(&["delivery.undelivered_after=100ms"]);
    let (door, log) = (daemon.door(), daemon.log());
    let mut worker = Worker::connect(&door, 1, &json!([])).expect("a welcome");
    let joined = log.nth(1, "worker connected");
    assert_eq!((&joined["worker"], &joined["sub"]), (&json!("w-1"), &json!("workers")));
    let mut user = User::connected("alice", "laptop", &door);
    let connected = log.nth(1, "connected");
    assert_eq!((&connected["user"], &connected["device"]), (&json!("alice"), &json!("laptop")));
    assert_eq!(connected["peer"], "127.0.0.1");
    user.run("key_1", "thread_1", &json!("#private-question"));
    let run = worker.take();
    worker.complete(&run, 1, &json!("#private-answer"));
    user.until("agent_completed");
    let accepted = log.nth(1, "run accepted");
    assert_eq!((&accepted["run"], &accepted["user"]), (&run["run"], &json!("alice")));
    assert_eq!(accepted["agent"], "research");
    let started = log.nth(1, "run started");
    assert_eq!((&started["run"], &started["worker"]), (&run["run"], &json!("w-1")));
    let ended = log.nth(1, "run ended");
    assert_eq!((&ended["run"], &ended["status"]), (&run["run"], &json!("ok")));
    assert_eq!(log.nth(1, "run undelivered")["run"], run["run"]);

    let foreign = sign(&json!({ "sub": "mallory", "exp": u32::MAX }), b"another secret, thirty-two bytes");
    assert_eq!(Ask::new("GET", "/v1/runs").token(&foreign).send(&door).status, 401);
    assert_eq!(log.nth(1, "refused")["code"], "token_signature");
    let operator = token("olga", "operate");
    assert_eq!(
        Ask::new("POST", "/v1/users/alice/disconnect").token(&operator).body("").send(&door).status,
        200
    );
    let closed = log.nth(1, "closed");
    assert_eq!((&closed["conn"], &closed["code"]), (&connected["conn"], &json!(4507)));
    assert_eq!(closed["reason"], "an operator has disconnected this user");

    for line in log.lines() {
        for private in ["#private", foreign.as_str(), operator.as_str(), &token("alice", "user")] {
            assert!(!line.contains(private), "{line}");
        }
    }
}
