//! A connection over a pipe in memory: what a peer sends, how it is cut, and what comes of it.

mod common;

use bytes::Bytes;
use common::{Pipe, frame, raw_frame, upgrade_request};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use runcast::conn::{Conn, Edge, Incoming};
use runcast_core::effect::{Content, Page, Response};
use runcast_core::input::{BodyLength, HeadProblem, UpgradeRequest};
use runcast_core::wire::error::CloseCode;
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

const LIMIT: usize = 1000;

/// All that comes in now.
fn receive(conn: &mut Conn<Pipe>) -> Vec<Incoming> {
    receive_after(Edge::UntilBlocked, conn).0
}

/// The same, and how often the stream is read for it.
fn receive_after(edge: Edge, conn: &mut Conn<Pipe>) -> (Vec<Incoming>, usize) {
    let before = conn.stream().reads();
    conn.edge(edge);
    conn.begin();
    let all = std::iter::from_fn(|| conn.receive()).collect();
    (all, conn.stream().reads() - before)
}

/// A connection, and its peer's end.
fn pair() -> (Conn<Pipe>, Pipe) {
    let (server, client) = Pipe::pair();
    (Conn::new(server), client)
}

/// An upgraded connection. The peer has read the answer.
fn open() -> (Conn<Pipe>, Pipe) {
    let (mut conn, mut client) = pair();
    client.put(upgrade_request("").as_bytes());
    assert!(matches!(receive(&mut conn)[..], [Incoming::Request(_)]));
    conn.upgrade(LIMIT);
    conn.flush();
    let answer = String::from_utf8(client.take()).expect("an answer in ASCII");
    assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
    assert!(answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
    assert!(answer.ends_with("Sec-WebSocket-Protocol: runcast.v1\r\n\r\n"), "{answer}");
    (conn, client)
}

fn text(text: &str) -> Incoming {
    Incoming::Text(text.into())
}

fn response(status: u16, content: Content) -> Response {
    Response::new(status, content)
}

#[test]
fn a_head_says_the_same_however_it_is_cut() {
    let whole = upgrade_request(
        "Origin: http://a.example\r\nAuthorization: Bearer x.y.z\r\n\
         Sec-WebSocket-Protocol: runcast.v1\r\nSec-WebSocket-Protocol: jwt.a.b.c\r\n",
    );
    let (mut conn, client) = pair();
    client.put(whole.as_bytes());
    let expected = receive(&mut conn);
    let [Incoming::Request(request)] = &expected[..] else { panic!("{expected:?}") };
    let head = request.head();
    assert_eq!((head.method, head.path, head.query), ("GET", "/ws", Some("x=1")));
    assert_eq!((head.host, head.origin), (Some("localhost:8787"), Some("http://a.example")));
    assert_eq!(head.authorization, Some("Bearer x.y.z"));
    assert_eq!(head.protocols, Some("runcast.v1, jwt.a.b.c"));
    assert_eq!(head.upgrade, UpgradeRequest::Valid);
    for cut in 1..whole.len() {
        let (mut conn, client) = pair();
        client.put(&whole.as_bytes()[..cut]);
        assert_eq!(receive(&mut conn), [], "cut at {cut}");
        client.put(&whole.as_bytes()[cut..]);
        assert_eq!(receive(&mut conn), expected, "cut at {cut}");
    }
}

#[test]
fn frames_in_the_segment_of_the_head_are_kept_until_the_upgrade() {
    let (mut conn, client) = pair();
    client.put(&[upgrade_request("").as_bytes(), &frame(1, b"hello"), &frame(1, b"run")].concat());
    assert!(matches!(receive(&mut conn)[..], [Incoming::Request(_)]));
    client.put(&frame(1, b"more"));
    assert_eq!(receive(&mut conn), [], "nothing is read while the request is judged");
    conn.upgrade(LIMIT);
    assert_eq!(receive(&mut conn), [text("hello"), text("run"), text("more")]);
}

#[test]
fn every_byte_alone_makes_the_same_conversation() {
    let (mut conn, mut client) = pair();
    client.chunk(1);
    conn.stream().chunk(1);
    client.put(&[upgrade_request("").as_bytes(), &frame(1, b"hello"), &frame(9, b"?")].concat());
    assert!(matches!(receive(&mut conn)[..], [Incoming::Request(_)]));
    conn.upgrade(LIMIT);
    assert_eq!(receive(&mut conn), [text("hello"), Incoming::Ping]);
    conn.send(Bytes::from_static(b"welcome"));
    assert_eq!(conn.flush(), 7);
    let said = client.take();
    assert!(said.ends_with(&[&[0x8a, 1, b'?'][..], &[0x81, 7], b"welcome"].concat()), "{said:?}");
}

#[test]
fn a_real_client_is_understood_and_understands() {
    let (mut conn, mut client) = pair();
    let request = "ws://localhost/ws".parse::<tungstenite::http::Uri>().unwrap();
    let request = tungstenite::ClientRequestBuilder::new(request).with_sub_protocol("runcast.v1");
    let Err(tungstenite::HandshakeError::Interrupted(handshake)) =
        tungstenite::client(request, client.clone())
    else {
        panic!("an answer before the request");
    };
    let incoming = receive(&mut conn);
    let [Incoming::Request(request)] = &incoming[..] else { panic!("{incoming:?}") };
    assert_eq!(request.head().upgrade, UpgradeRequest::Valid);
    conn.upgrade(LIMIT);
    conn.flush();
    let (mut socket, answer) = handshake.handshake().unwrap();
    assert_eq!(answer.headers()["sec-websocket-protocol"], "runcast.v1");
    socket.send(Message::text("größer")).unwrap();
    assert_eq!(receive(&mut conn), [text("größer")]);
    conn.send(Bytes::from("ja"));
    conn.ping();
    conn.flush();
    assert_eq!(socket.read().unwrap(), Message::text("ja"));
    assert!(socket.read().unwrap().is_ping());
    socket.flush().unwrap();
    assert_eq!(receive(&mut conn), [Incoming::Pong]);
    socket.close(None).unwrap();
    assert_eq!(receive(&mut conn), [Incoming::Gone]);
    assert!(!conn.is_over(), "the close is not answered");
    conn.flush();
    assert!(conn.is_over());
    assert!(socket.read().unwrap().is_close());
    assert_eq!(client.take(), b"");
}

#[test]
fn what_is_not_a_head_is_told_once() {
    let cases: [(&[u8], HeadProblem); 5] = [
        (b"\x16\x03\x01\x02\x00\x01", HeadProblem::Malformed("a request line, `GET /path HTTP/1.1`")),
        (b"hello\r\n", HeadProblem::Malformed("a request line, `GET /path HTTP/1.1`")),
        (b"GET / HTTP/1.1\r\nno colon\r\n", HeadProblem::Malformed("a header line, `Name: value`")),
        (b"GET / HTTP/2.0\r\n\r\n", HeadProblem::Malformed("HTTP/1.1")),
        (b"GET / HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n", HeadProblem::Malformed("header values in ASCII")),
    ];
    for (bytes, problem) in cases {
        let (mut conn, client) = pair();
        client.put(bytes);
        assert_eq!(receive(&mut conn), [Incoming::BadHead(problem)], "{bytes:?}");
        client.put(b"more");
        assert_eq!(receive(&mut conn), []);
    }
}

#[test]
fn heads_have_a_limit_of_bytes_and_of_headers() {
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(16 * 1024));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: x\r\n".repeat(65));
    for (head, chunk) in [(&long, 16), (&long, 100_000), (&many, 1), (&many, 100_000)] {
        let (mut conn, client) = pair();
        client.chunk(chunk);
        client.put(head.as_bytes());
        assert_eq!(receive(&mut conn), [Incoming::BadHead(HeadProblem::TooLarge)]);
    }
    let most = format!("GET / HTTP/1.1\r\n{}\r\n", "X: x\r\n".repeat(64));
    let (mut conn, client) = pair();
    client.put(most.as_bytes());
    assert!(matches!(receive(&mut conn)[..], [Incoming::Request(_)]));
}

#[test]
fn a_request_for_a_websocket_says_what_it_lacks() {
    let good = upgrade_request("");
    let cases = [
        ("GET", "POST", UpgradeRequest::Invalid("the method GET")),
        ("HTTP/1.1", "HTTP/1.0", UpgradeRequest::Invalid("HTTP/1.1")),
        ("keep-alive, Upgrade", "keep-alive", UpgradeRequest::Invalid("Connection: Upgrade")),
        ("Version: 13", "Version: 8", UpgradeRequest::Invalid("Sec-WebSocket-Version: 13")),
        ("ZQ==", "ZQ=", UpgradeRequest::Invalid("a Sec-WebSocket-Key of 16 bytes in base64")),
        ("Upgrade: websocket", "Upgrade: h2c", UpgradeRequest::No),
        ("Upgrade: websocket", "upgrade: WebSocket, x", UpgradeRequest::Valid),
    ];
    for (from, to, expected) in cases {
        let (mut conn, client) = pair();
        client.put(good.replacen(from, to, 1).as_bytes());
        let incoming = receive(&mut conn);
        let [Incoming::Request(request)] = &incoming[..] else { panic!("{incoming:?}") };
        assert_eq!(request.head().upgrade, expected, "{from} → {to}");
    }
}

#[test]
fn a_header_that_must_be_one_may_not_be_two() {
    for line in ["Host: other", "Authorization: a\r\nAuthorization: b", "Sec-WebSocket-Key: x"] {
        let (mut conn, client) = pair();
        client.put(upgrade_request(&format!("{line}\r\n")).as_bytes());
        let incoming = receive(&mut conn);
        assert!(matches!(incoming[..], [Incoming::BadHead(HeadProblem::Malformed(_))]), "{incoming:?}");
    }
}

#[test]
fn what_breaks_the_rules_of_frames_is_told_once_and_nothing_more_is_read() {
    let mask = Some([1, 2, 3, 4]);
    let cases = [
        (frame(1, &[b'x'; LIMIT + 1]), Incoming::TooLarge),
        ([raw_frame(1, mask, &[b'x'; 600]), frame(0, &[b'x'; 600])].concat(), Incoming::TooLarge),
        (frame(1, b"\xff\xfe"), Incoming::NotUtf8),
        (raw_frame(0x81, None, b"x"), Incoming::Breach("a masked frame was expected")),
        (frame(3, b"x"), Incoming::Breach("an opcode of RFC 6455 was expected")),
        (frame(0, b"x"), Incoming::Breach("a first frame was expected, not a continuation")),
        (frame(9, &[b'x'; 126]), Incoming::Breach("a control frame of at most 125 bytes was expected")),
        (raw_frame(9, mask, b"x"), Incoming::Breach("a control frame in one piece was expected")),
        (
            [raw_frame(1, mask, b"a"), frame(1, b"b")].concat(),
            Incoming::Breach("a continuation was expected, not a first frame"),
        ),
        (
            raw_frame(0xc1, mask, b"x"),
            Incoming::Breach("reserved bits of zero were expected: no extension was agreed"),
        ),
        (frame(8, b"x"), Incoming::Breach("a close frame with no payload, or a code and text, was expected")),
    ];
    for (bytes, expected) in cases {
        let (mut conn, mut client) = open();
        client.put(&[&frame(1, b"before"), &bytes, &frame(1, b"after")[..]].concat());
        assert_eq!(receive(&mut conn), [text("before"), expected.clone()]);
        assert_eq!(receive(&mut conn), []);
        conn.close(CloseCode::Violation, "no");
        conn.flush();
        assert!(conn.is_over());
        assert_eq!(client.take(), [&[0x88, 4], &4504u16.to_be_bytes()[..], b"no"].concat(), "{expected:?}");
    }
}

#[test]
fn a_binary_message_is_told_and_the_connection_goes_on() {
    let (mut conn, client) = open();
    client.put(&[frame(2, b"\x00\xff"), frame(1, b"on")].concat());
    assert_eq!(receive(&mut conn), [Incoming::Binary, text("on")]);
}

#[test]
fn flushed_counts_whole_messages_and_nothing_else() {
    let (mut conn, mut client) = open();
    conn.stream().room(0);
    conn.send(Bytes::from(vec![b'a'; 10]));
    conn.ping();
    client.put(&frame(9, b"ping"));
    receive(&mut conn);
    conn.send(Bytes::from(vec![b'b'; 300]));
    conn.send(Bytes::new());
    assert_eq!(conn.flush(), 0);
    // On the wire: 12 bytes of `a`, 2 of the ping, 6 of the pong, 304 of `b`, 2 of nothing.
    for (room, gone) in [(11, 0), (1, 10), (8, 0), (303, 0), (1, 300), (1, 0), (9, 0)] {
        conn.stream().room(room);
        conn.edge(Edge::UntilBlocked);
        assert_eq!(conn.flush(), gone, "room for {room}");
    }
    assert!(!conn.can_flush());
    assert_eq!(client.take().len(), 12 + 2 + 6 + 304 + 2);
}

#[test]
fn a_stream_is_read_as_far_as_its_edge_says() {
    let (mut conn, client) = open();
    assert_eq!(receive(&mut conn), []);
    client.put(&frame(1, b"one"));
    assert_eq!(receive_after(Edge::UntilShort, &mut conn), (vec![text("one")], 1));
    client.put(&frame(1, b"two"));
    assert_eq!(conn.receive(), None, "without an edge it is not read");
    assert_eq!(receive_after(Edge::UntilBlocked, &mut conn), (vec![text("two")], 2));
    client.put(&frame(1, b"three"));
    conn.edge(Edge::UntilShort);
    conn.begin();
    assert_eq!(conn.receive(), Some(text("three")));
    assert!(!conn.has_more(), "the last of it is known for the last");
    let (long, many) = ("long".repeat(200), 20);
    client.put(&frame(1, long.as_bytes()).repeat(many));
    let (all, reads) = receive_after(Edge::UntilShort, &mut conn);
    assert_eq!(all, vec![text(&long); many]);
    assert!((2..=many).contains(&reads), "{reads} reads of as much as there is room for, and a short one");
    client.put(&[frame(9, b"?"), frame(1, b"last")].concat());
    client.end();
    conn.edge(Edge::UntilBlocked);
    let all = [Incoming::Ping, text("last"), Incoming::Gone];
    assert_eq!(receive_after(Edge::UntilShort, &mut conn).0, all, "the edge that promises less counts");
}

#[test]
fn all_that_is_said_in_a_turn_is_one_write() {
    let (mut conn, client) = open();
    let before = conn.stream().writes();
    client.put(&[frame(9, b"1"), frame(9, b"2")].concat());
    receive(&mut conn);
    for _ in 0..100 {
        conn.send(Bytes::from_static(b"an event"));
    }
    conn.ping();
    assert_eq!(conn.stream().writes(), before);
    assert_eq!(conn.flush(), 800);
    assert_eq!(conn.stream().writes(), before + 1);
}

#[test]
fn what_is_queued_leaves_before_the_close_frame() {
    let (mut conn, client) = open();
    conn.stream().room(3);
    conn.send(Bytes::from_static(b"last"));
    conn.close(CloseCode::Replaced, &"é".repeat(100));
    assert_eq!(conn.flush(), 0);
    assert!(!conn.is_over());
    conn.send(Bytes::from_static(b"too late"));
    conn.stream().room(1000);
    conn.edge(Edge::UntilBlocked);
    assert_eq!(conn.flush(), 4);
    assert!(conn.is_over());
    let mut socket = WebSocket::from_raw_socket(client, Role::Client, None);
    assert_eq!(socket.read().unwrap(), Message::text("last"));
    let Message::Close(Some(close)) = socket.read().unwrap() else { panic!("no close") };
    assert_eq!(u16::from(close.code), 4510);
    assert_eq!(close.reason.as_str(), "é".repeat(61), "cut between letters");
}

#[test]
fn nothing_comes_after_the_close_frame() {
    let (mut conn, mut client) = open();
    client.put(&frame(9, b"?"));
    conn.edge(Edge::UntilBlocked);
    conn.begin();
    assert_eq!(conn.receive(), Some(Incoming::Ping));
    conn.close(CloseCode::Normal, "");
    conn.flush();
    assert_eq!(client.take(), [0x8a, 1, b'?', 0x88, 2, 0x03, 0xe8]);
}

#[test]
fn a_peer_that_takes_no_pongs_is_not_read_until_it_does() {
    let (mut conn, mut client) = open();
    conn.stream().room(0);
    client.put(&frame(9, b"x").repeat(1000));
    assert_eq!(receive(&mut conn).len(), 64);
    conn.flush();
    assert_eq!(receive(&mut conn).len(), 0);
    let mut heard = 64;
    while heard < 1000 {
        conn.stream().room(100_000);
        conn.edge(Edge::UntilBlocked);
        conn.flush();
        assert!(conn.has_more());
        heard += receive(&mut conn).len();
        client.take();
    }
    assert_eq!(heard, 1000);
}

#[test]
fn a_connection_that_is_not_to_be_read_keeps_what_it_has() {
    let (mut conn, client) = open();
    conn.read(false);
    client.put(&frame(1, b"later"));
    assert_eq!(receive(&mut conn), []);
    conn.read(true);
    assert_eq!(receive(&mut conn), [text("later")]);
}

#[test]
fn one_turn_reads_a_bounded_amount() {
    let (mut conn, client) = open();
    client.put(&raw_frame(0x01, Some([0; 4]), b"x"));
    client.put(&raw_frame(0x00, Some([0; 4]), b"").repeat(100_000));
    assert_eq!(receive(&mut conn), []);
    assert!(conn.has_more(), "600 kB of empty fragments are not read in one turn");
    assert!(!client.is_drained());
}

#[test]
fn a_peer_that_is_gone_is_told_once() {
    let (mut conn, client) = open();
    client.put(&frame(1, b"bye"));
    client.end();
    assert_eq!(receive(&mut conn), [text("bye"), Incoming::Gone]);
    assert!(conn.is_over());
    assert_eq!(receive(&mut conn), []);
    conn.send(Bytes::from_static(b"nobody"));
    assert_eq!(conn.flush(), 0);
}

#[test]
fn an_answer_ends_the_connection_and_a_head_request_gets_no_body() {
    let expected = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n\
        Content-Length: 17\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
        Retry-After: 3\r\nConnection: close\r\n\r\n";
    let content = Content::Problem("{\"code\":\"missing\"}"[..17].into());
    let answer = Response { retry_after_secs: Some(3), ..Response::new(503, content) };
    for (method, body) in [("GET", "{\"code\":\"missing\""), ("HEAD", "")] {
        let (mut conn, mut client) = pair();
        client.put(format!("{method} /readyz HTTP/1.1\r\nHost: x\r\n\r\nbody").as_bytes());
        assert!(matches!(receive(&mut conn)[..], [Incoming::Request(_)]));
        conn.respond(&answer);
        assert!(!conn.is_over());
        conn.flush();
        assert!(conn.is_over());
        assert_eq!(String::from_utf8(client.take()).unwrap(), format!("{expected}{body}"));
    }
}

#[test]
fn a_body_is_read_when_it_is_asked_for_however_it_is_cut() {
    let whole = b"POST /v1/ack HTTP/1.1\r\nContent-Length: 7\r\nIdempotency-Key: k\r\n\r\n{\"a\":1}more";
    for cut in 1..=whole.len() {
        let (mut conn, client) = pair();
        client.put(&whole[..cut]);
        let mut heard = receive(&mut conn);
        client.put(&whole[cut..]);
        heard.extend(receive(&mut conn));
        let [Incoming::Request(request)] = &heard[..] else { panic!("{heard:?}") };
        assert_eq!(request.head().body, BodyLength::Bytes(7));
        assert_eq!(request.head().idempotency_key, Some("k"));
        conn.take_body(7);
        assert_eq!(receive(&mut conn), [Incoming::Body(b"{\"a\":1}".to_vec())], "cut at {cut}");
        assert_eq!(receive(&mut conn), [], "nothing is read while the request is carried out");
    }
}

#[test]
fn whoever_waits_before_a_body_is_told_to_go_on_and_may_go_away() {
    let (mut conn, mut client) = pair();
    client.put(b"POST /v1/ack HTTP/1.1\r\nContent-Length: 7\r\nExpect: 100-continue\r\n\r\n");
    receive(&mut conn);
    conn.take_body(7);
    conn.flush();
    assert_eq!(client.take(), b"HTTP/1.1 100 Continue\r\n\r\n");
    client.put(b"{");
    assert_eq!(receive(&mut conn), []);
    client.end();
    assert_eq!(receive(&mut conn), [Incoming::Gone]);
}

#[test]
fn nobody_who_knows_no_interim_answers_is_given_one() {
    let (mut conn, mut client) = pair();
    client.put(b"POST /v1/ack HTTP/1.0\r\nContent-Length: 7\r\nExpect: 100-continue\r\n\r\n");
    receive(&mut conn);
    conn.take_body(7);
    conn.flush();
    assert_eq!(client.take(), b"", "RFC 9110 section 10.1.1");
}

#[test]
fn a_stream_goes_on_until_it_is_closed_or_the_peer_is_gone() {
    for closes in [true, false] {
        let (mut conn, mut client) = pair();
        client.put(b"GET /v1/stream HTTP/1.1\r\n\r\n");
        receive(&mut conn);
        conn.stream_events();
        conn.send(Bytes::from_static(b"data: 1\n\n"));
        assert_eq!(conn.flush(), 9, "the head is no message");
        let said = String::from_utf8(client.take()).unwrap();
        assert!(said.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"), "{said}");
        assert!(said.ends_with("\r\n\r\ndata: 1\n\n"), "{said}");
        client.put(b"noise");
        assert_eq!(receive(&mut conn), []);
        if closes {
            conn.close(CloseCode::Replaced, "no frame");
        } else {
            client.end();
            assert_eq!(receive(&mut conn), [Incoming::Gone]);
        }
        conn.flush();
        assert!(conn.is_over());
        assert_eq!(client.take(), b"");
    }
}

#[test]
fn a_head_that_is_too_slow_can_be_answered() {
    let (mut conn, mut client) = pair();
    client.put(b"GET / HT");
    assert_eq!(receive(&mut conn), []);
    conn.respond(&response(408, Content::Text("too slow".into())));
    conn.flush();
    assert!(client.take().starts_with(b"HTTP/1.1 408 Request Timeout\r\n"));
}

#[test]
fn a_page_may_run_its_own_script_and_load_nothing() {
    let (mut conn, mut client) = pair();
    client.put(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    receive(&mut conn);
    conn.respond(&response(200, Content::Page(Page::Chat)));
    conn.flush();
    let answer = String::from_utf8(client.take()).expect("an answer in ASCII");
    assert!(answer.contains("Content-Type: text/html; charset=utf-8\r\n"), "{answer}");
    assert!(answer.contains("Content-Security-Policy: default-src 'none';"), "{answer}");
    assert!(answer.contains("<title>Runcast</title>"), "{answer}");
}

/// A request for a WebSocket and some frames, with a few bytes of it broken.
fn conversation(dice: &mut StdRng) -> Vec<u8> {
    let mut bytes = upgrade_request("").into_bytes();
    for _ in 0..dice.random_range(0..8) {
        let length = [0, 1, 2, 125, 126, LIMIT, LIMIT + 1][dice.random_range(0..7)];
        let first = [0x81, 0x01, 0x00, 0x80, 0x89, 0x8a, 0x82, 0x88, dice.random()][dice.random_range(0..9)];
        let mask = dice.random_bool(0.98).then_some(dice.random());
        bytes.extend(raw_frame(first, mask, &vec![b'a'; length]));
    }
    for _ in 0..dice.random_range(0..3) {
        let at = dice.random_range(0..bytes.len());
        bytes[at] = dice.random();
    }
    bytes
}

/// What is heard of a conversation that comes in pieces of at most so many bytes.
fn hear(bytes: &[u8], dice: &mut StdRng, longest: usize) -> Vec<Incoming> {
    let (mut conn, mut client) = pair();
    let (mut heard, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(dice.random_range(1..=longest.min(rest.len())));
        client.put(piece);
        rest = after;
        loop {
            heard.extend(receive(&mut conn));
            let Some(Incoming::Request(request)) = heard.last() else { break };
            if request.head().upgrade != UpgradeRequest::Valid {
                break;
            }
            conn.upgrade(LIMIT);
            heard.push(text("upgraded"));
        }
        conn.send(Bytes::from_static(b"an event"));
        conn.flush();
        client.take();
    }
    conn.close(CloseCode::Normal, "");
    conn.flush();
    assert!(conn.is_over());
    heard
}

#[test]
fn whatever_comes_says_the_same_however_it_is_cut() {
    for seed in 0..500 {
        let mut dice = StdRng::seed_from_u64(seed);
        let bytes = conversation(&mut dice);
        let whole = hear(&bytes, &mut dice, usize::MAX);
        assert_eq!(hear(&bytes, &mut dice, 40), whole, "seed {seed}");
    }
}
