//! Request heads and frames, with where they are cut.

use crate::Seed;
use runcast::auth::{Secret, sign};
use runcast_core::input::Claims;
use runcast_fuzz::http_head::SECRET;

const HEADS: [(&str, &str); 31] = [
    ("livez", "GET /livez HTTP/1.1\r\nHost: localhost:8787\r\n\r\n"),
    ("head-of-the-page", "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"),
    (
        "upgrade",
        "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: runcast.v1, jwt.a.b.c\r\n\r\n",
    ),
    (
        "upgrade-of-a-worker",
        "GET /worker HTTP/1.1\r\nHost: h\r\nUpgrade: WebSocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: runcast.v1\r\nAuthorization: Bearer a.b.c\r\n\r\n",
    ),
    ("upgrade-by-post", "POST /ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"),
    ("upgrade-of-1.0", "GET /ws HTTP/1.0\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"),
    (
        "upgrade-of-version-8",
        "GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\n\r\n",
    ),
    (
        "upgrade-with-a-short-key",
        "GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: abc\r\n\r\n",
    ),
    (
        "protocols-in-two-lines",
        "GET /ws HTTP/1.1\r\nSec-WebSocket-Protocol: runcast.v1\r\nSec-WebSocket-Protocol: jwt.a.b.c\r\n\r\n",
    ),
    ("two-hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    ("two-authorizations", "GET / HTTP/1.1\r\nAuthorization: Bearer a\r\nauthorization: Bearer b\r\n\r\n"),
    (
        "origin-and-query",
        "GET /ws?token=secret&x=%20 HTTP/1.1\r\nOrigin: https://evil.example\r\nHost: h\r\n\r\n",
    ),
    ("two-question-marks", "GET /?a?b HTTP/1.1\r\n\r\n"),
    ("body-after-the-head", "POST /v1/runs HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"),
    ("pipelined", "GET /livez HTTP/1.1\r\n\r\nGET /readyz HTTP/1.1\r\n\r\n"),
    ("bare-line-feeds", "GET / HTTP/1.1\nHost: h\n\n"),
    ("folded-header", "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n"),
    ("space-before-the-colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
    ("header-without-a-name", "GET / HTTP/1.1\r\n: a\r\n\r\n"),
    ("header-of-latin-1", "GET / HTTP/1.1\r\nHost: \u{e9}\r\n\r\n"),
    ("target-of-utf-8", "GET /\u{e9} HTTP/1.1\r\n\r\n"),
    ("empty-lines-first", "\r\n\r\nGET / HTTP/1.1\r\n\r\n"),
    ("version-2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("version-0.9", "GET /\r\n"),
    ("absolute-target", "GET http://h/ws HTTP/1.1\r\n\r\n"),
    ("tls-hello", "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}"),
    ("unfinished", "GET /ws HTTP/1.1\r\nHost: h"),
    ("nothing", ""),
    (
        "forwarded-twice",
        "GET / HTTP/1.1\r\nForwarded: for=10.0.0.1\r\nX-Forwarded-For: 10.0.0.1\r\nforwarded: for=\"[::1]\"\r\n\r\n",
    ),
    (
        "expects-and-resumes",
        "POST /v1/runs HTTP/1.1\r\nExpect: 100-Continue\r\nIdempotency-Key: k\r\nLast-Event-ID: e-1:7\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    ("two-lengths", "POST /v1/runs HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}"),
];

/// Heads in one piece, byte by byte and cut now and then, and too large ones.
pub(crate) fn heads() -> Vec<Seed> {
    let cut = |cuts: &[u8], head: &[u8]| [&[cuts.len() as u8], cuts, head].concat();
    let mut seeds: Vec<Seed> = HEADS
        .iter()
        .enumerate()
        .map(|(index, (name, head))| {
            let cuts: &[u8] = [&[][..], &[0; 40], &[15, 3, 200]][index % 3];
            ((*name).to_owned(), cut(cuts, head.as_bytes()))
        })
        .collect();
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(65));
    seeds.push(("too-many-headers".into(), cut(&[100, 100], many.as_bytes())));
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(17_000));
    seeds.push(("too-long".into(), cut(&[], long.as_bytes())));
    for (name, token) in tokens() {
        let head = format!("GET /v1/runs HTTP/1.1\r\nAuthorization: Bearer {token}\r\n\r\n");
        seeds.push((format!("token-{name}"), cut(&[], head.as_bytes())));
    }
    seeds
}

/// A token that is signed, and some that are not.
fn tokens() -> [(&'static str, String); 4] {
    let claims = Claims {
        sub: "alice".into(),
        exp: 2_000_000_000,
        aud: vec!["runcast".into()],
        scope: Some("user".into()),
        ..Claims::default()
    };
    let signed = sign(&claims, &Secret::new(SECRET), None);
    let (unsigned, _) = signed.rsplit_once('.').expect("three parts");
    [
        ("without-a-signature", format!("{unsigned}.")),
        // {"alg":"none"}
        ("of-no-algorithm", "eyJhbGciOiJub25lIn0.e30.".to_owned()),
        // {"alg":"HS256","kid":7,"crit":[]}
        ("with-an-odd-kid", "eyJhbGciOiJIUzI1NiIsImtpZCI6NywiY3JpdCI6W119.e30.AAAA".to_owned()),
        ("signed", signed),
    ]
}

/// The upgrade that the target puts before.
const UPGRADE_BYTES: u8 = 142;
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// A frame as a client sends it, with this first byte, masked with zeros so that a fuzzer may read it.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | length as u8),
        length => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

/// Requests whose connections are read after the head, too.
const REQUESTS: [(&str, &str); 4] = [
    ("body", "POST /v1/runs HTTP/1.1\r\nContent-Length: 11\r\n\r\n{\"agent\":1}more"),
    ("body-asked-for", "POST /v1/ack HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}"),
    ("body-that-ends-early", "POST /v1/runs HTTP/1.1\r\nContent-Length: 999\r\n\r\n{"),
    ("stream-of-events", "GET /v1/stream HTTP/1.1\r\nLast-Event-ID: e-1:7\r\n\r\nand more"),
];

/// What comes after an upgrade, and what comes instead of one.
pub(crate) fn frames() -> Vec<Seed> {
    let hello = br#"{"type":"hello"}"#;
    let two = [frame(TEXT, hello), frame(TEXT, br#"{"type":"ping"}"#)].concat();
    let parts = [frame(0x01, b"{\"type\""), frame(PING, b"p"), frame(0x80, b":\"ping\"}")].concat();
    let long = frame(TEXT, &[b'x'; 1001]);
    let mut early = long.clone();
    early.truncate(100);
    let after: [(&str, Vec<u8>); 25] = [
        ("text", frame(TEXT, hello)),
        ("two-texts", two),
        ("text-in-parts-around-a-ping", parts),
        ("text-of-the-longest", frame(TEXT, &[b'x'; 1000])),
        ("text-too-long", long),
        ("text-too-long-says-its-head", early),
        ("text-empty", frame(TEXT, b"")),
        ("text-not-utf-8", frame(TEXT, b"\xff\xfe")),
        ("text-utf-8-in-two-parts", [frame(0x01, b"\xc3"), frame(0x80, b"\xa9")].concat()),
        ("parts-too-long-together", [frame(0x01, &[b'x'; 600]), frame(0x80, &[b'x'; 600])].concat()),
        ("parts-without-an-end", frame(0x01, b"{")),
        ("text-within-parts", [frame(0x01, b"{"), frame(TEXT, b"}")].concat()),
        ("continuation-of-nothing", frame(0x80, b"x")),
        ("binary", frame(BINARY, b"\0\x01")),
        ("ping", frame(PING, b"are you there")),
        ("ping-too-long", frame(PING, &[b'p'; 126])),
        ("ping-in-parts", frame(0x09, b"p")),
        ("pings-many", frame(PING, b"").repeat(100)),
        ("pong-unasked", frame(PONG, b"")),
        ("close", frame(CLOSE, b"\x03\xe8bye")),
        ("close-of-one-byte", frame(CLOSE, b"\x03")),
        ("close-with-a-reserved-code", frame(CLOSE, b"\x03\xed")),
        ("text-after-close", [frame(CLOSE, b""), frame(TEXT, hello)].concat()),
        ("reserved-bits", frame(0xc1, hello)),
        ("reserved-operation", frame(0x83, hello)),
    ];
    let whole = |name: &str, first: u8, bytes: &[u8], index: usize| {
        let room = [255, 1, 0][index % 3];
        let cuts: &[u8] = [&[][..], &[0; 30], &[1, 6]][index % 3];
        (name.to_owned(), [&[first, room, cuts.len() as u8], cuts, bytes].concat())
    };
    let mut seeds: Vec<Seed> = after
        .iter()
        .enumerate()
        .map(|(index, (name, bytes))| whole(name, [1, 3][index % 2], bytes, index))
        .collect();
    // Cut after the upgrade and after the first text, which lets the second be longer.
    let longer = [frame(TEXT, hello), frame(TEXT, &[b'x'; 1500]), frame(TEXT, hello)].concat();
    seeds.push((
        "text-longer-than-the-first-may-be".into(),
        [&[3, 255, 2, UPGRADE_BYTES - 1, 21], &longer[..]].concat(),
    ));
    let unmasked = [&[TEXT, 2][..], b"hi"].concat();
    seeds.push(whole("text-unmasked", 1, &unmasked, 0));
    let endless = [&[TEXT, 0xff][..], &[0xff; 8], &[0; 4]].concat();
    seeds.push(whole("length-of-64-bits", 1, &endless, 1));
    seeds.extend(
        REQUESTS.iter().enumerate().map(|(index, (name, head))| whole(name, 2, head.as_bytes(), index)),
    );
    seeds.push(whole("no-head", 0, b"hello?\r\n\r\n", 1));
    seeds.push(whole("head-of-http", 0, b"GET /livez HTTP/1.1\r\n\r\nmore", 2));
    seeds
}
