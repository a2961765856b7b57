//! Messages of users and workers: the examples of PROTOCOL.md, one of each kind, and the edges of their
//! limits.

use crate::Seed;

const MESSAGES: [(&str, &str); 57] = [
    (
        "hello-of-the-protocol",
        r#"{"type":"hello","device":"laptop-7f3a","token":"a.b.c","from":{"epoch":"e-5f1c","seq":41},"topics":[],"window":256,"ack":true}"#,
    ),
    ("hello-least", r#"{"type":"hello"}"#),
    ("hello-viewer", r#"{"type":"hello","ack":false,"from":"live"}"#),
    ("hello-viewer-from-device", r#"{"type":"hello","ack":false,"from":"device"}"#),
    ("hello-from-oldest", r#"{"type":"hello","from":"oldest","window":1}"#),
    ("hello-from-head", r#"{"type":"hello","from":"head","window":1024}"#),
    ("hello-from-text", r#"{"type":"hello","from":"yesterday"}"#),
    ("hello-window-too-large", r#"{"type":"hello","window":1025}"#),
    ("hello-window-none", r#"{"type":"hello","window":0}"#),
    ("hello-with-topics", r#"{"type":"hello","topics":["system",{"topic":"news","from":"oldest"}]}"#),
    ("hello-token-of-a-number", r#"{"type":"hello","token":7}"#),
    ("run-least", r#"{"type":"run","agent":"research","input":null}"#),
    (
        "run-whole",
        r#"{"type":"run","id":"7","key":"k-1","thread":"thread_1","agent":"research","input":{"q":"why","n":[1,2.50,-3e9]},"priority":"normal","timeout_ms":60000,"on_busy":"enqueue","parent":"run_t_0011aabb","meta":{"page":"home"}}"#,
    ),
    ("run-other-priority", r#"{"type":"run","agent":"a","input":1,"priority":"high"}"#),
    ("run-other-on-busy", r#"{"type":"run","agent":"a","input":1,"on_busy":"interrupt"}"#),
    ("run-reserved-meta", r#"{"type":"run","agent":"a","input":1,"meta":{"user":"mallory"}}"#),
    ("run-number-as-written", r#"{"type":"run","agent":"a","input":123456789012345678901234567890.000}"#),
    ("run-escapes", r#"{"type":"run","agent":"a","input":"\u00e9\ud83d\ude00\"\\\/\b\f\n\r\t"}"#),
    ("run-lone-surrogate", r#"{"type":"run","agent":"a","input":"\ud83d"}"#),
    ("run-surrogates-turned", r#"{"type":"run","agent":"a","input":"\ude00\ud83d"}"#),
    ("run-duplicate-fields", r#"{"type":"run","agent":"a","agent":"b","input":1,"input":{"x":1,"x":2}}"#),
    ("run-escaped-names", r#"{"\u0074ype":"run","agen\u0074":"a","input":"\u0061"}"#),
    ("run-white-space", "{ \"type\" :\t\"run\" ,\r\n\"agent\": \"a\" , \"input\" : [ 1 , 2 ] }"),
    ("cancel", r#"{"type":"cancel","id":"c","run":"run_thread_1_a1b2c3d4"}"#),
    ("ack", r#"{"type":"ack","seq":57}"#),
    ("ack-largest", r#"{"type":"ack","seq":9007199254740991}"#),
    ("ack-too-large", r#"{"type":"ack","seq":9007199254740992}"#),
    ("ack-negative", r#"{"type":"ack","seq":-1}"#),
    ("ack-fraction", r#"{"type":"ack","seq":1.0}"#),
    ("ack-of-a-topic", r#"{"type":"ack","seq":3,"topic":"news"}"#),
    ("ping", r#"{"type":"ping","n":4}"#),
    ("unknown-type", r#"{"type":"unsubscribe","topics":["news"]}"#),
    ("subscribe", r#"{"type":"subscribe","id":"s","topics":["news",{"topic":"a.b","from":"oldest"}]}"#),
    ("subscribe-nothing", r#"{"type":"subscribe","topics":[]}"#),
    ("subscribe-twice", r#"{"type":"subscribe","topics":["news",{"topic":"news"}]}"#),
    ("refresh", r#"{"type":"refresh","token":"a.b.c"}"#),
    ("publication", r#"{"event":"flash","data":{"n":[1,2.50]}}"#),
    ("hello-with-a-call", r#"{"type":"hello","device":"d","call":{"by":"p-1","n":2}}"#),
    ("hello-with-an-odd-call", r#"{"type":"hello","call":{"by":"","n":-1}}"#),
    (
        "worker-hello-with-a-call",
        r#"{"type":"hello","worker":"w","call":{"by":"p-1","n":2},"agents":[{"agent":"a"}]}"#,
    ),
    ("query", "limit=%31&from=e-1%3A7&limit=+2&x&=%c3%a9"),
    ("ack-over-http", r#"{"device":"d1","topic":"news","epoch":"e-1","seq":3}"#),
    ("input-over-http", r#"{"request":"q1","data":{"answer":"yes"},"key":"k"}"#),
    ("not-an-object", r#"[{"type":"ping"}]"#),
    ("not-json", r#"{"type":"ping""#),
    (
        "worker-hello-of-the-protocol",
        r#"{"type":"hello","worker":"w-1","token":"a.b.c","agents":[{"agent":"research","slots":4,"retryable":false,"timeout_ms":30000}],"runs":[{"run":"run_t_0011aabb","attempt":1,"n":17}]}"#,
    ),
    ("worker-hello-no-agents", r#"{"type":"hello","agents":[]}"#),
    ("worker-hello-agents-of-texts", r#"{"type":"hello","agents":["research"],"runs":[1]}"#),
    ("worker-started", r#"{"type":"started","run":"run_t_0011aabb","attempt":1}"#),
    (
        "worker-decline",
        r#"{"type":"decline","run":"run_t_0011aabb","attempt":1,"reason":"busy","retry_ms":86400000}"#,
    ),
    (
        "worker-thinking",
        r#"{"type":"event","run":"run_t_0011aabb","attempt":1,"n":1,"event":"agent_thinking","data":{"delta":"Let me"}}"#,
    ),
    (
        "worker-tool",
        r#"{"type":"event","run":"run_t_0011aabb","attempt":1,"n":2,"event":"tool_executing","data":{"call":"c1","tool":"search","args":{"q":"…"}}}"#,
    ),
    (
        "worker-progress",
        r#"{"type":"event","run":"run_t_0011aabb","attempt":1,"n":3,"event":"tool_progress","data":{"call":"c1","percent":100.00}}"#,
    ),
    (
        "worker-tool-ends-badly",
        r#"{"type":"event","run":"run_t_0011aabb","attempt":1,"n":4,"event":"tool_completed","data":{"call":"c1","status":"lost"}}"#,
    ),
    (
        "worker-complete",
        r#"{"type":"complete","run":"run_t_0011aabb","attempt":1,"n":9,"status":"ok","output":{"text":"done"},"usage":{"tokens":12}}"#,
    ),
    (
        "worker-complete-with-error",
        r#"{"type":"complete","run":"run_t_0011aabb","attempt":1,"n":9,"status":"error","error":{"code":"x","message":"y"}}"#,
    ),
    ("worker-got-and-beat", r#"{"type":"got","run":"run_t_0011aabb","attempt":1,"i":1}"#),
];

/// The messages above, and some that are too long to be written down.
pub(crate) fn messages() -> Vec<Seed> {
    let input = |json: &str| format!(r#"{{"type":"run","agent":"a","input":{json}}}"#).into_bytes();
    let nested = |depth: usize| input(&format!("{}{}", "[".repeat(depth), "]".repeat(depth)));
    let mut seeds: Vec<Seed> =
        MESSAGES.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect();
    seeds.push(("run-64-deep".into(), nested(64)));
    seeds.push(("run-65-deep".into(), nested(65)));
    seeds.push(("run-much-too-deep".into(), nested(1000)));
    let id = "i".repeat(129);
    seeds.push(("ping-id-too-long".into(), format!(r#"{{"type":"ping","id":"{id}"}}"#).into_bytes()));
    let word = "\\u0041".repeat(3000);
    let priority = format!(r#"{{"type":"run","agent":"a","input":1,"priority":"{word}"}}"#);
    seeds.push(("run-priority-of-a-long-word".into(), priority.into_bytes()));
    seeds
}
