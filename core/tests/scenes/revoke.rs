//! Revoked tokens are remembered of so many users (DESIGN, fifth law): a user more is refused, one of them
//! not.

use crate::daemon::Daemon;
use runcast_core::input::Input;
use runcast_core::time::Span;
use serde_json::{Value, json};

/// How a request is answered whose token was made in this second.
fn with_token_of(daemon: &mut Daemon, second: u64) -> Value {
    daemon.claims.iat = Some(second);
    let (_, answer) = daemon.request("GET", "/v1/runs", "alice", "user");
    answer.get("code").unwrap_or(&answer["runs"]).clone()
}

/// `iat` counts seconds: a token that was made before in the same second cannot be told from one made after.
#[test]
fn tokens_that_were_made_in_the_second_of_a_revocation_are_refused() {
    let mut daemon = Daemon::new(|_| {});
    for before in [Span::ZERO, Span::millis(999)] {
        let mut daemon = Daemon::new(|_| {});
        daemon.pass(Span::secs(100) + before);
        assert_eq!(daemon.operator("POST", "/v1/users/alice/revoke").0, 200);
        assert_eq!(with_token_of(&mut daemon, 100), "token_revoked");
        assert_eq!(with_token_of(&mut daemon, 101), json!([]));
    }
    assert_eq!(with_token_of(&mut daemon, 0), json!([]), "of nobody revoked");
}

#[test]
fn what_was_refused_stays_so_though_the_clock_goes_back() {
    let mut daemon = Daemon::new(|_| {});
    daemon.pass(Span::secs(100));
    daemon.operator("POST", "/v1/users/alice/revoke");
    daemon.set_clock(50);
    let (_, answer) = daemon.operator("POST", "/v1/users/alice/revoke");
    assert_eq!(answer["upto_ts"], 100_000);
    assert_eq!(with_token_of(&mut daemon, 80), "token_revoked");
}

#[test]
fn a_request_whose_token_is_revoked_before_its_body_has_come_is_refused() {
    let mut daemon = Daemon::new(|_| {});
    let body = r#"{"event":"flash","data":1}"#;
    let conn = daemon.post("/v1/topics/system/events", ("press", "publish"), None, body);
    daemon.operator("POST", "/v1/users/press/revoke");
    daemon.feed(Input::Body { conn, body: body.as_bytes() });
    let (status, problem) = daemon.answered(conn).expect("it is answered");
    assert_eq!((*status, &problem["code"]), (401, &json!("token_revoked")));
}

#[test]
fn of_a_user_more_than_are_remembered_no_tokens_can_be_revoked() {
    let mut daemon = Daemon::new(|config| config.limits.revoked = 1);
    assert_eq!(daemon.operator("POST", "/v1/users/alice/revoke").0, 200);
    assert_eq!(daemon.operator("POST", "/v1/users/alice/revoke").0, 200);
    assert_eq!(daemon.operator("POST", "/v1/users/bob/revoke").0, 503);
}
