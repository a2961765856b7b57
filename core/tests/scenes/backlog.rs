//! `backlog` (PROTOCOL §4): whoever acknowledges nothing is told that more waits, also where a few long
//! events have filled the window.

use crate::daemon::Daemon;
use runcast_core::time::Span;
use serde_json::json;

#[test]
fn a_window_full_of_bytes_is_told_of_at_once_and_every_five_seconds() {
    let mut daemon = Daemon::new(|_| {});
    let worker = daemon.worker(&json!({"type": "hello", "agents": [{"agent": "echo", "slots": 1}]}));
    let user = daemon.user("alice");
    daemon.ask(user);
    let run = daemon.start(worker);
    let text = "x".repeat(400_000);
    for n in 1..=4 {
        let data = json!({"name": "long", "value": text});
        daemon.says(
            worker,
            &json!({"type": "event", "run": run, "attempt": 1, "n": n, "event": "custom", "data": data}),
        );
    }
    let is_told = |said: &serde_json::Value| said["notice"] == "backlog" && said["behind"] == json!(6);
    assert_eq!(daemon.heard(user).into_iter().filter(is_told).count(), 1);
    daemon.pass(Span::secs(5));
    let heard = daemon.heard(user);
    assert_eq!(heard.iter().filter(|said| is_told(said)).count(), 1);
    let sent = heard.iter().filter_map(|said| said["seq"].as_u64()).max();
    daemon.says(user, &json!({"type": "ack", "seq": sent.or(Some(5))}));
    let heard = daemon.heard(user);
    let over = heard.iter().find(|said| said["notice"] == "backlog").expect("it is told of its end");
    assert_eq!((&over["behind"], heard.iter().any(|said| said["seq"] == 6)), (&json!(0), true));
}
