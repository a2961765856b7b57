//! A stream of server-sent events (PROTOCOL §7 `GET /v1/stream`): its ids are what one resumes after.

use crate::daemon::Daemon;
use runcast_core::time::Span;
use serde_json::json;

#[test]
fn a_comment_names_how_far_the_stream_is_and_not_what_is_still_to_be_read() {
    let mut daemon = Daemon::new(|_| {});
    let user = daemon.user("alice");
    for _ in 0..3 {
        daemon.says(user, &json!({"type": "run", "thread": "t", "agent": "echo", "input": 1}));
    }
    let head = daemon.heard(user).iter().filter_map(|said| said["seq"].as_u64()).max();
    assert_eq!(head, Some(3));
    daemon.says(user, &json!({"type": "ack", "seq": head}));
    daemon.pass(Span::secs(1));
    daemon.answers_late = true;
    let stream = daemon.stream("thread=t&from=oldest", "alice");
    let id = |daemon: &mut Daemon| {
        let heard = daemon.heard(stream);
        let texts = heard.iter().filter_map(|said| said.as_str());
        let mut ids = texts.flat_map(str::lines).filter_map(|line| line.strip_prefix("id: "));
        ids.next_back().and_then(|id| id.rsplit_once(':')).map(|(_, seq)| seq.to_owned())
    };
    assert_eq!(id(&mut daemon).as_deref(), Some("0"));
    daemon.pass(Span::secs(10));
    assert_eq!(id(&mut daemon).as_deref(), Some("0"), "the store has not answered");
    daemon.answer();
    assert_eq!(id(&mut daemon).as_deref(), Some("3"));
    daemon.pass(Span::secs(10));
    assert_eq!(id(&mut daemon).as_deref(), Some("3"));
}
