//! Requests under `/v1/` (PROTOCOL §7): each row of the table once as it should be, and how it is refused.

use runcast_tests::{Answer, Ask, Daemon, Door, SECRET, User, Worker, claims, eventually, sign, token};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;

fn get(path: &str, user: &str) -> Ask {
    Ask::new("GET", path).token(&token(user, "user"))
}

fn post(path: &str, user: &str, body: &Value) -> Ask {
    Ask::new("POST", path).token(&token(user, "user")).json(body)
}

/// The answer of a request that must be refused so.
fn refused(ask: &Ask, door: &Door, status: u16, code: &str) -> Answer {
    let answer = ask.send(door);
    assert_eq!((answer.status, &answer.json["code"]), (status, &json!(code)), "{ask:?}: {answer:?}");
    assert!(answer.head.contains("Content-Type: application/problem+json"), "{}", answer.head);
    assert_eq!(answer.json["message"], answer.json["detail"]);
    answer
}

/// The body of the answer to a request that must go well.
fn fine(ask: &Ask, door: &Door, status: u16) -> Value {
    let answer = ask.send(door);
    assert_eq!(answer.status, status, "{ask:?}: {answer:?}");
    answer.json
}

/// A run that is accepted over HTTP; its id.
fn accepted(door: &Door, user: &str, thread: &str) -> String {
    let ask = post(&format!("/v1/threads/{thread}/runs"), user, &json!({ "agent": "research", "input": 1 }));
    let answer = fine(&ask, door, 201);
    assert_eq!((&answer["type"], &answer["thread"]), (&json!("accepted"), &json!(thread)), "{answer}");
    answer["run"].as_str().expect("a run's id").to_owned()
}

/// A run that was executed to its end.
fn ended(door: &Door, worker: &mut Worker, user: &str, thread: &str) -> String {
    let run = accepted(door, user, thread);
    let offer = worker.take();
    worker.event(&offer, 1, "agent_output", &json!({ "delta": "Done." }));
    worker.complete(&offer, 2, &json!("Done."));
    run
}

#[test]
fn a_request_needs_a_token_that_is_good_for_it() {
    let daemon = Daemon::start(&[]);
    let door = daemon.door();
    refused(&Ask::new("GET", "/v1/runs"), &door, 401, "token_missing");
    let mut old = claims("alice", "user");
    old["exp"] = json!(1_000_000_000);
    for (token, status, code) in [
        (sign(&old, SECRET), 401, "token_expired"),
        (sign(&claims("alice", "user"), b"another secret, of nobody here at all"), 401, "token_signature"),
        (token("alice", "worker"), 403, "token_scope"),
        (token("alice", "operate"), 403, "token_scope"),
        ("no.jwt.".to_owned(), 401, "token_malformed"),
    ] {
        let answer = refused(&Ask::new("GET", "/v1/runs").token(&token), &door, status, code);
        assert_eq!(answer.head.contains("WWW-Authenticate: Bearer"), status == 401, "{}", answer.head);
    }
    for path in ["/v1/workers", "/v1/status"] {
        refused(&get(path, "alice"), &door, 403, "token_scope");
    }
    refused(
        &Ask::new("GET", "/v1/runs").header("authorization", "Basic eA=="),
        &door,
        401,
        "token_malformed",
    );
    refused(&get("/v1/runs?token=x", "alice"), &door, 400, "bad_message");
    refused(
        &get("/v1/runs", "alice").header("origin", "http://evil.example"),
        &door,
        403,
        "origin_forbidden",
    );
    assert_eq!(
        fine(&get("/v1/runs", "alice").header("origin", "http://localhost"), &door, 200)["runs"],
        json!([])
    );
}

/// What a browser needs to let a page use the daemon that came from elsewhere (Fetch Standard, CORS).
#[test]
fn a_page_of_a_configured_origin_may_ask_and_read_the_answers() {
    let daemon = Daemon::start(&["server.origins=[\"https://chat.example\"]"]);
    let door = daemon.door();
    let from = |ask: Ask, origin: &str| ask.header("origin", origin);
    let may_read = |answer: &Answer| {
        let head = &answer.head;
        let reads = head.contains("\r\nAccess-Control-Allow-Origin: https://chat.example\r\n");
        assert_eq!(reads, head.contains("\r\nVary: Origin\r\n"), "{head}");
        reads
    };
    let asks = from(Ask::new("OPTIONS", "/v1/runs"), "https://chat.example");
    let answer = asks.header("access-control-request-method", "POST").send(&door);
    assert_eq!((answer.status, may_read(&answer)), (204, true), "{answer:?}");
    for line in [
        "Access-Control-Allow-Methods: GET, POST, DELETE",
        "Access-Control-Allow-Headers: Authorization, Content-Type, Idempotency-Key, Last-Event-ID",
    ] {
        assert!(answer.head.contains(&format!("\r\n{line}\r\n")), "{}", answer.head);
    }
    let run = json!({ "agent": "research", "input": 1 });
    let answer = from(post("/v1/runs", "alice", &run), "https://chat.example").send(&door);
    assert_eq!((answer.status, may_read(&answer)), (201, true), "{answer:?}");
    let answer = from(Ask::new("GET", "/v1/runs"), "https://chat.example").send(&door);
    assert_eq!((answer.status, may_read(&answer)), (401, true), "a refusal is read, too: {answer:?}");
    // The daemon's own pages need nothing of it, and others get nothing.
    let answer = from(get("/v1/runs", "alice"), "http://localhost").send(&door);
    assert_eq!((answer.status, may_read(&answer)), (200, false), "{answer:?}");
    let answer = from(Ask::new("OPTIONS", "/v1/runs"), "https://evil.example").send(&door);
    assert_eq!((answer.status, may_read(&answer)), (403, false), "{answer:?}");
    let stream = from(get("/v1/stream", "alice"), "https://chat.example");
    let mut lines = BufReader::new(stream.header("accept", "text/event-stream").open(&door)).lines();
    let mut head = lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty());
    assert!(head.any(|line| line == "Access-Control-Allow-Origin: https://chat.example"));
}

#[test]
fn a_path_or_method_that_is_not_there_is_told() {
    let daemon = Daemon::start(&[]);
    let door = daemon.door();
    refused(&get("/v1/nothing", "alice"), &door, 404, "not_found");
    refused(&get("/v1/runs/", "alice"), &door, 404, "not_found");
    for (method, path, allow) in [
        ("DELETE", "/v1/runs", "GET, POST"),
        ("POST", "/v1/events", "GET"),
        ("GET", "/v1/ack", "POST"),
        ("POST", "/livez", "GET, HEAD"),
    ] {
        let answer = refused(&Ask::new(method, path), &door, 405, "method_not_allowed");
        assert!(answer.head.contains(&format!("\r\nAllow: {allow}\r\n")), "{}", answer.head);
    }
}

#[test]
fn a_body_must_come_in_one_piece_of_bounded_length() {
    let daemon = Daemon::start(&["server.hello_timeout=300ms"]);
    let door = daemon.door();
    let ask = Ask::new("POST", "/v1/runs").token(&token("alice", "user"));
    refused(&ask, &door, 411, "bad_message");
    refused(&ask.clone().header("transfer-encoding", "chunked"), &door, 411, "bad_message");
    refused(&ask.clone().header("content-length", "65537"), &door, 413, "too_large");
    refused(&ask.clone().header("content-length", "+5"), &door, 400, "bad_message");
    let twice = ask.clone().header("content-length", "2").header("content-length", "2");
    refused(&twice, &door, 400, "bad_message");
    refused(&ask.clone().header("content-length", "5"), &door, 408, "bad_message");
    refused(&ask.clone().body("{"), &door, 400, "bad_json");
    refused(&ask.clone().body("[]"), &door, 400, "bad_message");
    refused(&ask.clone().body(""), &door, 400, "bad_json");
    let body = json!({ "agent": "research", "input": "x".repeat(60_000) });
    let large = fine(&ask.clone().json(&body), &door, 201);
    assert_eq!(large["duplicate"], json!(false), "{large}");
    let waits = ask.header("expect", "100-continue").json(&json!({ "agent": "research", "input": 1 }));
    assert_eq!(waits.send(&door).status, 201, "a body that is there already is not asked for");
}

#[test]
fn a_run_is_asked_for_once_by_its_key_over_http_and_websocket_alike() {
    let daemon = Daemon::start(&[]);
    let door = daemon.door();
    let body = json!({ "agent": "research", "input": { "q": 1.50 } });
    let ask = post("/v1/threads/t%31/runs", "alice", &body).header("idempotency-key", "k");
    let first = fine(&ask, &door, 201);
    assert_eq!((&first["key"], &first["thread"]), (&json!("k"), &json!("t1")), "{first}");
    let again = fine(&ask, &door, 200);
    assert_eq!((&again["run"], &again["duplicate"]), (&first["run"], &json!(true)), "{again}");
    let mut user = User::connected("alice", "laptop", &door);
    user.run("k", "t1", &json!({ "q": 1.50 }));
    let answer = user.socket().hear_type("accepted").expect("an answer");
    assert_eq!((&answer["run"], &answer["duplicate"]), (&first["run"], &json!(true)), "{answer}");
    let other = post("/v1/runs", "alice", &body).header("idempotency-key", "k");
    refused(&other, &door, 409, "key_reused");
    refused(&other.header("idempotency-key", "k"), &door, 400, "bad_message");
    refused(&post("/v1/runs", "alice", &body).header("idempotency-key", "a b"), &door, 400, "bad_message");
    let made = fine(&post("/v1/runs", "alice", &body), &door, 201);
    assert!(made["thread"].as_str().is_some_and(|thread| thread.starts_with("thread_")), "{made}");
}

#[test]
fn a_run_that_cannot_be_is_refused_with_all_that_is_wrong() {
    let daemon = Daemon::start(&["runs.queued_per_user=1"]);
    let door = daemon.door();
    let asks = |body: Value| post("/v1/threads/t1/runs", "alice", &body);
    refused(&asks(json!({ "input": 1 })), &door, 400, "bad_message");
    refused(&asks(json!({ "agent": "nobody", "input": 1 })), &door, 404, "agent_unknown");
    refused(&asks(json!({ "agent": "research", "input": 1, "thread": "t2" })), &door, 400, "bad_message");
    refused(&post("/v1/threads/a%20b/runs", "alice", &json!({})), &door, 400, "bad_message");
    let foreign = asks(json!({ "agent": "research", "input": 1, "user": "bob" }));
    refused(&foreign, &door, 403, "token_scope");
    accepted(&door, "alice", "t1");
    let full = asks(json!({ "agent": "nobody", "input": 1, "on_busy": "reject" }));
    let answer = refused(&full, &door, 404, "agent_unknown");
    let also: Vec<&Value> =
        answer.json["also"].as_array().expect("more").iter().map(|it| &it["code"]).collect();
    assert_eq!(also, [&json!("thread_busy"), &json!("user_queue_full")], "{answer:?}");
    let full = refused(&asks(json!({ "agent": "research", "input": 1 })), &door, 429, "user_queue_full");
    assert!(full.head.contains("Retry-After: 1\r\n") && full.json["retry_ms"] == json!(1000), "{full:?}");
    let mut few = claims("alice", "user");
    few["agents"] = json!(["files"]);
    let ask = Ask::new("POST", "/v1/runs").token(&sign(&few, SECRET));
    refused(&ask.json(&json!({ "agent": "research", "input": 1 })), &door, 403, "agent_forbidden");
}

#[test]
fn a_publisher_runs_agents_for_users_and_sees_the_runs_of_its_agents_alone() {
    let daemon = Daemon::start(&["agents.files.timeout=30s"]);
    let door = daemon.door();
    let mut own = claims("crm", "publish");
    own["agents"] = json!(["research"]);
    let publisher = sign(&own, SECRET);
    let ask = |method: &str, path: &str| Ask::new(method, path).token(&publisher);
    let body = json!({ "agent": "research", "input": 1, "user": "alice" });
    let run = fine(&ask("POST", "/v1/runs").json(&body), &door, 201)["run"].clone();
    let run = run.as_str().expect("a run's id");
    let nobodys = json!({ "agent": "research", "input": 1 });
    refused(&ask("POST", "/v1/runs").json(&nobodys), &door, 400, "bad_message");
    let mut alice = User::connected("alice", "laptop", &door);
    assert_eq!(alice.until("run_queued")["run"], json!(run));
    assert_eq!(fine(&ask("GET", &format!("/v1/runs/{run}")), &door, 200)["state"], "queued");
    refused(&ask("GET", "/v1/runs"), &door, 403, "token_scope");
    let files = json!({ "agent": "files", "input": 1 });
    let other = fine(&post("/v1/runs", "alice", &files), &door, 201)["run"].clone();
    let other = other.as_str().expect("a run's id");
    refused(&ask("GET", &format!("/v1/runs/{other}")), &door, 404, "run_not_found");
    refused(&ask("POST", &format!("/v1/runs/{other}/cancel")), &door, 404, "run_not_found");
    let cancelled = fine(&ask("POST", &format!("/v1/runs/{run}/cancel")), &door, 200);
    assert_eq!(cancelled["state"], "ended", "{cancelled}");
    let after = fine(&ask("GET", &format!("/v1/runs/{run}")), &door, 200);
    assert_eq!((&after["state"], &after["status"]), (&json!("ended"), &json!("cancelled")), "{after}");
}

#[test]
fn a_publisher_that_knows_only_a_legacy_id_means_the_one_run_of_its_thread() {
    let daemon = Daemon::start(&["agents.files.timeout=30s"]);
    let door = daemon.door();
    let mut own = claims("crm", "publish");
    own["agents"] = json!(["research"]);
    let publisher = sign(&own, SECRET);
    let state = |id: &str| Ask::new("GET", &format!("/v1/runs/{id}")).token(&publisher);
    let run = accepted(&door, "alice", "thread_789");
    for id in ["thread_789", "run_thread_789", "thread_789_run", "user_123_thread_789_session"] {
        assert_eq!(fine(&state(id), &door, 200)["run"], json!(run), "{id}");
        // A pattern is nobody's right: to others it is a run that there is not.
        refused(&get(&format!("/v1/runs/{id}"), "alice"), &door, 404, "run_not_found");
    }
    for id in ["thread_78", "simple_run_id", "run_thread_789_0011aabb"] {
        refused(&state(id), &door, 404, "run_not_found");
    }
    // Of agents that are not of its claim it sees none; of two runs it cannot tell which.
    let files = json!({ "agent": "files", "input": 1 });
    fine(&post("/v1/threads/thread_5/runs", "alice", &files), &door, 201);
    refused(&state("run_thread_5"), &door, 404, "run_not_found");
    let other = accepted(&door, "bob", "thread_789");
    refused(&state("run_thread_789"), &door, 404, "run_not_found");
    let cancel = |id: &str| Ask::new("POST", &format!("/v1/runs/{id}/cancel")).token(&publisher);
    fine(&cancel(&run), &door, 200);
    assert_eq!(fine(&cancel("thread_789_run"), &door, 200)["run"], json!(other));
    refused(&cancel("thread_789_run"), &door, 404, "run_not_found");
}

#[test]
fn a_run_is_seen_steered_answered_and_cancelled_by_its_owner_alone() {
    let daemon = Daemon::start(&[]);
    let door = daemon.door();
    let mut worker = Worker::connect(&door, 1, &json!([])).expect("a welcome");
    let run = accepted(&door, "alice", "t1");
    let offer = worker.take();
    let (state, input) = (format!("/v1/runs/{run}"), format!("/v1/runs/{run}/input"));
    assert_eq!(fine(&get(&state, "alice"), &door, 200)["state"], "running");
    refused(&get(&state, "bob"), &door, 404, "run_not_found");
    refused(&get("/v1/runs/nothing", "alice"), &door, 404, "run_not_found");
    refused(&get("/v1/runs/a%20b", "alice"), &door, 404, "run_not_found");
    refused(&post(&input, "bob", &json!({ "data": 1 })), &door, 404, "run_not_found");
    refused(&post(&input, "alice", &json!({})), &door, 400, "bad_message");
    let steering = post(&input, "alice", &json!({ "data": "left" })).header("idempotency-key", "i");
    for _ in 0..2 {
        assert_eq!(fine(&steering, &door, 200)["of"], "input");
    }
    let told = worker.hear_type("input");
    assert_eq!((&told["data"], &told["i"]), (&json!("left"), &json!(1)), "{told}");
    worker.event(&offer, 1, "input_required", &json!({ "request": "q", "prompt": "Which?" }));
    let answer = |data: i32| post(&input, "alice", &json!({ "request": "q", "data": data }));
    worker.hear_type("ack");
    assert_eq!(fine(&get(&state, "alice"), &door, 200)["state"], "waiting");
    fine(&answer(7), &door, 200);
    refused(&answer(8), &door, 409, "input_already_given");
    assert_eq!(worker.hear_type("input")["data"], json!(7));
    let cancel = Ask::new("POST", &format!("{state}/cancel")).token(&token("alice", "user"));
    let foreign = Ask::new("POST", &format!("{state}/cancel")).token(&token("bob", "user"));
    refused(&foreign, &door, 404, "run_not_found");
    assert_eq!(fine(&cancel, &door, 200)["state"], "cancelling");
    worker.hear_type("cancel");
    worker.end(&offer, 2, "cancelled", &json!(null));
    assert_eq!(fine(&cancel, &door, 200)["state"], "ended");
    refused(&answer(9), &door, 409, "input_not_awaited");
    let end = fine(&get(&state, "alice"), &door, 200);
    assert_eq!((&end["status"], &end["agent"]), (&json!("cancelled"), &json!("research")), "{end}");
    refused(&get(&state, "bob"), &door, 404, "run_not_found");
}

#[test]
fn a_run_shows_its_step_and_how_far_it_is_also_after_a_restart() {
    let mut daemon = Daemon::start(&["runs.lease=60s"]);
    let mut worker = Worker::connect(&daemon.door(), 1, &json!([])).expect("a welcome");
    let run = accepted(&daemon.door(), "alice", "t1");
    let mut offer = worker.take();
    let state = |daemon: &Daemon| {
        let run = fine(&get(&format!("/v1/runs/{run}"), "alice"), &daemon.door(), 200);
        (run["step"].clone(), run["percent"].clone())
    };
    assert_eq!(state(&daemon), (Value::Null, Value::Null));
    worker.event(&offer, 1, "step_started", &json!({ "step": "search" }));
    worker.event(&offer, 2, "run_progress", &json!({ "percent": 12.5 }));
    while worker.hear_type("ack")["n"] != 2 {}
    assert_eq!(state(&daemon), (json!("search"), json!(12.5)));
    daemon.kill();
    daemon.restart();
    assert_eq!(state(&daemon), (json!("search"), json!(12.5)));
    offer["n"] = json!(2);
    let mut worker = Worker::connect(&daemon.door(), 1, &json!([offer])).expect("a welcome");
    worker.event(&offer, 3, "step_completed", &json!({ "step": "search", "status": "ok" }));
    worker.hear_type("ack");
    assert_eq!(state(&daemon), (Value::Null, json!(12.5)));
}

#[test]
fn runs_and_threads_are_listed_newest_first_also_after_a_restart() {
    let mut daemon = Daemon::start(&[]);
    let door = daemon.door();
    let mut worker = Worker::connect(&door, 1, &json!([])).expect("a welcome");
    let first = ended(&door, &mut worker, "alice", "t1");
    let second = ended(&door, &mut worker, "alice", "t2");
    ended(&door, &mut worker, "bob", "t1");
    drop(worker);
    daemon.kill();
    daemon.restart();
    let third = accepted(&door, "alice", "t1");
    let list = |query: &str| -> Vec<String> {
        let answer = fine(&get(&format!("/v1/runs{query}"), "alice"), &door, 200);
        let runs = answer["runs"].as_array().expect("a list").iter();
        runs.map(|run| run["run"].as_str().expect("an id").to_owned()).collect()
    };
    assert_eq!(list(""), [&*third, &second, &first]);
    assert_eq!(list("?limit=2"), [&*third, &second]);
    assert_eq!(list("?state=ended&limit=1"), [&*second]);
    assert_eq!(list("?state=queued"), [&*third]);
    refused(&get("/v1/runs?limit=0", "alice"), &door, 400, "bad_message");
    refused(&get("/v1/runs?state=asleep", "alice"), &door, 400, "bad_message");
    let threads = fine(&get("/v1/threads", "alice"), &door, 200);
    let expected = json!({ "threads": [
        { "thread": "t1", "runs": 2, "last_run": third, "state": "queued" },
        { "thread": "t2", "runs": 1, "last_run": second, "state": "ended" },
    ] });
    assert_eq!(threads, expected);
    assert_eq!(fine(&get("/v1/threads", "carol"), &door, 200), json!({ "threads": [] }));
}

#[test]
fn events_are_read_in_pages() {
    let daemon = Daemon::start(&[]);
    let door = daemon.door();
    let empty = fine(&get("/v1/events", "alice"), &door, 200);
    assert_eq!((&empty["events"], &empty["next"], &empty["head"]), (&json!([]), &json!(null), &json!(0)));
    let mut worker = Worker::connect(&door, 1, &json!([])).expect("a welcome");
    ended(&door, &mut worker, "alice", "t1");
    ended(&door, &mut worker, "alice", "t2");
    let mut user = User::connected("alice", "laptop", &door);
    for _ in 0..2 {
        user.until("agent_completed");
    }
    let (mut after, mut read) = (String::new(), Vec::new());
    loop {
        let page = fine(&get(&format!("/v1/events?limit=3{after}"), "alice"), &door, 200);
        assert_eq!((&page["epoch"], &page["floor"], &page["head"]), (&empty["epoch"], &json!(1), &json!(8)));
        read.extend(page["events"].as_array().expect("a list").clone());
        let Some(next) = page["next"].as_u64() else { break };
        after = format!("&after={next}&epoch={}", page["epoch"].as_str().expect("an epoch"));
    }
    assert_eq!(read, user.events());
    let of_t2 = fine(&get("/v1/events?thread=t2", "alice"), &door, 200);
    assert_eq!(of_t2["events"], json!(user.events()[4..]));
    assert_eq!(fine(&get("/v1/events?after=8", "alice"), &door, 200)["events"], json!([]));
    for (query, reason) in [("epoch=e-other&after=1", "epoch"), ("after=9", "ahead")] {
        let answer = refused(&get(&format!("/v1/events?{query}"), "alice"), &door, 409, "reset");
        assert_eq!(
            (&answer.json["reason"], &answer.json["floor"]),
            (&json!(reason), &json!(1)),
            "{answer:?}"
        );
        assert_eq!(answer.json["epoch"], empty["epoch"]);
    }
    refused(&get("/v1/events?limit=1001", "alice"), &door, 400, "bad_message");
    assert_eq!(fine(&get("/v1/events", "bob"), &door, 200)["events"], json!([]));
}

#[test]
fn an_acknowledgement_over_http_moves_a_device() {
    let mut daemon = Daemon::start(&[]);
    let door = daemon.door();
    let mut user = User::connected("alice", "laptop", &door);
    accepted(&door, "alice", "t1");
    user.until("run_queued");
    let ack = |device: &str, epoch: &str, seq: u64| {
        post("/v1/ack", "alice", &json!({ "device": device, "epoch": epoch, "seq": seq }))
    };
    let epoch = user.epoch().expect("known").to_owned();
    refused(&ack("phone", &epoch, 1), &door, 404, "not_found");
    refused(&ack("laptop", &epoch, 2), &door, 409, "ack_ahead");
    assert_eq!(refused(&ack("laptop", "e-other", 1), &door, 409, "reset").json["epoch"], json!(epoch));
    refused(&post("/v1/ack", "alice", &json!({ "device": "laptop" })), &door, 400, "bad_message");
    let answer = ack("laptop", &epoch, 1).send(&door);
    assert_eq!(answer.status, 204, "{answer:?}");
    assert!(!answer.head.contains("\r\nContent-"), "{}", answer.head);
    daemon.kill();
    daemon.restart();
    let welcome = user.connect_from(&json!("device")).expect("a welcome");
    assert_eq!(welcome["resume"], json!({ "status": "resumed", "from": 1 }), "{welcome}");
}

#[test]
fn an_operator_sees_workers_agents_and_how_much_there_is() {
    let daemon = Daemon::start(&["breaker.failures=1"]);
    let door = daemon.door();
    let operator = token("olga", "operate");
    let workers = || fine(&Ask::new("GET", "/v1/workers").token(&operator), &door, 200);
    assert_eq!(workers()["workers"], json!([]));
    let mut worker = Worker::connect(&door, 2, &json!([])).expect("a welcome");
    let idle = &workers()["workers"][0];
    assert_eq!(
        (&idle["worker"], &idle["state"], &idle["sub"]),
        (&json!("w-1"), &json!("idle"), &json!("workers"))
    );
    assert_eq!(idle["agents"], json!([{ "agent": "research", "slots": 2, "retryable": false }]));
    let run = accepted(&door, "alice", "t1");
    let offer = worker.take();
    let busy = workers();
    let expected = json!([{ "run": run, "user": "alice", "agent": "research", "state": "running" }]);
    assert_eq!((&busy["workers"][0]["state"], &busy["workers"][0]["runs"]), (&json!("busy"), &expected));
    let agent = json!([{ "agent": "research", "breaker": "closed", "active": 1, "slots": 2, "free": 1 }]);
    assert_eq!(busy["agents"], agent);
    let status = fine(&Ask::new("GET", "/v1/status").token(&operator), &door, 200);
    assert_eq!((&status["store"], &status["workers"]), (&json!("ok"), &json!(1)), "{status}");
    assert_eq!(status["runs"], json!({ "queued": 0, "active": 1, "at_workers": 1 }));
    worker.end(&offer, 1, "error", &json!(null));
    assert_eq!(workers()["agents"][0]["breaker"], "open");
    refused(
        &post("/v1/runs", "alice", &json!({ "agent": "research", "input": 1 })),
        &door,
        503,
        "agent_unavailable",
    );
    worker.say(&json!({ "type": "drain" }));
    worker.say(&json!({ "type": "nonsense" }));
    worker.hear_type("error");
    assert_eq!(workers()["workers"][0]["state"], "draining");
}

/// A stream of server-sent events, read block by block.
struct Stream(BufReader<TcpStream>);

impl Stream {
    fn open(door: &Door, path: &str, user: &str, last: Option<&str>) -> Self {
        let ask = get(path, user).header("accept", "text/event-stream");
        let ask = if let Some(last) = last { ask.header("last-event-id", last) } else { ask };
        let mut stream = Self(BufReader::new(ask.open(door)));
        let head = stream.lines();
        assert_eq!(head[0], "HTTP/1.1 200 OK", "{head:?}");
        assert!(head.contains(&"Content-Type: text/event-stream".to_owned()), "{head:?}");
        stream
    }

    /// The lines up to the next empty one.
    fn lines(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).expect("the stream goes on");
            match line.trim_end() {
                "" => return lines,
                line => lines.push(line.to_owned()),
            }
        }
    }

    /// The next block with data that is no notice: its kind, its id and its data.
    fn next(&mut self) -> (String, String, Value) {
        eventually("a block with data", || {
            let lines = self.lines();
            let field = |name: &str| {
                let values: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix(name)).collect();
                values.join("\n")
            };
            let (kind, data) = (field("event: "), field("data: "));
            if kind == "notice" || data.is_empty() {
                return Err(lines);
            }
            Ok((kind, field("id: "), serde_json::from_str(&data).expect("JSON")))
        })
    }

    fn close_code(&mut self) -> Value {
        loop {
            let (kind, _, data) = self.next();
            if kind == "close" {
                let mut rest = String::new();
                self.0.read_to_string(&mut rest).expect("the end");
                assert_eq!(rest, "");
                return data["code"].clone();
            }
        }
    }
}

#[test]
fn a_stream_of_events_begins_with_welcome_and_goes_on_after_its_last_event_id() {
    let mut daemon = Daemon::start(&[]);
    let door = daemon.door();
    let mut stream = Stream::open(&door, "/v1/stream", "alice", None);
    let (kind, id, welcome) = stream.next();
    let epoch = welcome["epoch"].as_str().expect("an epoch").to_owned();
    assert_eq!((kind.as_str(), &id), ("welcome", &format!("{epoch}:0")));
    assert_eq!(welcome["device"], json!(null), "a viewer has none: {welcome}");
    let run = accepted(&door, "alice", "t1");
    let (kind, id, event) = stream.next();
    assert_eq!((kind.as_str(), &id), ("", &format!("{epoch}:1")));
    assert_eq!((&event["event"], &event["run"]), (&json!("run_queued"), &json!(run)), "{event}");
    accepted(&door, "bob", "t1");
    daemon.kill();
    daemon.restart();
    accepted(&door, "alice", "t2");
    let mut stream = Stream::open(&door, "/v1/stream?from=oldest", "alice", Some(&id));
    let welcome = stream.next().2;
    assert_eq!(welcome["resume"], json!({ "status": "resumed", "from": 1 }), "{welcome}");
    let (_, id, event) = stream.next();
    assert_eq!((&id, &event["thread"]), (&format!("{epoch}:2"), &json!("t2")), "{event}");
    let mut lost = Stream::open(&door, "/v1/stream", "alice", Some("e-other:1"));
    assert_eq!(lost.next().2["resume"]["reason"], "epoch");
    assert_eq!(lost.next().2["seq"], 1);
}

#[test]
fn a_stream_of_one_thread_tells_in_comments_how_far_it_is() {
    let daemon = Daemon::start(&["server.heartbeat=1s"]);
    let door = daemon.door();
    accepted(&door, "alice", "t1");
    accepted(&door, "alice", "t2");
    let mut stream = Stream::open(&door, "/v1/stream?thread=t2&from=oldest", "alice", None);
    let epoch = stream.next().2["epoch"].as_str().expect("an epoch").to_owned();
    assert_eq!(stream.next().2["seq"], 2, "t1's event is passed over");
    accepted(&door, "alice", "t1");
    let far = format!("id: {epoch}:3");
    while stream.lines() != [":", &far] {}
}

#[test]
fn a_stream_of_a_device_is_its_connection_until_another_takes_its_place() {
    let daemon = Daemon::start(&["server.connections_per_user=2"]);
    let door = daemon.door();
    let path = "/v1/stream?device=phone";
    let mut first = Stream::open(&door, path, "alice", None);
    let welcome = first.next().2;
    assert_eq!(welcome["device"], "phone");
    accepted(&door, "alice", "t1");
    assert_eq!(first.next().2["seq"], 1);
    let ack = json!({ "device": "phone", "epoch": welcome["epoch"], "seq": 1 });
    assert_eq!(post("/v1/ack", "alice", &ack).send(&door).status, 204);
    let mut second = Stream::open(&door, path, "alice", None);
    assert_eq!(second.next().2["resume"], json!({ "status": "resumed", "from": 1 }));
    assert_eq!(first.close_code(), 4510);
    let mut third = Stream::open(&door, "/v1/stream", "alice", None);
    assert_eq!(third.next().0, "welcome");
    let mut fourth = Stream::open(&door, "/v1/stream", "alice", None);
    assert_eq!(fourth.close_code(), 4408);
    let mut soon = claims("carol", "user");
    soon["exp"] = json!(1_000_000_000);
    refused(&Ask::new("GET", "/v1/stream").token(&sign(&soon, SECRET)), &door, 401, "token_expired");
    refused(&get("/v1/stream?from=device", "alice"), &door, 400, "bad_message");
    refused(&get("/v1/stream", "alice").header("last-event-id", "7"), &door, 400, "bad_message");
}
