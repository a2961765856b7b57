//! Operations on live connections and runs, in any order: users, workers, the store, the clock and restarts.
//! The model (O21) and the core's own invariants are asked after every input.

use crate::choices::Choices;
use crate::outside::Outside;
use runcast_core::config::{AgentConfig, Config, TopicConfig};
use runcast_core::ids::{Agent, ConnId, Topic};
use runcast_core::input::{BodyLength, Head, HeadProblem, Input, Message, UpgradeRequest};
use runcast_core::peer::Network;
use runcast_core::time::{Span, WallMs};
use std::fmt::Write as _;

/// Operations, at most: an input that does more is slow and says nothing new.
const OPERATIONS: usize = 2_000;
const TOPICS: [&str; 4] = ["news", "agents", "system", "none"];
const TOKENS: [&str; 7] = ["alice", "bob", "w", "alice.soon", "bob.late", "eve.forged", "bob.ever"];
const AGENTS: [&str; 3] = ["echo", "files", "odd"];
const THREADS: [&str; 3] = ["t1", "t2", "t3"];
const CALLS: [&str; 2] = ["c1", "c2"];

/// The first byte is the configuration; then come operations, a byte each, with their choices after them.
pub fn target(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut outside = Outside::new(config(choices.byte()));
    for _ in 0..OPERATIONS {
        if choices.is_empty() {
            break;
        }
        operation(&mut outside, &mut choices);
    }
    outside.settle();
    outside.wait(Span::secs(3));
    outside.settle();
    outside.restart(0);
    outside.settle();
    outside.wait(Span::secs(60));
}

fn config(choice: u8) -> Config {
    let mut config = Config::default();
    if choice & 1 != 0 {
        config.runs.active = 2;
        config.runs.active_per_user = 1;
    }
    if choice & 2 != 0 {
        config.server.output = 600;
        config.server.connections_per_user = 2;
    }
    if choice & 4 != 0 {
        config.runs.queued = 4;
        config.runs.queued_per_user = 2;
        config.delivery.window = 2;
    }
    if choice & 8 != 0 {
        config.store.events_per_user = 70;
        config.store.events_per_run = 6;
        config.store.devices_per_user = 1;
    }
    if choice & 128 != 0 {
        // Little is kept for long, and somebody is called about what is not delivered.
        config.store.keep = Span::secs(60);
        config.runs.key_keep = Span::secs(60);
        config.store.runs_per_user = 2;
        config.delivery.undelivered_after = Span::secs(3);
        config.delivery.webhook = Some("http://192.0.2.1/".to_owned());
    }
    if choice & 64 != 0 {
        // Two of the three addresses that there are.
        config.server.trusted_proxies.extend(Network::parse("10.0.0.0/31"));
    }
    if choice & 32 != 0 {
        // Odd but legal choices, at every site that has one.
        config.odd = !0;
    }
    let news = TopicConfig { read: None, events: (choice & 8 != 0).then_some(16) };
    config.topics.insert(Topic::parse("news").expect("a name"), news);
    if choice & 16 == 0 {
        let agent = Agent::parse("echo").expect("a name");
        config.agents.insert(agent, AgentConfig { timeout: Some(Span::secs(4)), ..AgentConfig::default() });
    }
    config
}

fn operation(outside: &mut Outside, choices: &mut Choices<'_>) {
    match choices.below(25) {
        0 => outside.settle(),
        1 | 2 => connect(outside, choices),
        3..=7 => user_says(outside, choices),
        8..=14 => worker_says(outside, choices),
        15 => drop(outside.commit(1 + choices.below(4))),
        16 => drop(outside.answer()),
        17 => outside.fill(),
        18 => {
            let messages = 1 + choices.below(4);
            if let Some(conn) = any(outside, choices, None) {
                outside.flush(conn, messages);
            }
        }
        19 => {
            if let Some(conn) = any(outside, choices, None) {
                outside.verify(conn);
            }
        }
        20 => outside.wait(Span::millis(choices.pick(&[1, 40, 500, 1_000, 2_500, 6_000, 16_000, 40_000]))),
        21 => {
            if let Some(conn) = any(outside, choices, None) {
                outside.hang_up(conn);
            }
        }
        22 => outside.restart(choices.below(4)),
        23 => odd(outside, choices),
        _ => request(outside, choices),
    }
}

/// One of the connections: of workers, of users, or of all that are there.
fn any(outside: &Outside, choices: &mut Choices<'_>, is_worker: Option<bool>) -> Option<ConnId> {
    let is_such = |is: bool| is_worker.is_none_or(|wanted| is == wanted);
    let lines = outside.conns.iter().filter(|(_, line)| is_such(line.is_worker));
    let found: Vec<ConnId> =
        lines.filter(|(_, line)| is_worker.is_none() || line.is_upgraded).map(|(conn, _)| *conn).collect();
    (!found.is_empty()).then(|| found[choices.below(found.len())])
}

/// A call, a head, and perhaps at once all that leads to a welcome.
fn connect(outside: &mut Outside, choices: &mut Choices<'_>) {
    let choice = choices.byte();
    let is_worker = choice & 1 != 0;
    let token = TOKENS[usize::from(choice >> 4) % TOKENS.len()];
    let conn = outside.call();
    outside.conns.entry(conn).and_modify(|line| line.is_worker = is_worker);
    let (bearer, jwt) = (format!("Bearer {token}"), format!("runcast.v1, jwt.{token}"));
    let head = Head {
        method: "GET",
        path: if is_worker { "/worker" } else { "/ws" },
        authorization: (choice & 6 == 2).then_some(&bearer),
        protocols: Some(if choice & 6 == 4 { &jwt } else { "runcast.v1" }),
        upgrade: UpgradeRequest::Valid,
        ..Head::default()
    };
    outside.feed(Input::Request { conn, head });
    if choice & 8 != 0 {
        outside.verify(conn);
        let hello = hello(outside, choices, is_worker, (choice & 6 == 0).then_some(token));
        says(outside, conn, &hello);
        outside.settle();
    }
}

fn says(outside: &mut Outside, conn: ConnId, text: &str) {
    outside.feed(Input::Message { conn, message: Message::Text(text) });
}

fn hello(outside: &Outside, choices: &mut Choices<'_>, is_worker: bool, token: Option<&str>) -> String {
    let token = token.map(|token| format!(r#","token":"{token}""#)).unwrap_or_default();
    let choice = choices.byte();
    if is_worker {
        let name = ["w1", "w2"][usize::from(choice & 1)];
        let slots = 1 + (choice >> 1 & 3);
        let named = outside.runs.iter().filter(|_| choice & 8 != 0);
        let runs: Vec<String> =
            named.map(|(run, attempt)| format!(r#"{{"run":"{run}","attempt":{attempt}}}"#)).collect();
        let retryable = choice & 32 != 0;
        let agents = if choice & 16 == 0 { r#"{"agent":"files"},"# } else { "" };
        let echo = format!(r#"{{"agent":"echo","slots":{slots},"retryable":{retryable}}}"#);
        let (agents, runs) = (format!(r#""agents":[{agents}{echo}]"#), runs.join(","));
        let call = if choice & 64 != 0 { call(choice >> 7) } else { String::new() };
        return format!(r#"{{"type":"hello","worker":"{name}"{token},{agents},"runs":[{runs}]{call}}}"#);
    }
    let from = match choice & 7 {
        0 | 1 => String::new(),
        2 => r#","from":"oldest""#.to_owned(),
        3 => r#","from":"head""#.to_owned(),
        4 => r#","from":"live""#.to_owned(),
        5 => r#","from":{"epoch":"e-0","seq":1}"#.to_owned(),
        _ => {
            let seq = choices.number();
            let view = outside.epoch(["alice", "bob"][usize::from(choice & 1)]);
            format!(r#","from":{{"epoch":"{view}","seq":{seq}}}"#)
        }
    };
    let device =
        ["", r#","device":"d1""#, r#","device":"d2""#, r#","ack":false"#][usize::from(choice >> 3 & 3)];
    let window = match choice >> 5 & 3 {
        0 => String::new(),
        1 => r#","window":1"#.to_owned(),
        2 => r#","window":3"#.to_owned(),
        _ => call(choice & 7),
    };
    let topics = if choice & 128 != 0 { topics(outside, choices) } else { String::new() };
    format!(r#"{{"type":"hello"{token}{device}{from}{window}{topics}}}"#)
}

/// The field `call`: a call may come after one that was made later.
fn call(n: u8) -> String {
    format!(r#","call":{{"by":"p","n":{n}}}"#)
}

fn run(outside: &Outside, choices: &mut Choices<'_>) -> (String, u64) {
    let unknown = ("run_t1_00000000".to_owned(), 1);
    let choice = choices.below(outside.runs.len() + 1);
    // The newest first: it is the one that most can be done with.
    outside.runs.iter().rev().nth(choice).cloned().unwrap_or(unknown)
}

fn user_says(outside: &mut Outside, choices: &mut Choices<'_>) {
    let Some(conn) = any(outside, choices, Some(false)) else { return };
    let text = match choices.below(13) {
        0 => hello(outside, choices, false, Some("alice")),
        1..=3 => {
            let (agent, thread) = (choices.pick(&AGENTS), choices.pick(&THREADS));
            let choice = choices.byte();
            let mut more = String::new();
            if choice & 3 == 3 {
                let key = choice >> 2 & 3;
                let _ = write!(more, r#","key":"k{key}""#);
            }
            if choice & 16 != 0 {
                let _ = write!(more, r#","timeout_ms":{}"#, choices.number());
            }
            if choice & 32 != 0 {
                let parent = run(outside, choices).0;
                let _ = write!(more, r#","parent":"{parent}""#);
            }
            let ways = choices.byte();
            let priority = ["normal", "low", "high", "normal"][usize::from(ways & 3)];
            let on_busy = ["enqueue", "reject", "interrupt", "enqueue"][usize::from(ways >> 2 & 3)];
            let _ = write!(more, r#","priority":"{priority}","on_busy":"{on_busy}""#);
            let input = choice >> 6;
            format!(
                r#"{{"type":"run","id":"i","agent":"{agent}","thread":"{thread}","input":{input}{more}}}"#
            )
        }
        4 => format!(r#"{{"type":"cancel","run":"{}"}}"#, run(outside, choices).0),
        5 => format!(r#"{{"type":"ack","seq":{}}}"#, outside.conns[&conn].seen),
        6 => format!(r#"{{"type":"ack","seq":{}}}"#, choices.number()),
        7 | 8 => {
            let (run, fields) = (run(outside, choices).0, input(choices));
            format!(r#"{{"type":"input","run":"{run}",{fields}}}"#)
        }
        9 => r#"{"type":"ping","n":1}"#.to_owned(),
        10 => format!(r#"{{"type":"subscribe","id":"s"{}}}"#, topics(outside, choices)),
        11 => {
            let choice = choices.byte();
            let topic = TOPICS[usize::from(choice & 3)];
            let seq = if choice & 4 == 0 { outside.conns[&conn].seen_of_topic } else { choices.number() };
            format!(r#"{{"type":"ack","topic":"{topic}","seq":{seq}}}"#)
        }
        _ => {
            let token = choices.pick(&["alice", "alice.less", "bob.less", "alice.soon", "eve.forged"]);
            format!(r#"{{"type":"refresh","id":"r","token":"{token}"}}"#)
        }
    };
    says(outside, conn, &text);
}

/// The field `topics`: any of them, from anywhere.
fn topics(outside: &Outside, choices: &mut Choices<'_>) -> String {
    let choice = choices.byte();
    let mut items = Vec::new();
    for (index, topic) in TOPICS.iter().enumerate().filter(|(index, _)| choice & (1 << index) != 0) {
        let from = match choice >> 4 & 7 {
            0 | 1 => String::new(),
            2 => r#","from":"oldest""#.to_owned(),
            3 => r#","from":"device""#.to_owned(),
            _ => {
                let (epoch, seq) = (outside.epoch_of_topic(topic), choices.below(4));
                format!(r#","from":{{"epoch":"{epoch}","seq":{seq}}}"#)
            }
        };
        let twice = usize::from(index == 0 && choice & 128 != 0) + 1;
        items.extend(std::iter::repeat_n(format!(r#"{{"topic":"{topic}"{from}}}"#), twice));
    }
    format!(r#","topics":[{}]"#, items.join(","))
}

/// An answer to a question, or steering.
fn input(choices: &mut Choices<'_>) -> String {
    let choice = choices.byte();
    let request = [r#""request":"q1","#, r#""request":"q2","#, "", ""][usize::from(choice & 3)];
    let key = if choice & 4 != 0 { r#","key":"k1""# } else { "" };
    format!(r#"{request}"data":{}{key}"#, choice >> 5)
}

fn worker_says(outside: &mut Outside, choices: &mut Choices<'_>) {
    let Some(conn) = any(outside, choices, Some(true)) else { return };
    let kind = choices.below(20);
    let (run, attempt) = run(outside, choices);
    let of = format!(r#""run":"{run}","attempt":{attempt}"#);
    let (call, of_run) = (choices.pick(&CALLS), (run, attempt));
    let data = match kind {
        0 => {
            let hello = hello(outside, choices, true, Some("w"));
            return says(outside, conn, &hello);
        }
        1..=3 => return says(outside, conn, &format!(r#"{{"type":"started",{of}}}"#)),
        4 => {
            let retry = choices.number();
            return says(outside, conn, &format!(r#"{{"type":"decline",{of},"retry_ms":{retry}}}"#));
        }
        5 => return says(outside, conn, &format!(r#"{{"type":"got",{of},"i":1}}"#)),
        6 => return says(outside, conn, r#"{"type":"beat"}"#),
        7 | 8 => r#""event":"agent_output","data":{"delta":"x"}"#.to_owned(),
        9 | 10 => format!(r#""event":"tool_executing","data":{{"call":"{call}","tool":"t","args":1}}"#),
        11 => format!(r#""event":"tool_progress","data":{{"call":"{call}","percent":50}}"#),
        12 | 13 => format!(r#""event":"tool_completed","data":{{"call":"{call}","status":"ok"}}"#),
        14 => r#""event":"run_queued","data":{}"#.to_owned(),
        16 | 17 => {
            let choice = choices.byte();
            let expires = if choice & 2 != 0 { r#","expires_ms":3000"# } else { "" };
            let request = 1 + (choice & 1);
            format!(r#""event":"input_required","data":{{"request":"q{request}","prompt":"?"{expires}}}"#)
        }
        18 => r#""event":"step_started","data":{"step":"s"}"#.to_owned(),
        19 => return says(outside, conn, r#"{"type":"drain"}"#),
        _ => {
            let status = choices.pick(&["ok", "error", "cancelled", "odd"]);
            format!(r#""status":"{status}","output":[1]"#)
        }
    };
    let next = outside.conns.get_mut(&conn).and_then(|line| line.next.get(&of_run).copied()).unwrap_or(1);
    let n = match choices.below(16) {
        0 => next.saturating_sub(1),
        1 => next + 1,
        2 => choices.number(),
        _ => next,
    };
    if n == next
        && let Some(line) = outside.conns.get_mut(&conn)
    {
        line.next.insert(of_run, next + 1);
    }
    let kind = if data.starts_with(r#""status""#) { "complete" } else { "event" };
    says(outside, conn, &format!(r#"{{"type":"{kind}",{of},"n":{n},{data}}}"#));
}

/// A request over HTTP, with all that it takes until it is answered or waits for the store.
fn request(outside: &mut Outside, choices: &mut Choices<'_>) {
    let kind = choices.below(13);
    if kind == 12 {
        return anything(outside, choices);
    }
    let run = run(outside, choices).0;
    let choice = choices.byte();
    let authorization = format!("Bearer {}", TOKENS[usize::from(choice) % TOKENS.len()]);
    let (method, path, body) = match kind {
        0 | 1 => {
            let user = ["", r#","user":"alice""#][usize::from(choice >> 7)];
            let path = ["/v1/runs", "/v1/threads/t1/runs"][kind];
            ("POST", path.to_owned(), Some(format!(r#"{{"agent":"echo","input":1{user}}}"#)))
        }
        2 => ("GET", format!("/v1/runs/{run}"), None),
        3 => ("POST", format!("/v1/runs/{run}/cancel"), None),
        4 => ("POST", format!("/v1/runs/{run}/input"), Some(format!("{{{}}}", input(choices)))),
        5 => ("GET", "/v1/runs".to_owned(), None),
        6 => ("GET", "/v1/threads".to_owned(), None),
        7 => ("GET", "/v1/events".to_owned(), None),
        8 => {
            let epoch = outside.epoch("alice");
            let body = format!(r#"{{"device":"d1","epoch":"{epoch}","seq":{}}}"#, choices.number());
            ("POST", "/v1/ack".to_owned(), Some(body))
        }
        9 => match choice >> 6 {
            0 => ("GET", "/v1/workers".to_owned(), None),
            1 => ("GET", "/v1/undelivered".to_owned(), None),
            2 => ("GET", "/v1/status".to_owned(), None),
            _ => ("DELETE", "/v1/users/alice".to_owned(), None),
        },
        10 => {
            let (topic, data) = (TOPICS[usize::from(choice >> 4 & 3)], choice >> 7);
            let body = format!(r#"{{"event":"flash","data":{data}}}"#);
            ("POST", format!("/v1/topics/{topic}/events"), Some(body))
        }
        _ => {
            let (epoch, seq) = (outside.epoch_of_topic("news"), choices.below(4));
            let body = format!(r#"{{"device":"d1","topic":"news","epoch":"{epoch}","seq":{seq}}}"#);
            ("POST", "/v1/ack".to_owned(), Some(body))
        }
    };
    let key = if choice & 64 != 0 { Some("k1") } else { None };
    let (length, query) = (body.as_ref().map_or(0, String::len), matches!(kind, 7 | 9).then_some("limit=2"));
    let conn = outside.call();
    outside.conns.entry(conn).and_modify(|line| line.body = body);
    let head = Head {
        method,
        path: &path,
        query,
        authorization: Some(&authorization),
        body: if length > 0 { BodyLength::Bytes(length as u64) } else { BodyLength::None },
        idempotency_key: key,
        ..Head::default()
    };
    outside.feed(Input::Request { conn, head });
    outside.verify(conn);
    outside.send_body(conn);
}

/// A request for anything, by anyone, but for a stream of events: the model knows none over HTTP.
fn anything(outside: &mut Outside, choices: &mut Choices<'_>) {
    let method = choices.pick(&["GET", "POST", "DELETE", "HEAD"]);
    let authorization = format!("Bearer {}", choices.pick(&TOKENS));
    let [target, forwarded, body] = [(); 3].map(|()| String::from_utf8_lossy(choices.some()).into_owned());
    let (path, query) = target.split_once('?').map_or((&*target, None), |(path, query)| (path, Some(query)));
    if path == "/v1/stream" {
        return;
    }
    let conn = outside.call();
    let length = body.len() as u64;
    outside.conns.entry(conn).and_modify(|line| line.body = Some(body));
    let head = Head {
        method,
        path,
        query,
        authorization: Some(&authorization),
        body: if length > 0 { BodyLength::Bytes(length) } else { BodyLength::None },
        forwarded: Some(&forwarded).filter(|list| !list.is_empty()).map(String::as_str),
        ..Head::default()
    };
    outside.feed(Input::Request { conn, head });
    outside.verify(conn);
    outside.send_body(conn);
}

/// What seldom happens.
fn odd(outside: &mut Outside, choices: &mut Choices<'_>) {
    let kind = choices.below(13);
    if kind == 0 {
        let conn = outside.call();
        let head =
            Head { method: "GET", path: choices.pick(&["/livez", "/readyz", "/", "/x"]), ..Head::default() };
        return outside.feed(Input::Request { conn, head });
    }
    if kind == 1 {
        let conn = outside.call();
        return outside.feed(Input::BadHead { conn, problem: HeadProblem::TooLarge });
    }
    if kind == 2 {
        // The wall clock jumps.
        let by = choices.number() % 100_000_000;
        let wall = outside.now.wall.0;
        outside.now.wall = WallMs(if choices.byte() & 1 == 0 { wall + by } else { wall.saturating_sub(by) });
        return;
    }
    if kind == 9 {
        return outside.feed(Input::Drain);
    }
    if kind == 10 {
        let used = choices.pick(&[u64::MAX, 0]);
        return outside.feed(Input::Memory { used });
    }
    if kind == 11 {
        let is_well = choices.byte() & 1 != 0;
        outside.finish(is_well);
        return;
    }
    if kind == 12 {
        return outside.wait(Span::secs(3_600));
    }
    let Some(conn) = any(outside, choices, None).filter(|conn| outside.conns[conn].is_upgraded) else {
        return;
    };
    let text;
    let message = match kind {
        3 => Message::Pong,
        4 => Message::Binary,
        5 => Message::TooLarge,
        6 => Message::NotUtf8,
        7 => Message::Breach("a breach"),
        _ => {
            text = String::from_utf8_lossy(choices.some());
            Message::Text(&text)
        }
    };
    outside.feed(Input::Message { conn, message });
}
