//! The conformance cases (tests/conformance/README.md) held to the daemon: they are scripts of a server that
//! is none, so what they let it say must be what the contract knows, and what they make a client say must be
//! what the real daemon reads and answers as they do.

use runcast_tests::{Ask, Daemon, Socket, repository, token};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// All cases, with the files they are in.
fn cases() -> Vec<(String, Value)> {
    let folder = repository().join("tests/conformance");
    let files = fs::read_dir(folder).expect("the cases are there").map(|entry| entry.expect("a file").path());
    let mut all = Vec::new();
    for path in files.filter(|path| path.extension().is_some_and(|it| it == "json")) {
        let text = fs::read_to_string(&path).expect("UTF-8");
        let file: Value = serde_json::from_str(&text).expect("JSON");
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let cases = file["cases"].as_array().expect("cases").iter();
        all.extend(cases.map(|case| (format!("{name}: {}", case["name"]), case.clone())));
    }
    all
}

fn steps(case: &Value) -> impl Iterator<Item = &Value> {
    case["steps"].as_array().expect("steps").iter()
}

/// A client that says what the cases expect, to the real daemon.
#[derive(Debug)]
struct Player<'a> {
    daemon: &'a Daemon,
    /// A user of its own for each case.
    user: String,
    socket: Option<Socket>,
    /// What stands for `$names`.
    names: BTreeMap<String, Value>,
    /// What was made up so far.
    made: usize,
}

impl Player<'_> {
    /// An expected message as a client would say it: whole, and with something in place of each name.
    fn filled(&mut self, expected: &Value) -> Value {
        match expected {
            Value::String(name) if name.starts_with('$') => {
                self.made += 1;
                let made = json!(format!("made-{}", self.made));
                if name == "$any" { made } else { self.names.entry(name.clone()).or_insert(made).clone() }
            }
            Value::Object(fields) => {
                let said = fields.iter().filter(|(_, value)| **value != "$none");
                said.map(|(name, value)| (name.clone(), self.filled(value))).collect::<Map<_, _>>().into()
            }
            Value::Array(items) => items.iter().map(|item| self.filled(item)).collect::<Vec<_>>().into(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => expected.clone(),
        }
    }

    /// The same with what a case takes for granted.
    fn whole(&mut self, expected: &Value) -> Value {
        let granted = match expected["type"].as_str() {
            Some("run") => json!({ "agent": "echo", "input": 1 }),
            Some("cancel") => json!({ "run": "run_t_00000001" }),
            Some("input") => json!({ "run": "run_t_00000001", "data": 1 }),
            Some("subscribe") => json!({ "topics": [] }),
            _ => json!({}),
        };
        self.made += 1;
        let mut message = json!({ "id": format!("id-{}", self.made) });
        for part in [granted, self.filled(expected)] {
            message.as_object_mut().expect("an object").extend(part.as_object().expect("an object").clone());
        }
        // The cases' tokens are words.
        if message["type"] == "refresh" {
            message["token"] = token(&self.user, "user").into();
        }
        message
    }

    /// Connects and says a `hello`; what comes must be a `welcome` with all that the cases' server says.
    fn connect(&mut self, hello: &Value) {
        let mut hello = self.whole(hello);
        hello["type"] = json!("hello");
        let address = self.daemon.door().address();
        let mut socket = Socket::connect(address, "/ws", &token(&self.user, "user")).expect("an upgrade");
        socket.say(&hello);
        let welcome = socket.hear().expect("an answer");
        assert_eq!(welcome["type"], "welcome", "{hello}: {welcome}");
        for field in ["connection", "user", "epoch", "floor", "head", "resume", "heartbeat_ms", "runs"] {
            assert!(!welcome[field].is_null(), "{field}: {welcome}");
        }
        for limit in ["window", "message_bytes", "event_bytes", "runs_active", "runs_queued"] {
            assert!(welcome["limits"][limit].is_u64(), "{limit}: {welcome}");
        }
        self.names.insert("$device".to_owned(), welcome["device"].clone());
        self.socket = Some(socket);
    }

    /// Says a request, and returns its answer.
    fn ask(&mut self, expected: &Value) -> Value {
        let message = self.whole(expected);
        let socket = self.socket.as_mut().expect("connected");
        socket.say(&message);
        loop {
            let answer = socket.hear().expect("the connection lasts");
            if answer["type"] != "event" && answer["type"] != "notice" {
                assert_eq!(answer["id"], message["id"], "{message}: {answer}");
                return answer;
            }
        }
    }

    /// A request over HTTP, as `post` expects it.
    fn post(&mut self, expected: &Value) -> Value {
        let granted = json!({ "body": { "agent": "echo", "input": 1 } });
        let mut message = granted.as_object().expect("an object").clone();
        message.extend(self.filled(expected).as_object().expect("an object").clone());
        let path = message["path"].as_str().expect("a path");
        let ask = Ask::new("POST", path).token(&token(&self.user, "user"));
        let ask = match message.get("key").and_then(Value::as_str) {
            Some(key) => ask.header("idempotency-key", key),
            None => ask,
        };
        ask.json(&message["body"]).send(&self.daemon.door()).json
    }
}

/// Holds an answer of the daemon to that of the cases' server: it could be read, and has the same fields.
fn judge(name: &str, answer: &Value, scripted: Option<&Value>) {
    for unread in ["bad_json", "bad_message", "unknown_type", "not_found", "method_not_allowed"] {
        assert_ne!(answer["code"], unread, "{name}: {answer}");
    }
    let Some(scripted) = scripted.filter(|scripted| scripted["type"] == answer["type"]) else { return };
    let found: BTreeSet<&String> = answer.as_object().expect("an object").keys().collect();
    let wanted = scripted.as_object().expect("an object").keys();
    // How long to wait is said where there is something to wait for.
    let missing: Vec<_> = wanted.filter(|it| !found.contains(it) && *it != "retry_ms").collect();
    assert!(missing.is_empty(), "{name}: the daemon says no {missing:?}: {answer}");
}

#[test]
fn what_the_cases_make_a_client_say_is_read_and_answered_by_the_daemon() {
    let daemon = Daemon::start(&[
        "agents.echo.timeout=30s",
        "server.connections_per_address=1000",
        "topics.news.read=user",
    ]);
    let mut played = 0;
    for (index, (name, case)) in cases().iter().enumerate() {
        let user = format!("user_{index}");
        let mut player = Player { daemon: &daemon, user, socket: None, names: BTreeMap::new(), made: 0 };
        let all: Vec<&Value> = steps(case).collect();
        for (at, step) in all.iter().enumerate() {
            let scripted = all.get(at + 1).and_then(|next| next.get("send"));
            if let Some(connect) = step.get("connect").filter(|connect| connect["transport"] != "sse") {
                player.connect(connect.get("hello").unwrap_or(&json!({})));
            } else if let Some(expected) = step.get("expect") {
                let kind = expected["type"].as_str().expect("a type");
                if kind == "post" {
                    judge(name, &player.post(expected), None);
                } else {
                    let mut answer = player.ask(expected);
                    // It was asked for before, as the case has it.
                    if scripted.is_some_and(|it| it["duplicate"] == true) && answer["duplicate"] == false {
                        let again = expected.as_object().expect("an object").clone();
                        let key = [("key".to_owned(), answer["key"].clone())];
                        answer = player.ask(&again.into_iter().chain(key).collect());
                    }
                    judge(name, &answer, scripted);
                }
            }
        }
        played += 1;
    }
    assert!(played > 100, "{played} cases");
}

#[test]
fn what_the_cases_let_a_server_say_stands_in_the_protocol() {
    let text = fs::read_to_string(repository().join("core/PROTOCOL.md")).expect("it is there");
    let words: BTreeSet<&str> = text.split(|it: char| !it.is_alphanumeric() && it != '_').collect();
    let known =
        |name: &str, word: &str| assert!(words.contains(word), "{name}: `{word}` is not in PROTOCOL.md");
    for (name, case) in &cases() {
        // What is not in it is what one of them is about.
        if name.contains("what is not known is ignored") || name.contains("an event of any name") {
            continue;
        }
        for step in steps(case) {
            for verb in ["send", "event"] {
                let Some(message) = step[verb].as_object() else { continue };
                message.keys().for_each(|field| known(name, field));
                let named = ["type", "notice", "code", "of", "reason"].map(|field| message.get(field));
                for word in named.into_iter().flatten().filter_map(Value::as_str) {
                    known(name, word);
                }
            }
            if let Some(welcome) = step["connect"]["welcome"].as_object() {
                welcome.keys().for_each(|field| known(name, field));
            }
            if let Some(code) = step["close"].as_u64() {
                known(name, &code.to_string());
            }
        }
    }
}
