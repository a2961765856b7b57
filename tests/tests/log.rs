//! The log tells each thing that happens in a line with its ids, and never what users write or show.

use runcast_tests::{Ask, Daemon, Ended, Ends, Log, Socket, User, Worker, binary, raw_request, sign, token};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::thread;
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;

#[test]
fn a_run_is_followed_from_connection_to_close_and_nothing_private_is_told() {
    let daemon = Daemon::start(&["delivery.undelivered_after=100ms"]);
    let (door, log) = (daemon.door(), daemon.log());
    let mut worker = Worker::connect(&door, 1, &json!([])).expect("a welcome");
    let joined = log.nth(1, "worker connected");
    assert_eq!((&joined["worker"], &joined["sub"]), (&json!("w-1"), &json!("workers")));
    let mut user = User::connected("alice", "laptop", &door);
    let connected = log.nth(1, "connected");
    assert_eq!((&connected["user"], &connected["device"]), (&json!("alice"), &json!("laptop")));
    assert_eq!(connected["peer"], "127.0.0.1");
    user.run("key_1", "thread_1", &json!("#private-question"));
    let run = worker.take();
    worker.complete(&run, 1, &json!("#private-answer"));
    user.until("agent_completed");
    let accepted = log.nth(1, "run accepted");
    assert_eq!((&accepted["run"], &accepted["user"]), (&run["run"], &json!("alice")));
    assert_eq!(accepted["agent"], "research");
    let started = log.nth(1, "run started");
    assert_eq!((&started["run"], &started["worker"]), (&run["run"], &json!("w-1")));
    let ended = log.nth(1, "run ended");
    assert_eq!((&ended["run"], &ended["status"]), (&run["run"], &json!("ok")));
    assert_eq!(log.nth(1, "run undelivered")["run"], run["run"]);

    let foreign = sign(&json!({ "sub": "mallory", "exp": u32::MAX }), b"another secret, thirty-two bytes");
    assert_eq!(Ask::new("GET", "/v1/runs").token(&foreign).send(&door).status, 401);
    assert_eq!(log.nth(1, "refused")["code"], "token_signature");
    let operator = token("olga", "operate");
    assert_eq!(
        Ask::new("POST", "/v1/users/alice/disconnect").token(&operator).body("").send(&door).status,
        200
    );
    let closed = log.nth(1, "closed");
    assert_eq!((&closed["conn"], &closed["code"]), (&connected["conn"], &json!(4507)));
    assert_eq!(closed["reason"], "an operator has disconnected this user");

    for line in log.lines() {
        for private in ["#private", foreign.as_str(), operator.as_str(), &token("alice", "user")] {
            assert!(!line.contains(private), "{line}");
        }
    }
}

/// The lines with this message and code, but for the audit trail's: their levels and reasons.
fn lines(log: &Log, message: &str, code: &Value) -> Vec<(String, String)> {
    let lines = log.lines().into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
    let own = lines.filter(|line| line["target"] != "audit");
    let wanted = own.filter(|line| line["fields"]["message"] == message && line["fields"]["code"] == *code);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    wanted.map(|line| (text(&line["level"]), text(&line["fields"]["why"]))).collect()
}

#[test]
fn every_end_and_refusal_is_told_with_its_reason_and_a_flood_of_them_in_a_few_lines() {
    let mut daemon = Daemon::start(&["limits.unauthenticated_per_address_per_minute=1000"]);
    let (door, log) = (daemon.door(), daemon.log().clone());
    let mut user = User::connected("alice", "laptop", &door);
    for _ in 0..25 {
        user.say(&json!({ "type": "fly" }));
    }
    for _ in 0..25 {
        assert_eq!(user.socket().hear_type("error").expect("a refusal")["code"], "unknown_type");
    }
    user.socket().send(Message::Close(Some(CloseFrame { code: CloseCode::Away, reason: "".into() })));
    assert_eq!(log.nth(1, "gone")["why"], "it has closed with 1001");
    drop(User::connected("alice", "phone", &door));
    assert_eq!(log.nth(2, "gone")["why"], "it ended without a close");

    for _ in 0..12 {
        let mut stranger = Socket::with(door.address(), "/ws", "runcast.v1", None).expect("an upgrade");
        stranger.say(&json!({ "type": "hello", "token": "a.b.c" }));
        assert_eq!(stranger.end(), Ended(Some(4501)));
    }
    daemon.signal("TERM");
    assert_eq!(daemon.exit_code(), 0);
    let told = lines(&log, "refused", &json!("unknown_type"));
    assert!(told.iter().all(|(level, why)| level == "INFO" && why.contains("fly")), "{told:?}");
    assert_eq!(told.len(), 10);
    assert_eq!(lines(&log, "refused", &json!("token_malformed")).len(), 10);
    assert_eq!(lines(&log, "closed", &json!(4501)).len(), 10);
    let (first, second) = (log.nth(1, "and more were refused"), log.nth(2, "and more were refused"));
    assert_eq!((&first["code"], &first["more"]), (&json!("token_malformed"), &json!(2)));
    assert_eq!((&second["code"], &second["more"]), (&json!("unknown_type"), &json!(15)));
    let closed = log.nth(1, "and more were closed");
    assert_eq!((&closed["code"], &closed["more"]), (&json!(4501), &json!(2)));
}

#[test]
fn a_user_who_comes_and_goes_and_is_refused_all_the_time_has_a_few_lines() {
    let mut daemon = Daemon::start(&["limits.unauthenticated_per_address_per_minute=1000"]);
    let (door, log, alice) = (daemon.door(), daemon.log().clone(), token("alice", "user"));
    for _ in 0..25 {
        drop(User::connected("alice", "laptop", &door));
        assert_eq!(Ask::new("POST", "/v1/drain").token(&alice).body("").send(&door).status, 403);
    }
    drop(User::connected("bob", "laptop", &door));
    assert_eq!(Ask::new("POST", "/v1/drain").token(&token("bob", "user")).body("").send(&door).status, 403);
    daemon.signal("TERM");
    assert_eq!(daemon.exit_code(), 0);
    let lines = log.lines().into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
    let lines: Vec<Value> = lines.collect();
    let count = |target: &str, message: &str, who: &str| {
        let is_it = |line: &&Value| {
            let fields = &line["fields"];
            let named = ["user", "by", "sub"].iter().any(|field| fields[field] == who);
            line["target"] == target && fields["message"] == message && named
        };
        lines.iter().filter(is_it).count()
    };
    assert_eq!(
        (count("runcast::log", "connected", "alice"), count("runcast::log", "connected", "bob")),
        (10, 1)
    );
    assert_eq!((count("audit", "refused", "alice"), count("audit", "refused", "bob")), (10, 1));
    let ends =
        ["gone", "closed"].map(|end| lines.iter().filter(|line| line["fields"]["message"] == end).count());
    assert_eq!(ends.iter().sum::<usize>(), 11, "who has a line for coming has one for going");
    let more = |target: &str, message: &str| {
        let mut it =
            lines.iter().filter(|line| line["target"] == target && line["fields"]["message"] == message);
        it.next().expect("it is said how many more there were")["fields"].clone()
    };
    let connected = more("runcast::log", "and more have connected");
    assert_eq!((&connected["sub"], &connected["more"]), (&json!("alice"), &json!(15)));
    let refused = more("audit", "and more were refused");
    assert_eq!((&refused["by"], &refused["code"]), (&json!("alice"), &json!("token_scope")));
    assert_eq!(refused["more"], 15);
}

#[test]
fn whoever_does_not_read_the_log_holds_up_nobody_and_is_told_what_was_dropped() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut serve = Command::new(binary());
    serve.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data"]).arg(directory.path().join("data"));
    for setting in ["log.level=debug", "limits.messages_per_second=1000000", "limits.burst=1000000"] {
        serve.args(["--set", setting]);
    }
    let serve = serve.current_dir(directory.path()).stdin(Stdio::null());
    let mut daemon = Ends(serve.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts"));
    let said = BufReader::new(daemon.0.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
    let said: Vec<String> = said.take_while(|line| !line.contains("dev-token")).collect();
    let url = said.iter().find_map(|line| line.trim().strip_prefix("http://")?.split_once("/#token="));
    let (address, token) = url.expect("a URL");
    let address: SocketAddr = address.parse().expect("an address");

    let protocols = format!("runcast.v1, jwt.{token}");
    let mut socket = Socket::with(address, "/ws", &protocols, None).expect("an upgrade");
    socket.say(&json!({ "type": "hello" }));
    socket.hear_type("welcome").expect("a welcome");
    let nonsense = json!({ "type": "x".repeat(40) });
    for _ in 0..200 {
        for _ in 0..100 {
            socket.say(&nonsense);
        }
        for _ in 0..100 {
            let answer = socket.hear_type("error").expect("it is answered, though nobody reads the log");
            assert_eq!(answer["code"], "unknown_type");
        }
    }
    assert_eq!(raw_request(address, "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").0, 200);

    let log = BufReader::new(daemon.0.stderr.take().expect("it is piped")).lines().map_while(Result::ok);
    let read = thread::spawn(move || log.collect::<Vec<String>>());
    let told = Command::new("kill").args(["-TERM", &daemon.0.id().to_string()]).status();
    assert!(told.expect("kill is there").success());
    assert_eq!(daemon.0.wait().expect("it ends").code(), Some(0));
    let lines = read.join().expect("it is read to its end");
    let dropped: Vec<u64> = lines
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["fields"]["message"].as_str().is_some_and(|it| it.contains("were dropped")))
        .filter_map(|line| line["fields"]["count"].as_u64())
        .collect();
    let kept = lines.iter().filter(|line| line.contains("\"refused\"")).count() as u64;
    assert!(kept < 20_000 && kept + dropped.iter().sum::<u64>() >= 20_000, "{kept} {dropped:?}");
    assert!(lines.iter().any(|line| line.contains("told to go down")), "the last lines are written");
}
