//! A worker that does what the test says.

use crate::{Door, Ended, Socket, token};
use serde_json::{Value, json};
use std::time::Duration;

/// A connection of a worker.
#[derive(Debug)]
pub struct Worker {
    socket: Socket,
    /// The daemon's `welcome`.
    pub welcome: Value,
}

impl Worker {
    /// Connects as `w-1`, names the runs it has (as in `hello.runs`), and is welcomed.
    pub fn connect(door: &Door, slots: usize, runs: &Value) -> Result<Self, Ended> {
        Self::named(door, "w-1", slots, runs)
    }

    /// The same under another name.
    pub fn named(door: &Door, name: &str, slots: usize, runs: &Value) -> Result<Self, Ended> {
        let mut socket = Socket::connect(door.address(), "/worker", &token("workers", "worker"))?;
        let agents = json!([{ "agent": "research", "slots": slots }]);
        socket.say(&json!({ "type": "hello", "worker": name, "agents": agents, "runs": runs }));
        Self::greeted(socket)
    }

    /// A connection on which `hello` was said, and is welcome.
    pub fn greeted(mut socket: Socket) -> Result<Self, Ended> {
        let welcome = socket.hear()?;
        assert_eq!(welcome["type"], "welcome", "{welcome}");
        Ok(Self { socket, welcome })
    }

    /// The next message that is not a heartbeat.
    pub fn hear(&mut self) -> Result<Value, Ended> {
        loop {
            let message = self.socket.hear()?;
            if message["type"] != "heartbeat" {
                return Ok(message);
            }
            self.say(&json!({ "type": "beat" }));
        }
    }

    /// The next message, or none if there is none within a time: for a worker that also waits for other
    /// things.
    pub fn hear_within(&mut self, time: Duration) -> Result<Option<Value>, Ended> {
        self.socket.hear_within(time)
    }

    /// Sends a message.
    pub fn say(&mut self, message: &Value) {
        self.socket.say(message);
    }

    /// Waits for a run and takes it; returns the offer when `started` is acknowledged.
    pub fn take(&mut self) -> Value {
        let offer = self.socket.hear_type("run").expect("an offer");
        self.say(&json!({ "type": "started", "run": offer["run"], "attempt": offer["attempt"] }));
        let ack = self.socket.hear_type("ack").expect("an ack");
        assert_eq!((&ack["run"], &ack["n"]), (&offer["run"], &json!(0)), "{ack}");
        offer
    }

    /// Sends an event of a run.
    pub fn event(&mut self, of: &Value, n: u64, event: &str, data: &Value) {
        let (run, attempt) = (&of["run"], &of["attempt"]);
        self.say(
            &json!({ "type": "event", "run": run, "attempt": attempt, "n": n, "event": event, "data": data }),
        );
    }

    /// Ends a run well and waits until that is durable.
    pub fn complete(&mut self, of: &Value, n: u64, output: &Value) {
        self.end(of, n, "ok", output);
    }

    /// Ends a run with a status and waits until that is durable.
    pub fn end(&mut self, of: &Value, n: u64, status: &str, output: &Value) {
        let (run, attempt) = (&of["run"], &of["attempt"]);
        let head = json!({ "type": "complete", "run": run, "attempt": attempt, "n": n });
        let mut message = head.as_object().expect("an object").clone();
        message.insert("status".to_owned(), json!(status));
        message.insert("output".to_owned(), output.clone());
        self.say(&Value::Object(message));
        loop {
            let ack = self.socket.hear_type("ack").expect("an ack");
            if ack["run"] == *run && ack["n"] == json!(n) {
                return;
            }
        }
    }

    /// The next message of a type; others are kept.
    pub fn hear_type(&mut self, kind: &str) -> Value {
        self.socket.hear_type(kind).expect("the connection lasts")
    }

    /// Reads on to the end, and says nothing.
    pub fn end_of_connection(&mut self) -> Ended {
        self.socket.end()
    }
}
