//! How many messages a connection may send (PROTOCOL §5): those that cannot be read, or are refused, count
//! too, whoever sends them.

use crate::daemon::Daemon;
use runcast_core::ids::ConnId;
use runcast_core::input::{Input, Message};
use runcast_core::time::Span;
use serde_json::json;

fn code(daemon: &Daemon, conn: ConnId) -> Option<u16> {
    daemon.closed(conn).map(|code| code as u16)
}

fn worker(daemon: &mut Daemon) -> ConnId {
    daemon.worker(&json!({"type": "hello", "worker": "w", "agents": [{"agent": "echo"}]}))
}

/// How often each code was answered until the connection was closed.
fn say_until_closed(daemon: &mut Daemon, conn: ConnId, text: &str, code: &str) -> [usize; 2] {
    for _ in 0..1_000 {
        daemon.feed(Input::Message { conn, message: Message::Text(text) });
    }
    let heard = daemon.heard(conn);
    [code, "rate_limited"].map(|code| heard.iter().filter(|said| said["code"] == code).count())
}

#[test]
fn what_cannot_be_read_of_a_worker_counts() {
    let texts = [
        ("garbage", "bad_json"),
        (r#"{"type":"what"}"#, "unknown_type"),
        (r#"{"type":"got","run":7}"#, "bad_message"),
    ];
    for (text, refused) in texts {
        let mut daemon = Daemon::new(|_| {});
        let worker = worker(&mut daemon);
        daemon.heard(worker);
        assert_eq!(say_until_closed(&mut daemon, worker, text, refused), [200, 199], "{text}");
        assert_eq!(code(&daemon, worker), Some(4509), "{text}");
    }
}

#[test]
fn a_worker_whose_numbering_is_lost_is_told_so_however_much_it_has_said() {
    let mut daemon = Daemon::new(|_| {});
    let worker = worker(&mut daemon);
    for _ in 0..300 {
        daemon.says(worker, &json!({"type": "beat"}));
    }
    daemon.heard(worker);
    daemon.says(worker, &json!({"type": "event", "run": 7}));
    assert_eq!(daemon.heard(worker)[0]["code"], "bad_message");
    assert_eq!(code(&daemon, worker), Some(4504));
}

#[test]
fn an_acknowledgement_counts_if_it_is_refused() {
    let mut daemon = Daemon::new(|_| {});
    let user = daemon.user("alice");
    daemon.ask(user);
    daemon.heard(user);
    // These are no trouble: a client may acknowledge each of thousands of events.
    let fine = say_until_closed(&mut daemon, user, r#"{"type":"ack","seq":1}"#, "ack_ahead");
    assert_eq!((fine, code(&daemon, user)), ([0, 0], None));
    let ahead = say_until_closed(&mut daemon, user, r#"{"type":"ack","seq":999999}"#, "ack_ahead");
    // The run before has used one up.
    assert_eq!((ahead, code(&daemon, user)), ([199, 199], Some(4509)));
}

/// Of a client that is a little too fast now and then, nobody says that it goes on in spite of it.
#[test]
fn refusals_of_long_ago_do_not_count() {
    let mut daemon = Daemon::new(|config| {
        (config.limits.messages_per_second, config.limits.burst) = (10, 10);
        config.server.heartbeat = Span::secs(3600);
    });
    let user = daemon.user("alice");
    for _ in 0..5 {
        for _ in 0..15 {
            daemon.says(user, &json!({"type": "ping"}));
        }
        assert_eq!(code(&daemon, user), None);
        daemon.pass(Span::secs(11));
    }
    for _ in 0..20 {
        daemon.says(user, &json!({"type": "ping"}));
    }
    assert_eq!(code(&daemon, user), Some(4509));
}
