//! A request head that is split anywhere says the same as the whole, and nothing in it does harm, nor in the
//! token that it brings.

use crate::choices::Choices;
use crate::pipe::Pipe;
use runcast::auth::{Keys, Secret};
use runcast::conn::{Conn, Edge, Incoming};
use runcast_core::input::{TokenProblem, UpgradeRequest};

/// Pieces a head is cut into, at most: each is parsed anew from the beginning.
const PIECES: usize = 64;
/// The longest text of why a token is none, in bytes.
const MALFORMED_BYTES: usize = 100;
/// What tokens are signed with.
pub const SECRET: &[u8] = b"a secret of thirty-two bytes ...";

/// The first bytes say where the rest is cut: a count, and that many lengths.
pub fn target(data: &[u8]) {
    let mut choices = Choices::new(data);
    let cuts: Vec<usize> = choices.some().iter().take(PIECES).map(|cut| usize::from(*cut) + 1).collect();
    let bytes = choices.rest();
    let whole = verdict([bytes]);
    let mut rest = bytes;
    let pieces = cuts.iter().map(|cut| {
        let (piece, after) = rest.split_at((*cut).min(rest.len()));
        rest = after;
        piece
    });
    let mut pieces: Vec<&[u8]> = pieces.collect();
    pieces.push(rest);
    assert_eq!(whole, verdict(pieces), "however it is cut, a head says the same");
    judge(bytes, whole.as_ref());
}

/// What a connection makes of these bytes, arriving one after the other: at most one thing.
fn verdict<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Option<Incoming> {
    let mut conn = Conn::new(Pipe::default());
    for piece in pieces {
        conn.stream_mut().arrived.extend(piece);
        conn.edge(Edge::UntilBlocked);
        conn.begin();
        if let Some(incoming) = conn.receive() {
            assert_eq!(conn.receive(), None, "nothing is read before the head is answered");
            return Some(incoming);
        }
    }
    None
}

/// Whatever a token is, it is told in a few words that do not grow with it.
fn brings(token: &str) {
    if let Err(TokenProblem::Malformed(what)) = Keys::default().with_dev(&Secret::new(SECRET)).verify(token) {
        assert!(what.len() <= MALFORMED_BYTES, "{what}");
    }
}

fn judge(bytes: &[u8], verdict: Option<&Incoming>) {
    let Some(incoming) = verdict else {
        return assert!(bytes.len() < 16 * 1024, "a head is limited");
    };
    match incoming {
        Incoming::BadHead(_) => {}
        Incoming::Request(request) => {
            let head = request.head();
            let fields = [
                head.query,
                head.host,
                head.origin,
                head.authorization,
                head.protocols,
                head.idempotency_key,
                head.last_event_id,
                head.forwarded,
                head.forwarded_for,
            ];
            let length: usize = fields.iter().flatten().map(|field| field.len()).sum();
            assert!(head.method.len() + head.path.len() + length <= bytes.len(), "nothing is made up");
            assert!(
                fields[1..].iter().flatten().all(|field| field.is_ascii()),
                "what goes on is ASCII: {head:?}"
            );
            if head.upgrade == UpgradeRequest::Valid {
                assert_eq!(head.method, "GET");
            }
            head.authorization.and_then(|text| text.strip_prefix("Bearer ")).into_iter().for_each(brings);
        }
        Incoming::Text(_)
        | Incoming::Ping
        | Incoming::Pong
        | Incoming::Binary
        | Incoming::TooLarge
        | Incoming::Breach(_)
        | Incoming::NotUtf8
        | Incoming::Body(_)
        | Incoming::Gone => panic!("a head is a request or is not: {incoming:?}"),
    }
}
