//! Behind a proxy that is trusted, limits count for the address that it tells; from anybody else nothing is
//! believed.

use runcast_tests::{Answer, Ask, Daemon, Door, token};
use serde_json::json;
use std::net::TcpStream;

fn stream(door: &Door, headers: &[(&str, &str)]) -> TcpStream {
    let ask = Ask::new("GET", "/v1/stream").token(&token("alice", "user"));
    let ask = headers.iter().fold(ask, |ask, (name, value)| ask.header(name, value));
    ask.header("accept", "text/event-stream").open(door)
}

fn asked(door: &Door, headers: &[(&str, &str)]) -> Answer {
    let ask = Ask::new("GET", "/v1/runs").token(&token("alice", "user"));
    headers.iter().fold(ask, |ask, (name, value)| ask.header(name, value)).send(door)
}

/// Waits until the daemon has answered a request that goes on.
fn begun(stream: &TcpStream) {
    let mut byte = [0];
    assert_eq!(stream.peek(&mut byte).expect("an answer"), 1);
}

#[test]
fn connections_count_for_whom_a_trusted_proxy_speaks() {
    let daemon =
        Daemon::start(&["server.connections_per_address=1", "server.trusted_proxies=[\"127.0.0.0/8\"]"]);
    let door = daemon.door();
    let one = stream(&door, &[("x-forwarded-for", "evil, 1.2.3.4")]);
    begun(&one);
    let other = stream(&door, &[("forwarded", "for=\"[2001:db8::1]:99\";proto=https")]);
    begun(&other);
    for headers in [
        &[("x-forwarded-for", "9.9.9.9, 1.2.3.4")][..],
        &[("x-forwarded-for", "9.9.9.9"), ("x-forwarded-for", "1.2.3.4")],
        &[("forwarded", "for=1.2.3.4"), ("x-forwarded-for", "1.2.3.4")],
        &[("forwarded", "for=9.9.9.9, for=\"[2001:db8::1]\"")],
    ] {
        let answer = asked(&door, headers);
        assert_eq!((answer.status, &answer.json["code"]), (429, &json!("rate_limited")), "{headers:?}");
    }
    assert_eq!(asked(&door, &[("x-forwarded-for", "1.2.3.5")]).status, 200);
    let both = asked(&door, &[("forwarded", "for=1.2.3.5"), ("x-forwarded-for", "1.2.3.6")]);
    assert_eq!((both.status, &both.json["code"]), (400, &json!("bad_message")));
}

#[test]
fn of_others_no_header_is_believed() {
    let daemon = Daemon::start(&["server.connections_per_address=1"]);
    let door = daemon.door();
    let one = stream(&door, &[("x-forwarded-for", "1.2.3.4")]);
    begun(&one);
    assert_eq!(asked(&door, &[("x-forwarded-for", "1.2.3.5")]).status, 429);
    assert_eq!(asked(&door, &[("forwarded", "for=1.2.3.5"), ("x-forwarded-for", "1.2.3.6")]).status, 429);
}
