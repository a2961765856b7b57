//! A user's device: it asks, it acknowledges, and it holds the daemon to the order of its stream.

use crate::{Door, Ended, Socket, token};
use serde_json::{Value, json};

/// One device of a user, connected or not. What it has seen survives its connections.
#[derive(Debug)]
pub struct User {
    name: String,
    device: String,
    door: Door,
    socket: Option<Socket>,
    epoch: Option<String>,
    events: Vec<Value>,
    /// How many events came again.
    pub repeated: usize,
}

impl User {
    /// A device that has not connected yet.
    pub fn new(name: &str, device: &str, door: Door) -> Self {
        let (name, device) = (name.to_owned(), device.to_owned());
        Self { name, device, door, socket: None, epoch: None, events: Vec::new(), repeated: 0 }
    }

    /// A device that has connected, from the oldest event on.
    pub fn connected(name: &str, device: &str, door: &Door) -> Self {
        let mut user = Self::new(name, device, door.clone());
        user.connect().expect("a welcome");
        user
    }

    /// Connects anew and goes on where it was. Returns the `welcome`.
    pub fn connect(&mut self) -> Result<Value, Ended> {
        let from = match &self.epoch {
            Some(epoch) => json!({ "epoch": epoch, "seq": self.position() }),
            None => json!("oldest"),
        };
        self.connect_from(&from)
    }

    /// Connects anew, from wherever.
    pub fn connect_from(&mut self, from: &Value) -> Result<Value, Ended> {
        let token = token(&self.name, "user");
        self.enter(&token, from)
    }

    /// Connects for the first time, with this token.
    pub fn connect_with(&mut self, token: &str) -> Result<Value, Ended> {
        self.enter(token, &json!("oldest"))
    }

    fn enter(&mut self, token: &str, from: &Value) -> Result<Value, Ended> {
        self.socket = None;
        let mut socket = Socket::connect(self.door.address(), "/ws", token)?;
        socket.say(&json!({ "type": "hello", "device": self.device, "from": from }));
        let welcome = socket.hear()?;
        assert_eq!(welcome["type"], "welcome", "{welcome}");
        let epoch = welcome["epoch"].as_str().expect("an epoch").to_owned();
        if let Some(known) = self.epoch.replace(epoch) {
            assert_eq!(welcome["epoch"], known, "the stream was lost");
            let asked = json!({ "epoch": known, "seq": self.position() });
            if *from == asked {
                assert_eq!(welcome["resume"], json!({ "status": "resumed", "from": self.position() }));
            }
        }
        self.socket = Some(socket);
        Ok(welcome)
    }

    /// Where it connects to.
    pub fn door(&self) -> &Door {
        &self.door
    }

    /// The connection.
    pub fn socket(&mut self) -> &mut Socket {
        self.socket.as_mut().expect("connected")
    }

    /// Sends a message.
    pub fn say(&mut self, message: &Value) {
        self.socket().say(message);
    }

    /// Asks for a run.
    pub fn run(&mut self, key: &str, thread: &str, input: &Value) {
        self.say(
            &json!({ "type": "run", "key": key, "thread": thread, "agent": "research", "input": input }),
        );
    }

    /// Acknowledges everything that was seen.
    pub fn ack(&mut self) {
        let seq = self.position();
        self.say(&json!({ "type": "ack", "seq": seq }));
    }

    /// The next message. An event is checked to be the next of the stream, or the same as before.
    pub fn hear(&mut self) -> Result<Value, Ended> {
        let message = self.socket().hear()?;
        if message["type"] == "event" {
            self.take(&message);
        }
        Ok(message)
    }

    /// Reads up to an event of a kind that was not seen before, and returns it.
    pub fn until(&mut self, event: &str) -> Value {
        loop {
            let before = self.position();
            let message = self.hear().expect("the connection lasts");
            if message["event"] == event && self.position() > before {
                return message;
            }
        }
    }

    fn take(&mut self, event: &Value) {
        let mut event = event.clone();
        let fields = event.as_object_mut().expect("an event is an object");
        fields.remove("redelivery");
        let seq = event["seq"].as_u64().expect("an event has a seq");
        match seq.checked_sub(1).and_then(|at| self.events.get(at as usize)) {
            Some(before) => {
                assert_eq!(*before, event, "seq {seq} is not what it was");
                self.repeated += 1;
            }
            None => {
                assert_eq!(seq, self.position() + 1, "{} {}: a gap before {event}", self.name, self.device);
                self.events.push(event);
            }
        }
    }

    /// The seq up to which it has everything.
    pub fn position(&self) -> u64 {
        self.events.len() as u64
    }

    /// The name of its stream's incarnation, once it is known.
    pub fn epoch(&self) -> Option<&str> {
        self.epoch.as_deref()
    }

    /// Everything it has seen, in order, without the marks of redelivery.
    pub fn events(&self) -> &[Value] {
        &self.events
    }
}
