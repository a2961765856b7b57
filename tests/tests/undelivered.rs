//! Whose run ended without a device that acknowledged it: an operator sees it, the webhook is called, a
//! restart forgets nothing, and an acknowledgement clears it.

use hmac::{Hmac, Mac};
use runcast_tests::{Ask, Daemon, PATIENCE, SECRET, Socket, User, Worker, eventually, token};
use serde_json::{Value, json};
use sha2::Sha256;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

/// A server that the webhook calls.
struct Server {
    address: SocketAddr,
    calls: Receiver<TcpStream>,
}

/// A call: its head, and its body.
struct Call {
    head: String,
    body: String,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (tell, calls) = channel();
        // Ends when a call comes that no test waits for any more.
        thread::spawn(move || listener.incoming().map_while(Result::ok).try_for_each(|call| tell.send(call)));
        Self { address, calls }
    }

    fn url(&self) -> String {
        format!("http://{}/hook?x=1", self.address)
    }

    /// Waits for a call, and answers with this status.
    fn answer(&self, status: &str) -> Call {
        let stream = self.calls.recv_timeout(PATIENCE).expect("a call");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket has time-outs");
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).expect("a head") > 0, "{head}");
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        let mut body = vec![0; length.parse().expect("a number")];
        reader.read_exact(&mut body).expect("a body");
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        reader.into_inner().write_all(answer.as_bytes()).expect("it is read");
        Call { head, body: String::from_utf8(body).expect("UTF-8") }
    }
}

impl Call {
    /// Whether it is signed with this secret, over its time and body.
    fn is_signed(&self, secret: &[u8]) -> bool {
        let signature = self.head.lines().find_map(|line| line.strip_prefix("runcast-signature: t="));
        let (ms, hex) = signature.and_then(|rest| rest.split_once(",v1=")).expect("a signature");
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("any length");
        mac.update(format!("{ms}.{}", self.body).as_bytes());
        let right: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        right == hex
    }
}

/// The list of an operator, as soon as it is as it should be.
fn listed(daemon: &Daemon, is_so: impl Fn(&Value) -> bool) -> Value {
    eventually("another list of what is undelivered", || {
        let ask = Ask::new("GET", "/v1/undelivered").token(&token("op", "operate"));
        let answer = ask.send(&daemon.door());
        assert_eq!(answer.status, 200, "{answer:?}");
        if is_so(&answer.json) { Ok(answer.json) } else { Err(answer.json) }
    })
}

/// An operator who reads the topic `alerts`.
fn watch_alerts(daemon: &Daemon, from: &Value) -> Socket {
    let (address, token) = (daemon.door().address(), token("op", "user operate"));
    let mut socket = Socket::connect(address, "/ws", &token).expect("a connection");
    socket.say(&json!({ "type": "hello", "topics": [{ "topic": "alerts", "from": from }] }));
    socket.hear_type("welcome").expect("a welcome");
    socket
}

#[test]
fn an_end_that_nobody_acknowledges_is_listed_and_told_until_somebody_does() {
    let server = Server::start();
    let directory = tempfile::tempdir().expect("a directory");
    let secret = directory.path().join("secret");
    std::fs::write(&secret, SECRET).expect("the secret is written");
    let settings = [
        "delivery.undelivered_after=100ms".to_owned(),
        format!("delivery.webhook={}", server.url()),
        format!("delivery.webhook_secret_file={}", secret.display()),
    ];
    let mut daemon = Daemon::start(&settings.each_ref().map(String::as_str));
    let mut user = User::connected("alice", "laptop", &daemon.door());
    let mut operator = watch_alerts(&daemon, &json!("head"));
    let mut worker = Worker::connect(&daemon.door(), 1, &json!([])).expect("a welcome");
    user.run("key_1", "thread_1", &json!(1));
    let run = worker.take();
    worker.complete(&run, 1, &json!("done"));
    user.until("agent_completed");

    let first = server.answer("503 Service Unavailable");
    assert!(first.is_signed(SECRET) && !first.is_signed(b"another"), "{}", first.head);
    let body: Value = serde_json::from_str(&first.body).expect("JSON");
    let expected = json!({
        "type": "undelivered", "user": "alice", "run": run["run"], "thread": "thread_1", "agent": "research",
        "status": "ok", "ended_ts": body["ended_ts"],
    });
    assert_eq!(body, expected);
    let again = server.answer("204 No Content");
    assert_eq!(again.body, first.body);
    let list = listed(&daemon, |list| list["undelivered"][0]["webhook"] == "told");
    assert_eq!((&list["count"], &list["undelivered"][0]["run"]), (&json!(1), &run["run"]), "{list}");
    let forbidden = Ask::new("GET", "/v1/undelivered").token(&token("alice", "user")).send(&daemon.door());
    assert_eq!(forbidden.status, 403);

    let raised = operator.hear_type("event").expect("the connection lasts");
    let said = (&raised["event"], &raised["data"]["alert"], &raised["data"]["message"]);
    let expected = json!(["alert_raised", "undelivered", "runs that have ended and nobody has heard: 1"]);
    assert_eq!(json!([said.0, said.1, said.2]), expected);

    daemon.kill();
    daemon.restart();
    let list = listed(&daemon, |_| true);
    let (count, calls) = (&list["count"], &list["undelivered"][0]["calls"]);
    assert_eq!((count, calls), (&json!(1), &json!(2)), "{list}");
    user.connect().expect("a welcome");
    listed(&daemon, |list| list["count"] == 0);
    let mut operator = watch_alerts(&daemon, &json!("oldest"));
    let mut hear = || {
        let event = operator.hear_type("event").expect("the connection lasts");
        (event["event"].clone(), event["data"]["alert"].clone())
    };
    assert_eq!(hear(), (json!("alert_raised"), json!("undelivered")));
    assert_eq!(hear(), (json!("alert_cleared"), json!("undelivered")), "once, though it was killed between");
}
