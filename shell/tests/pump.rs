//! The pump around the real core, over pipes in memory.

mod common;

use common::{Forgetful, Pipe, begin, frame, upgrade_request};
use runcast::conn::Edge;
use runcast::pump::{Pump, Turn};
use runcast::storage::Completion;
use runcast_core::View;
use runcast_core::config::Config;
use runcast_core::ids::ConnId;
use runcast_core::time::{Now, Span};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const LIVEZ: &[u8] = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";

struct World {
    pump: Pump<Pipe, Forgetful>,
    now: Now,
}

impl World {
    fn new() -> Self {
        let (pump, now) = begin(Config::default());
        Self { pump, now }
    }

    fn connect(&mut self) -> (ConnId, Pipe) {
        let (server, client) = Pipe::pair();
        (self.pump.accept(server, PEER), client)
    }

    fn turn(&mut self) -> Turn<Pipe> {
        self.pump.turn(self.now).expect("a store that does not fail")
    }

    /// Turns until nobody has more: the connections that ended.
    fn settle(&mut self) -> Vec<ConnId> {
        let mut closed = Vec::new();
        loop {
            let turn = self.turn();
            closed.extend(turn.closed.iter().map(|(conn, _)| *conn));
            if !turn.more {
                return closed;
            }
        }
    }

    /// Lets time pass until connections end: which, and how long it took.
    fn until_closed(&mut self) -> (Vec<ConnId>, Span) {
        let start = self.now.mono;
        loop {
            let closed = self.settle();
            if !closed.is_empty() {
                return (closed, self.now.mono.since(start));
            }
            self.now.mono = self.pump.deadline().expect("something is to be done").max(self.now.mono);
        }
    }

    /// Says something on a connection.
    fn say(&mut self, conn: ConnId, client: &Pipe, opcode: u8, payload: &[u8]) {
        client.put(&frame(opcode, payload));
        self.pump.ready(conn, Edge::UntilBlocked);
        assert_eq!(self.settle(), []);
    }

    /// Lets time pass until a connection is pinged.
    fn until_ping(&mut self, client: &mut Pipe) {
        // What else is said is ASCII.
        while !client.take().contains(&0x89) {
            self.now.mono = self.pump.deadline().expect("it is pinged in the end").max(self.now.mono);
            assert_eq!(self.settle(), [], "nobody is closed meanwhile");
        }
    }

    /// A WebSocket that has not said hello.
    fn open(&mut self) -> (ConnId, Pipe) {
        let (conn, mut client) = self.connect();
        client.put(upgrade_request("Sec-WebSocket-Protocol: runcast.v1\r\n").as_bytes());
        assert_eq!(self.settle(), []);
        assert!(client.take().starts_with(b"HTTP/1.1 101"));
        (conn, client)
    }
}

fn code_of_close(bytes: &[u8]) -> Option<u16> {
    let at = bytes.iter().rposition(|byte| *byte == 0x88)?;
    Some(u16::from_be_bytes([*bytes.get(at + 2)?, *bytes.get(at + 3)?]))
}

#[test]
fn a_request_is_answered_and_its_stream_given_back() {
    let mut world = World::new();
    for expected in 1..=3 {
        let (conn, mut client) = world.connect();
        assert_eq!(conn, ConnId(expected));
        client.put(&LIVEZ[..20]);
        assert_eq!(world.settle(), []);
        client.put(&LIVEZ[20..]);
        assert_eq!(world.settle(), [], "no edge, no look");
        world.pump.ready(conn, Edge::UntilBlocked);
        assert_eq!(world.settle(), [conn]);
        let answer = String::from_utf8(client.take()).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(world.pump.stream(conn).is_none());
        world.pump.ready(conn, Edge::UntilBlocked);
        assert_eq!(world.settle(), []);
    }
}

#[test]
fn garbage_is_answered_and_ends() {
    let mut world = World::new();
    let (conn, mut client) = world.connect();
    client.put(b"\x16\x03\x01\x00");
    assert_eq!(world.settle(), [conn]);
    assert!(client.take().starts_with(b"HTTP/1.1 400 Bad Request\r\n"));
}

#[test]
fn a_slow_head_is_answered_in_time() {
    let mut world = World::new();
    let (conn, mut client) = world.connect();
    client.put(&LIVEZ[..20]);
    assert_eq!(world.until_closed(), (vec![conn], Config::default().server.hello_timeout));
    assert!(client.take().starts_with(b"HTTP/1.1 408 Request Timeout\r\n"));
}

#[test]
fn one_that_says_much_holds_up_nobody() {
    let mut world = World::new();
    let (loud, shout) = world.open();
    shout.put(&frame(10, b"").repeat(1000));
    world.pump.ready(loud, Edge::UntilBlocked);
    let (_, mut quiet) = world.connect();
    quiet.put(LIVEZ);
    let turn = world.turn();
    assert!(turn.more);
    assert!(
        quiet.take().starts_with(b"HTTP/1.1 200"),
        "answered in the turn in which the other was cut short"
    );
    assert!(!shout.is_drained());
    world.settle();
    assert!(shout.is_drained());
}

/// Who is welcome need not wait until hundreds of strangers have said who they are.
#[test]
fn a_crowd_of_strangers_holds_up_nobody() {
    let mut world = World::new();
    // They connect first: whose number is lower makes no difference.
    let mut crowd: Vec<(ConnId, Pipe)> = (0..250).map(|_| world.connect()).collect();
    assert_eq!(world.settle(), []);
    let (alice, mut client) = world.open();
    world.say(alice, &client, 1, br#"{"type":"hello","token":"alice","device":"laptop"}"#);
    // Its context is read, and its place written.
    while client.take().is_empty() {
        assert_eq!(world.settle(), []);
    }
    for (conn, stranger) in &crowd {
        stranger.put(LIVEZ);
        world.pump.ready(*conn, Edge::UntilBlocked);
    }
    client.put(&frame(1, br#"{"type":"ping"}"#));
    world.pump.ready(alice, Edge::UntilBlocked);
    let turn = world.turn();
    assert!(turn.more);
    assert!(client.take().windows(6).any(|window| window == b"\"pong\""), "answered in the first turn");
    let is_heard = |(_, stranger): &mut (ConnId, Pipe)| stranger.take().starts_with(b"HTTP/1.1 200");
    let at_once = crowd.iter_mut().filter_map(|one| is_heard(one).then_some(())).count();
    assert!((1..crowd.len()).contains(&at_once), "some of them are heard, too: {at_once}");
    world.settle();
    let then = crowd.iter_mut().filter_map(|one| is_heard(one).then_some(())).count();
    assert_eq!(at_once + then, crowd.len());
}

#[test]
fn however_often_metrics_are_asked_for_they_are_made_once_a_second() {
    let (pump, now) = begin(Config::default());
    let made = AtomicU64::new(0);
    let meter = move |_: &View<'_>| format!("made {}", made.fetch_add(1, Ordering::Relaxed));
    let mut world = World { pump: pump.metered(Box::new(meter)), now };
    let asked = |world: &mut World| {
        let (_, mut client) = world.connect();
        client.put(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        world.settle();
        let answer = String::from_utf8(client.take()).expect("UTF-8");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        answer.split_once("\r\n\r\n").expect("a whole answer").1.to_owned()
    };
    assert!((0..50).all(|_| asked(&mut world) == "made 0"));
    world.now.mono = world.now.mono + Span::millis(999);
    assert_eq!(asked(&mut world), "made 0");
    world.now.mono = world.now.mono + Span::millis(1);
    assert_eq!(asked(&mut world), "made 1");
    world.now.mono = world.now.mono + Span::millis(999);
    assert_eq!(asked(&mut world), "made 1");
    world.now.mono = world.now.mono + Span::secs(60);
    assert_eq!(asked(&mut world), "made 2");
}

#[test]
fn an_oversize_message_is_answered_with_the_code_for_it() {
    let mut world = World::new();
    let (conn, mut client) = world.open();
    client.put(&frame(1, &vec![b'x'; Config::default().server.message + 1]));
    world.pump.ready(conn, Edge::UntilBlocked);
    assert_eq!(world.settle(), [conn]);
    assert_eq!(code_of_close(&client.take()), Some(4505));
}

#[test]
fn who_takes_no_last_words_is_given_up() {
    let mut world = World::new();
    let (conn, client) = world.open();
    client.room(usize::MAX);
    world.pump.stream(conn).expect("it is open").room(0);
    let (closed, took) = world.until_closed();
    assert_eq!(closed, [conn]);
    assert!(took > Config::default().server.hello_timeout, "{took:?}");
    assert!(took < Span::secs(60), "{took:?}");
}

#[test]
fn a_peer_that_goes_is_given_back_at_once() {
    let mut world = World::new();
    let (conn, client) = world.open();
    client.end();
    world.pump.ready(conn, Edge::UntilBlocked);
    assert_eq!(world.settle(), [conn]);
    let (conn, mut client) = world.open();
    client.put(&frame(8, &1000u16.to_be_bytes()));
    world.pump.ready(conn, Edge::UntilBlocked);
    assert_eq!(world.settle(), [conn]);
    assert_eq!(client.take(), [0x88, 2, 0x03, 0xe8]);
}

#[test]
fn a_failed_store_ends_the_loop() {
    let mut world = World::new();
    world.pump.storage_mut().complete(Completion::Failed("EIO at sector 7".into()));
    let error = world.pump.turn(world.now).expect_err("the store has failed");
    assert!(error.to_string().contains("EIO at sector 7"), "{error}");
}

/// What `/readyz` answers: the status, and the text.
fn readyz(world: &mut World) -> (String, String) {
    let (_, mut client) = world.connect();
    client.put(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n");
    world.settle();
    let answer = String::from_utf8(client.take()).expect("UTF-8");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a whole answer");
    (head[9..12].to_owned(), body.to_owned())
}

#[test]
fn one_that_is_late_is_not_ready_for_some_seconds() {
    let mut world = World::new();
    assert_eq!(readyz(&mut world), ("200".into(), "ready\n".into()));
    let (_waits, _client) = world.open();
    // The timer of its `hello`.
    let due = world.pump.deadline().expect("it is waited for");
    world.now.mono = due + Span::millis(999);
    assert_eq!(readyz(&mut world).0, "200");
    let (_waits, _client) = world.open();
    let due = world.pump.deadline().expect("it is waited for");
    world.now.mono = due + Span::millis(1_500);
    let (status, told) = readyz(&mut world);
    assert_eq!(status, "503");
    assert!(told.starts_with("not ready: loop lag (a timer was 1500 ms late:"), "{told}");
    world.now.mono = due + Span::millis(6_499);
    assert_eq!(readyz(&mut world).0, "503");
    world.now.mono = due + Span::millis(6_500);
    assert_eq!(readyz(&mut world), ("200".into(), "ready\n".into()));
}

#[test]
fn one_whose_store_is_stuck_is_not_ready_until_it_goes_on() {
    let mut world = World::new();
    world.pump.storage_mut().is_stuck = true;
    let (conn, client) = world.open();
    client.put(&frame(1, br#"{"type":"hello","token":"alice","device":"laptop"}"#));
    world.pump.ready(conn, Edge::UntilBlocked);
    // The user's context comes from the store in the first, what the device is written in the second.
    world.settle();
    world.settle();
    let begun = world.now.mono;
    world.now.mono = begun + Span::millis(4_999);
    assert_eq!(readyz(&mut world).0, "200");
    world.now.mono = begun + Span::millis(5_000);
    let (status, told) = readyz(&mut world);
    assert_eq!(status, "503");
    assert!(told.starts_with("not ready: store (what it was given 5000 ms ago is not stored"), "{told}");
    world.pump.storage_mut().go_on();
    world.settle();
    assert_eq!(readyz(&mut world).0, "200");
}

/// The round trip of the one connection of alice, as operators are shown it.
fn round_trip_ms(world: &mut World) -> Option<u64> {
    let (_, mut client) = world.connect();
    client.put(b"GET /v1/users/alice HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer olga+operate\r\n\r\n");
    world.settle();
    let answer = String::from_utf8(client.take()).expect("UTF-8");
    assert!(answer.contains(r#""device":"laptop","#), "{answer}");
    let (_, rest) = answer.split_once(r#""round_trip_ms":"#)?;
    rest.split_once(',').and_then(|(ms, _)| ms.parse().ok())
}

#[test]
fn a_round_trip_is_from_the_first_ping_without_an_answer_to_the_pong() {
    let mut world = World::new();
    let (conn, mut client) = world.open();
    world.say(conn, &client, 1, br#"{"type":"hello","token":"alice","device":"laptop"}"#);
    world.say(conn, &client, 10, b"");
    assert_eq!(round_trip_ms(&mut world), None, "nobody has asked for that pong");
    world.until_ping(&mut client);
    world.now.mono = world.now.mono + Span::millis(30);
    assert_eq!(round_trip_ms(&mut world), None);
    world.say(conn, &client, 10, b"");
    assert_eq!(round_trip_ms(&mut world), Some(30));
    world.until_ping(&mut client);
    let asked = world.now.mono;
    world.until_ping(&mut client);
    world.now.mono = world.now.mono + Span::millis(5);
    assert_eq!(round_trip_ms(&mut world), Some(30), "the newest that is known");
    let waited = world.now.mono.since(asked).as_millis();
    world.say(conn, &client, 10, b"");
    assert_eq!(round_trip_ms(&mut world), Some(waited));
    assert!(waited > 5, "the first of the two pings counts, not the second: {waited}");
}
