//! Operations around the core, as `core_inputs` reads them.

use crate::Seed;

const SETTLE: &[u8] = &[0];
/// Alice, with one named device; alice as a viewer; bob.
const ALICE: &[u8] = &[1, 0x0c, 0x08];
const ALICE_TWO: &[u8] = &[1, 0x0c, 0x10];
const VIEWER: &[u8] = &[1, 0x0c, 0x1a];
const BOB: &[u8] = &[1, 0x1a, 0x08];
/// A worker with two slots, and the same one again, naming its runs or none.
const WORKER: &[u8] = &[1, 0x2d, 0x02];
const WORKER_NAMING: &[u8] = &[1, 0x2d, 0x0a];
/// The newest run is asked for by the first user's connection, of the agent `echo` on the first thread, or
/// the second.
const RUN: &[u8] = &[3, 0, 1, 0, 0, 0, 0];
const RUN_TWO: &[u8] = &[3, 0, 1, 0, 1, 0, 0];
const RUN_REJECT: &[u8] = &[3, 0, 1, 0, 0, 0, 4];
const RUN_INTERRUPT: &[u8] = &[3, 0, 1, 0, 0, 0, 8];
const RUN_HIGH: &[u8] = &[3, 0, 1, 0, 1, 0, 2];
const RUN_KEY: &[u8] = &[3, 0, 1, 0, 0, 3, 0];
const CANCEL: &[u8] = &[3, 0, 4, 0];
const ACK: &[u8] = &[3, 0, 5];
/// What the first worker says of the newest run, with the next number.
const STARTED: &[u8] = &[8, 0, 1, 0, 0];
const DECLINE: &[u8] = &[8, 0, 4, 0, 0, 10, 1];
const GOT: &[u8] = &[8, 0, 5, 0, 0];
const BEAT: &[u8] = &[8, 0, 6, 0, 0];
const OUTPUT: &[u8] = &[8, 0, 7, 0, 0, 3];
const AGAIN: &[u8] = &[8, 0, 7, 0, 0, 0];
const JUMP: &[u8] = &[8, 0, 7, 0, 0, 1];
const TOOL: &[u8] = &[8, 0, 9, 0, 0, 3];
const TOOL_TWO: &[u8] = &[8, 0, 9, 0, 1, 3];
const PROGRESS: &[u8] = &[8, 0, 11, 0, 0, 3];
const TOOL_ENDS: &[u8] = &[8, 0, 12, 0, 0, 3];
const NOT_ITS: &[u8] = &[8, 0, 14, 0, 0, 3];
const COMPLETE: &[u8] = &[8, 0, 15, 0, 0, 0, 3];
const COMPLETE_BADLY: &[u8] = &[8, 0, 15, 0, 0, 3, 3];
const ASKS: &[u8] = &[8, 0, 16, 0, 0, 0, 3];
const ASKS_SHORTLY: &[u8] = &[8, 0, 16, 0, 0, 3, 3];
const DRAIN: &[u8] = &[8, 0, 19, 0, 0];
/// The user answers the first question, or steers.
const ANSWERS: &[u8] = &[3, 0, 7, 0, 0x20];
const STEERS: &[u8] = &[3, 0, 7, 0, 0x02];
/// The same agent, and a run on it may be tried again.
const WORKER_RETRYABLE: &[u8] = &[1, 0x2d, 0x22];
/// The second call of alice's device and of a worker, and the first, which may come after it.
const ALICE_LATER: &[u8] = &[1, 0x0c, 0x69];
const ALICE_EARLIER: &[u8] = &[1, 0x0c, 0x68];
const WORKER_LATER: &[u8] = &[1, 0x2d, 0xca];
const WORKER_EARLIER: &[u8] = &[1, 0x2d, 0x4a];
/// Requests over HTTP, by alice: all kinds.
const REQUESTS: [&[u8]; 12] = [
    &[24, 0, 0, 0],
    &[24, 1, 0, 64],
    &[24, 2, 0, 0],
    &[24, 3, 0, 0],
    &[24, 4, 0, 0, 0],
    &[24, 5, 0, 0],
    &[24, 6, 0, 0],
    &[24, 7, 0, 0],
    &[24, 8, 0, 0, 2, 1],
    &[24, 9, 0, 0x80],
    &[24, 10, 0, 0],
    &[24, 11, 0, 0, 0],
];
/// Requests that are written out, all by alice: the method's number, the target, for whom, and the body.
const WILD: [(u8, &str, &str, &str); 12] = [
    (0, "/v1/runs?limit=%31&state=running&cursor=eA", "", ""),
    (0, "/v1/threads?limit=0", "for=192.0.2.1", ""),
    (0, "/v1/events?after=1&limit=3&thread=t1", "for=\"[2001:db8::1]:4711\", for=10.0.0.1", ""),
    (0, "/v1/events?epoch=%zz", "for=\"_hidden\\\"", ""),
    (0, "/metrics?x", "by=10.0.0.0;for=192.0.2.1,for=unknown", ""),
    (0, "/v1/users/alice", "", ""),
    (1, "/v1/runs", "", r#"{"agent":"echo","input":[1.5,"\u00e9"],"meta":{"a":1},"thread":"t2"}"#),
    (1, "/v1/users/bob/disconnect", "", r#"{"reason":"\u0000"}"#),
    (1, "/v1/backups/b1", "", ""),
    (1, "/v1/drain", "", ""),
    (3, "/v1//runs/%2e", "for", "{"),
    (1, "/v1/users/alice/revoke", "", ""),
];

/// One of those.
fn wild(method: u8, target: &str, forwarded: &str, body: &str) -> Vec<u8> {
    let some = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    [vec![24, 12, method, 0], some(target), some(forwarded), some(body)].concat()
}

/// Alice reads the news, or all that there is; publications, one with a key.
const NEWS: &[u8] = &[3, 0, 10, 0x21];
const ALL_TOPICS: &[u8] = &[3, 0, 10, 0x07];
const PUBLISH: &[u8] = &[24, 10, 0, 0];
const PUBLISH_WITH_KEY: &[u8] = &[24, 10, 0, 64];
const ACK_NEWS: &[u8] = &[3, 0, 11, 0];
/// A newer token of hers, good for users' topics alone.
const REFRESH_LESS: &[u8] = &[3, 0, 12, 1];
/// Alice, with a named device that reads the news from where it was.
const ALICE_READING: &[u8] = &[1, 0x0c, 0x88, 0x31];
const COMMIT: &[u8] = &[15, 0];
const ANSWER: &[u8] = &[16];
const FULL: &[u8] = &[17];
/// Half a second, a second, 2.5, 6, 16 and 40 seconds.
const HALF: &[u8] = &[20, 2];
const SECOND: &[u8] = &[20, 3];
const SOON: &[u8] = &[20, 4];
const START_OVER: &[u8] = &[20, 5];
const LEASE_OVER: &[u8] = &[20, 6];
const LONG: &[u8] = &[20, 7];
/// An hour.
const HOUR: &[u8] = &[23, 12];
/// Memory is short, or no longer.
const SHORT: &[u8] = &[23, 10, 0];
const SHORT_NO_MORE: &[u8] = &[23, 10, 1];
/// Whoever was called did not take it.
const NOT_TAKEN: &[u8] = &[23, 11, 0];
/// The first connection, or the second, is gone.
const GONE: &[u8] = &[21, 0];
const GONE_TWO: &[u8] = &[21, 1];
const RESTART: &[u8] = &[22, 0];
const RESTART_KEEPING: &[u8] = &[22, 1];

/// Situations, each with the configuration that it needs.
pub(crate) fn operations() -> Vec<Seed> {
    let begun = [ALICE, WORKER, RUN, SETTLE, STARTED, SETTLE].concat();
    let requests = REQUESTS.concat();
    let outputs = OUTPUT.repeat(256);
    let wild = WILD.map(|(method, target, forwarded, body)| wild(method, target, forwarded, body)).concat();
    let all = [asked(&begun), worked(&begun), stored(&begun), spoken(&begun, &requests), published()];
    all.into_iter()
        .flatten()
        .chain([("requests-for-anything", 64, vec![&begun[..], &wild, SETTLE, LONG])])
        .chain([(
            "a-worker-that-is-not-read",
            0,
            vec![&begun[..], &outputs, LEASE_OVER, SETTLE, COMPLETE, SETTLE],
        )])
        .chain(kept(&begun))
        .map(|(name, config, steps)| (name.to_owned(), [&[config][..], &steps.concat()].concat()))
        .collect()
}

/// A situation: its name, its configuration, its steps.
type Situation<'a> = (&'static str, u8, Vec<&'a [u8]>);

/// How runs are asked for and how they end.
fn asked<'a>(begun: &'a [u8]) -> Vec<Situation<'a>> {
    vec![
        ("a-first-run", 0, vec![begun, OUTPUT, TOOL, PROGRESS, TOOL_ENDS, COMPLETE, SETTLE, ACK, SETTLE]),
        (
            "a-run-before-any-worker",
            0,
            vec![ALICE, RUN, SETTLE, HALF, SOON, WORKER, STARTED, SETTLE, COMPLETE],
        ),
        (
            "two-devices-and-a-viewer",
            0,
            vec![ALICE, ALICE_TWO, VIEWER, WORKER, RUN, SETTLE, STARTED, SETTLE, OUTPUT],
        ),
        (
            "two-users-take-turns",
            1,
            vec![ALICE, BOB, WORKER, RUN, RUN_TWO, &[3, 1, 1, 0, 0, 0, 0], SETTLE, STARTED, SETTLE],
        ),
        (
            "a-thread-in-order",
            0,
            vec![
                ALICE,
                WORKER,
                RUN,
                SETTLE,
                RUN,
                SETTLE,
                &[8, 0, 1, 1, 0],
                SETTLE,
                &[8, 0, 15, 1, 0, 0, 3],
                SETTLE,
                STARTED,
            ],
        ),
        ("a-key-twice", 0, vec![ALICE, RUN_KEY, SETTLE, RUN_KEY, SETTLE, RESTART, ALICE, RUN_KEY, SETTLE]),
        ("a-user-queue-that-is-full", 4, vec![ALICE, RUN, SETTLE, RUN, SETTLE, RUN, SETTLE]),
        ("cancelled-while-queued", 0, vec![ALICE, RUN, SETTLE, CANCEL, SETTLE]),
        ("cancelled-while-offered", 0, vec![ALICE, WORKER, RUN, SETTLE, CANCEL, STARTED, SETTLE]),
        ("cancelled-while-running", 0, vec![begun, CANCEL, SETTLE, GOT, COMPLETE, SETTLE]),
        ("cancelled-and-stubborn", 0, vec![begun, TOOL, CANCEL, SETTLE, START_OVER, COMPLETE, SETTLE]),
        ("out-of-time", 0, vec![begun, TOOL, START_OVER, SETTLE, START_OVER, SETTLE]),
        ("declined", 0, vec![ALICE, WORKER, RUN, SETTLE, DECLINE, SETTLE, SECOND, SETTLE, STARTED, SETTLE]),
        (
            "never-taken",
            0,
            vec![ALICE, WORKER, RUN, SETTLE, START_OVER, SETTLE, START_OVER, SETTLE, LONG, SETTLE],
        ),
    ]
}

/// How workers lose, repeat and break things.
fn worked<'a>(begun: &'a [u8]) -> Vec<Situation<'a>> {
    vec![
        ("a-worker-that-is-lost", 0, vec![begun, TOOL, TOOL_TWO, GONE_TWO, LEASE_OVER, SETTLE]),
        (
            "a-worker-that-comes-back",
            0,
            vec![begun, OUTPUT, COMMIT, GONE_TWO, WORKER_NAMING, SETTLE, AGAIN, OUTPUT, COMPLETE],
        ),
        (
            "calls-that-come-late",
            0,
            vec![
                ALICE_LATER,
                ALICE_EARLIER,
                WORKER_LATER,
                RUN,
                SETTLE,
                STARTED,
                WORKER_EARLIER,
                SETTLE,
                OUTPUT,
            ],
        ),
        ("a-worker-that-forgets", 0, vec![begun, GONE_TWO, WORKER, SETTLE]),
        (
            "cancelled-as-its-worker-comes-back",
            0,
            vec![begun, CANCEL, GONE_TWO, &[1, 0x25], &[19, 1], &[8, 0, 0, 0, 0, 0x0a], COMMIT, SETTLE],
        ),
        ("a-gap-and-a-repetition", 0, vec![begun, OUTPUT, AGAIN, JUMP, JUMP, OUTPUT, SETTLE]),
        (
            "events-against-the-order",
            0,
            vec![begun, PROGRESS, TOOL, TOOL, TOOL_ENDS, TOOL_ENDS, NOT_ITS, SETTLE],
        ),
        ("too-many-events", 8, vec![begun, OUTPUT, OUTPUT, OUTPUT, OUTPUT, OUTPUT, OUTPUT, COMPLETE, SETTLE]),
        ("a-complete-that-is-bad", 0, vec![begun, TOOL, COMPLETE_BADLY, OUTPUT, SETTLE]),
        (
            "a-full-store",
            0,
            vec![begun, OUTPUT, OUTPUT, FULL, OUTPUT, RUN_TWO, CANCEL, SECOND, SETTLE, OUTPUT, SETTLE],
        ),
        (
            "a-full-store-and-something-between-retry-and-room",
            0,
            vec![
                begun,
                RUN_TWO,
                SETTLE,
                &[8, 0, 7, 1, 0, 3],
                FULL,
                SECOND,
                STARTED,
                COMMIT,
                OUTPUT,
                SETTLE,
                RUN,
                SETTLE,
            ],
        ),
        (
            "a-full-store-and-a-lease-between",
            0,
            vec![begun, OUTPUT, GONE_TWO, FULL, LEASE_OVER, COMMIT, LEASE_OVER, SETTLE, RUN_TWO, SETTLE],
        ),
    ]
}

/// Full stores, restarts, and nobody listening.
fn stored<'a>(begun: &'a [u8]) -> Vec<Situation<'a>> {
    vec![
        (
            "a-restart-in-a-run",
            0,
            vec![
                begun,
                OUTPUT,
                TOOL,
                COMMIT,
                OUTPUT,
                RESTART_KEEPING,
                WORKER_NAMING,
                ALICE,
                SETTLE,
                AGAIN,
                COMPLETE,
                SETTLE,
            ],
        ),
        (
            "a-restart-with-a-queue",
            0,
            vec![ALICE, RUN, SETTLE, RUN, SETTLE, RUN_TWO, SETTLE, RESTART, WORKER, SETTLE, STARTED],
        ),
        (
            "no-acknowledgement",
            4,
            vec![begun, OUTPUT, OUTPUT, SETTLE, SOON, SETTLE, START_OVER, SETTLE, LEASE_OVER, SETTLE],
        ),
        ("nothing-is-taken", 2, vec![begun, OUTPUT, OUTPUT, OUTPUT, OUTPUT, COMMIT, COMMIT, COMMIT, LONG]),
        (
            "tokens-odd",
            0,
            vec![&[1, 0x3c, 0], LONG, &[1, 0x4c, 0], &[1, 0x5a, 0], &[1, 0x00], SETTLE, BEAT, GONE],
        ),
    ]
}

/// What is kept, for how long, and who is told of it.
fn kept<'a>(begun: &'a [u8]) -> Vec<Situation<'a>> {
    vec![
        (
            "keys-and-ends-that-are-purged",
            128,
            vec![
                begun, RUN_KEY, SETTLE, OUTPUT, COMPLETE, SETTLE, ACK, SETTLE, HOUR, SETTLE, RUN_KEY, SETTLE,
                HOUR,
            ],
        ),
        (
            "a-stream-that-is-trimmed-whole",
            136,
            vec![begun, ASKS, OUTPUT, SETTLE, HOUR, OUTPUT, OUTPUT, OUTPUT, SETTLE],
        ),
        (
            "called-about-a-run-that-nobody-has-got",
            128,
            vec![
                begun, GONE, COMPLETE, COMMIT, SOON, START_OVER, COMMIT, NOT_TAKEN, LONG, COMMIT, SETTLE,
                ALICE, ACK, SETTLE,
            ],
        ),
        (
            "short-of-memory",
            4,
            vec![
                begun,
                SHORT,
                OUTPUT,
                OUTPUT,
                OUTPUT,
                SETTLE,
                ACK,
                RUN_TWO,
                SETTLE,
                GONE,
                ALICE,
                SHORT_NO_MORE,
                SETTLE,
            ],
        ),
        (
            "deltas-joined-for-whoever-is-behind",
            4,
            vec![
                begun, OUTPUT, OUTPUT, OUTPUT, OUTPUT, OUTPUT, SETTLE, ACK, SETTLE, ACK, COMPLETE, SETTLE,
                SOON, ACK,
            ],
        ),
    ]
}

/// Topics, and tokens that are replaced.
fn published<'a>() -> Vec<Situation<'a>> {
    vec![
        (
            "topics-and-publications",
            0,
            vec![
                ALICE,
                NEWS,
                PUBLISH,
                SETTLE,
                PUBLISH_WITH_KEY,
                PUBLISH_WITH_KEY,
                SETTLE,
                PUBLISH_WITH_KEY,
                ACK_NEWS,
                ALL_TOPICS,
                SETTLE,
                RESTART,
                ALICE_READING,
                PUBLISH,
                SETTLE,
                ACK_NEWS,
            ],
        ),
        (
            "topics-that-end-with-a-token",
            0,
            vec![ALICE, ALL_TOPICS, SETTLE, REFRESH_LESS, SETTLE, WORKER, PUBLISH, SETTLE],
        ),
        (
            "a-topic-that-nobody-acknowledges",
            4,
            vec![
                ALICE, NEWS, PUBLISH, PUBLISH, PUBLISH, SETTLE, SOON, SETTLE, START_OVER, SETTLE, LEASE_OVER,
            ],
        ),
        (
            "workers-told-of-through-a-restart",
            0,
            vec![
                ALICE, ALL_TOPICS, SETTLE, WORKER, SETTLE, GONE_TWO, WORKER, RESTART, ALICE, ALL_TOPICS,
                SETTLE,
            ],
        ),
        (
            "topics-and-a-full-store",
            0,
            vec![ALICE, RUN, FULL, NEWS, WORKER, PUBLISH, GONE_TWO, SECOND, SETTLE, NEWS, SETTLE],
        ),
    ]
}

/// Questions, interruptions, retries, requests.
fn spoken<'a>(begun: &'a [u8], requests: &'a [u8]) -> Vec<Situation<'a>> {
    vec![
        ("a-token-for-ever", 0, vec![&[1, 0x6c, 0], WORKER, RUN, SETTLE]),
        ("a-question-and-its-answer", 0, vec![begun, ASKS, SETTLE, ANSWERS, SETTLE, GOT, COMPLETE, SETTLE]),
        ("a-question-out-of-time", 0, vec![begun, ASKS_SHORTLY, SETTLE, START_OVER, SETTLE, ANSWERS, SETTLE]),
        (
            "a-question-and-a-restart",
            1,
            vec![begun, ASKS, SETTLE, RUN_TWO, SETTLE, RESTART, WORKER_NAMING, ALICE, ANSWERS, SETTLE],
        ),
        ("steering", 0, vec![begun, STEERS, SETTLE, STEERS, GOT, GONE_TWO, WORKER_NAMING, SETTLE]),
        (
            "interrupted",
            0,
            vec![begun, RUN_INTERRUPT, SETTLE, COMPLETE, SETTLE, RUN_REJECT, SETTLE, RUN_HIGH, SETTLE],
        ),
        (
            "lost-and-tried-again",
            0,
            vec![
                ALICE,
                WORKER_RETRYABLE,
                RUN,
                SETTLE,
                STARTED,
                SETTLE,
                TOOL,
                ASKS,
                GONE_TWO,
                LEASE_OVER,
                WORKER,
                HALF,
                HALF,
                SETTLE,
                STARTED,
                SETTLE,
            ],
        ),
        ("a-worker-that-drains", 0, vec![begun, DRAIN, RUN_TWO, SETTLE, COMPLETE, SETTLE]),
        ("requests", 0, vec![begun, requests, SETTLE, requests, FULL, requests, LONG]),
        ("early-messages", 0, vec![&[1, 0x04], &[3, 0, 0, 0], RUN, ACK, &[19, 0], ANSWER, COMMIT, SETTLE]),
    ]
}
