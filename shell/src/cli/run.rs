//! `runcast run`: runs an agent and shows what it does until it ends.
//!
//! The run has a key, so that it may be sent again until it is accepted, over any number of connections and
//! restarts of the daemon, and is still one run. Its events are acknowledged as the device `cli` once they
//! are shown.

use super::show::{self, Screen};
use super::{Exit, RunOptions};
use crate::client::{Client, Event, Heard, Over, Welcome};
use crate::line::Bell;
use serde_json::{Value, json};
use signal_hook::consts::SIGINT;
use signal_hook::iterator::Signals;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The device of this user's command lines. One for all of them: else each run would be one more device, and
/// others' would be forgotten.
const DEVICE: &str = "cli";
/// When a refusal that may pass does not say how long to wait.
const RETRY: Duration = Duration::from_secs(1);

/// Runs the agent. 0 when the run ended `ok`, 1 when otherwise, 69 and 77 when there is no run.
pub fn run(options: &RunOptions) -> Exit {
    let client = show::connect(&options.connection, Some(DEVICE.into()), true, json!("head"));
    let mut job = match client.and_then(|client| Ok((count_interrupts(client.bell())?, client))) {
        Ok((interrupts, client)) => Job::new(client, options, interrupts),
        Err(error) => {
            let _ = writeln!(io::stderr(), "runcast: {error}");
            return Exit::Failed;
        }
    };
    let exit = job.follow();
    job.client.close();
    exit
}

/// Counts how often the user interrupts, and rings each time.
fn count_interrupts(bell: Bell) -> io::Result<Arc<AtomicUsize>> {
    let mut signals = Signals::new([SIGINT])?;
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for _signal in signals.forever() {
            counted.fetch_add(1, Ordering::SeqCst);
            bell.ring();
        }
    })?;
    Ok(count)
}

/// One run, as this command sees it.
struct Job {
    client: Client,
    screen: Screen<io::Stdout, io::Stderr>,
    json: bool,
    request: Value,
    /// How often the request was sent.
    sent: u32,
    /// Its id, once it is accepted.
    run: Option<String>,
    /// When to send the request again after a refusal that may pass.
    again_at: Option<Instant>,
    /// The events of a run that is older than this command are looked for up to here.
    until_head: Option<u64>,
    /// Whether `accepted` was for a run that is older than this command.
    older: bool,
    /// Whether an event of it has come.
    seen: bool,
    interrupts: Arc<AtomicUsize>,
    cancelled: bool,
}

/// Ends the loop.
enum Stop {
    With(Exit),
    Over(Over),
    Unwritable,
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Self::Unwritable
    }
}

impl Job {
    fn new(client: Client, options: &RunOptions, interrupts: Arc<AtomicUsize>) -> Self {
        let mut request = json!({ "type": "run", "id": "run", "agent": options.agent.as_str(),
            "key": options.key.as_ref().map_or_else(new_key, |key| key.as_str().to_owned()),
            "input": input(&options.input) });
        if let Some(thread) = &options.thread {
            request["thread"] = json!(thread.as_str());
        }
        if let Some(timeout) = options.timeout {
            request["timeout_ms"] = json!(timeout.as_millis());
        }
        Self {
            client,
            screen: Screen::new(),
            json: options.connection.json,
            request,
            sent: 0,
            run: None,
            again_at: None,
            until_head: None,
            older: false,
            seen: false,
            interrupts,
            cancelled: false,
        }
    }

    fn follow(&mut self) -> Exit {
        loop {
            match self.turn() {
                Ok(()) => {}
                Err(Stop::With(exit)) => return exit,
                Err(Stop::Unwritable) => return Exit::Failed,
                Err(Stop::Over(over)) => {
                    let _ = self.screen.end();
                    return show::over(&over);
                }
            }
        }
    }

    fn turn(&mut self) -> Result<(), Stop> {
        let heard = match self.client.next(self.again_at) {
            Ok(heard) => heard,
            Err(Over::Replaced) => {
                // Another command line of this user acknowledges from here on; this one only watches.
                self.client.watch_only();
                return Ok(());
            }
            Err(over) => return Err(Stop::Over(over)),
        };
        match &heard {
            Heard::Welcome(welcome) => self.welcome(welcome)?,
            Heard::Event(event) => self.event(event)?,
            Heard::Told(message) => self.told(message)?,
            Heard::Lost { .. } => {
                if let Some(line) = show::lost(&heard) {
                    self.screen.note(&line)?;
                }
            }
            Heard::Rung => self.interrupted()?,
            Heard::Late => {
                self.again_at = None;
                self.request();
            }
        }
        self.look_no_further()
    }

    fn request(&mut self) {
        if self.client.send(&self.request) {
            self.sent += 1;
        }
    }

    fn welcome(&mut self, welcome: &Welcome) -> Result<(), Stop> {
        let reset = welcome.resume.status == "reset";
        if reset {
            let reason = welcome.resume.reason.as_deref().unwrap_or_default();
            self.screen.note(&format!("… some events are no longer kept ({reason})"))?;
        }
        // After a reset the run itself may be forgotten; the key makes asking again harmless.
        if self.run.is_none() || reset {
            self.request();
        }
        // One that has ended has its end in what there is now, or nowhere; after a reset the answer says so.
        let ended = |run: &String| !welcome.runs.iter().any(|known| known["run"] == run.as_str());
        self.until_head = self.run.as_ref().filter(|run| !reset && ended(run)).map(|_| welcome.head);
        if self.cancelled {
            self.cancel();
        }
        Ok(())
    }

    fn told(&mut self, message: &Value) -> Result<(), Stop> {
        match message["type"].as_str().unwrap_or_default() {
            "accepted" if message["id"] == "run" => self.accepted(message),
            "error" if message["id"] == "run" || (message["of"] == "run" && self.run.is_none()) => {
                self.refused(message)?;
            }
            "error" => {
                self.screen.note(&format!("! {}: {}", word(message, "code"), word(message, "message")))?
            }
            _ if self.json => {}
            _ => self.screen.told(message, self.run.as_deref())?,
        }
        Ok(())
    }

    fn accepted(&mut self, message: &Value) {
        self.again_at = None;
        let first = self.run.is_none();
        self.run = Some(word(message, "run").to_owned());
        let duplicate = message["duplicate"] == true;
        // A duplicate of what was sent once is from before: its events may lie before this connection's
        // beginning.
        self.older |= first && duplicate && self.sent == 1;
        if first && self.older {
            self.client.restart(json!("oldest"));
        } else if duplicate && message["state"].is_null() {
            self.until_head = message["head"].as_u64();
        }
        if self.cancelled {
            self.cancel();
        }
    }

    fn refused(&mut self, message: &Value) -> Result<(), Stop> {
        let (code, text, hint) = (word(message, "code"), word(message, "message"), word(message, "hint"));
        if message["temporary"] == true && !self.cancelled {
            let wait = message["retry_ms"].as_u64().map_or(RETRY, Duration::from_millis);
            self.again_at = Some(Instant::now() + wait + wait.mul_f64(rand::random::<f64>() / 4.0));
            self.screen.note(&format!("… {text} ({code})"))?;
            return Ok(());
        }
        let hint = if hint.is_empty() { String::new() } else { format!(" ({hint})") };
        let _ = writeln!(io::stderr(), "runcast: refused: {code}: {text}{hint}");
        Err(Stop::With(Exit::Refused))
    }

    fn event(&mut self, event: &Event) -> Result<(), Stop> {
        // Where the answer was lost with a connection, the run's events come before the next answer.
        let is_asked = event.event == "run_queued" && event.data["key"] == self.request["key"];
        if is_asked && self.run.is_none() {
            self.run = Some(event.run.clone());
        }
        if self.run.as_deref() != Some(event.run.as_str()) {
            // It is acknowledged with the others, so it is not passed over in silence.
            if event.event == "agent_completed" && !self.older {
                self.screen.note(&format!(
                    "({} on thread {} ended {})",
                    event.run, event.thread, event.data["status"]
                ))?;
            }
            return Ok(());
        }
        self.seen = true;
        if self.json {
            writeln!(io::stdout(), "{}", event.text)?;
        } else {
            self.screen.event(event)?;
        }
        if event.event != "agent_completed" {
            return Ok(());
        }
        self.screen.end()?;
        Err(Stop::With(if event.data["status"] == "ok" { Exit::Done } else { Exit::Failed }))
    }

    /// The first interrupt cancels the run, the second ends the command.
    fn interrupted(&mut self) -> Result<(), Stop> {
        let times = self.interrupts.load(Ordering::SeqCst);
        if times > 1 || (times == 1 && self.sent == 0) {
            self.screen.end()?;
            return Err(Stop::With(Exit::Failed));
        }
        if times == 1 && !self.cancelled {
            self.cancelled = true;
            self.screen.note("cancelling; once more to leave at once")?;
            self.cancel();
        }
        Ok(())
    }

    fn cancel(&mut self) {
        if let Some(run) = &self.run {
            self.client.send(&json!({ "type": "cancel", "id": "cancel", "run": run }));
        }
    }

    /// A run that has ended, and of which not all events are kept, has an end that nobody will see.
    fn look_no_further(&mut self) -> Result<(), Stop> {
        if self.until_head.is_some_and(|head| self.client.position() >= Some(head)) {
            if !self.older && !self.seen {
                // It is from before this command after all, which has asked for it twice.
                (self.older, self.until_head) = (true, None);
                self.client.restart(json!("oldest"));
                return Ok(());
            }
            let run = self.run.as_deref().unwrap_or_default();
            let _ = writeln!(io::stderr(), "runcast: {run} ended before, and its end is no longer kept");
            return Err(Stop::With(Exit::Failed));
        }
        Ok(())
    }
}

/// JSON where it is an object, an array or a string; else the words as they are.
fn input(text: &str) -> Value {
    serde_json::from_str(text)
        .ok()
        .filter(|value: &Value| value.is_object() || value.is_array() || value.is_string())
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

fn new_key() -> String {
    format!("cli-{:032x}", rand::random::<u128>())
}

fn word<'a>(message: &'a Value, field: &str) -> &'a str {
    message[field].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use crate::scripted::{Peer, Server};
    use clap::Parser;
    use std::thread;

    const RUN: &str = "run_t_00000001";

    fn job(server: &Server, more: &[&str]) -> Job {
        let url = server.url();
        let start =
            ["runcast", "run", "--url", &url, "--token", "secret", "--agent", "echo", "--thread", "t", "hi"];
        let Command::Run(options) = Cli::try_parse_from(start.iter().chain(more)).unwrap().command else {
            panic!()
        };
        let client = show::connect(&options.connection, Some(DEVICE.into()), true, json!("head")).unwrap();
        Job::new(client, &options, Arc::new(AtomicUsize::new(0)))
    }

    fn welcome(from: u64, head: u64) -> Value {
        json!({"type": "welcome", "user": "alice", "epoch": "e-1", "floor": 1, "head": head,
            "resume": {"status": "fresh", "from": from}, "heartbeat_ms": 60_000, "runs": []})
    }

    fn begin(server: &Server, from: u64, head: u64) -> (Peer, Value) {
        let mut peer = server.accept();
        let hello = peer.hear();
        peer.say(&welcome(from, head));
        (peer, hello)
    }

    fn accepted(duplicate: bool) -> Value {
        json!({"type": "accepted", "id": "run", "run": RUN, "thread": "t", "position": 0, "ahead": 0,
            "duplicate": duplicate})
    }

    fn event(seq: u64, name: &str, data: Value) -> Value {
        json!({"type": "event", "seq": seq, "ts": 1, "thread": "t", "run": RUN, "event": name, "data": data})
    }

    /// Reads until something else than an acknowledgement comes.
    fn request(peer: &mut Peer) -> Value {
        loop {
            let message = peer.hear();
            if message["type"] != "ack" {
                return message;
            }
        }
    }

    #[test]
    fn input_is_json_where_it_looks_like_it() {
        assert_eq!(input("{\"text\": \"a\"}"), json!({"text": "a"}));
        assert_eq!(input("\"7\""), json!("7"));
        for text in ["7", "true", "null", "which file?", "{not json"] {
            assert_eq!(input(text), json!(text));
        }
    }

    #[test]
    fn a_run_is_sent_until_it_is_accepted_and_followed_to_its_end() {
        let server = Server::new();
        let mut job = job(&server, &[]);
        let daemon = thread::spawn(move || {
            let (mut peer, hello) = begin(&server, 3, 3);
            assert_eq!((&hello["device"], &hello["from"]), (&json!("cli"), &json!("head")));
            let first = request(&mut peer);
            assert_eq!(
                (&first["agent"], &first["thread"], &first["input"]),
                (&json!("echo"), &json!("t"), &json!("hi"))
            );
            peer.say(
                &json!({"type": "error", "of": "run", "id": "run", "code": "queue_full", "message": "full",
                "retry_ms": 1, "temporary": true}),
            );
            assert_eq!(request(&mut peer), first, "the same key");
            drop(peer);
            let (mut peer, hello) = begin(&server, 3, 5);
            assert_eq!(hello["from"], json!({"epoch": "e-1", "seq": 3}));
            assert_eq!(request(&mut peer), first);
            peer.say(&accepted(true));
            peer.say(&event(4, "run_queued", json!({"position": 0})));
            peer.close(4401);
            let (mut peer, hello) = begin(&server, 4, 5);
            assert_eq!(hello["from"], json!({"epoch": "e-1", "seq": 4}));
            peer.say(&event(5, "agent_completed", json!({"status": "ok"})));
            assert_eq!(peer.hear(), json!({"type": "ack", "seq": 5}), "and the run is not sent again");
        });
        assert_eq!(job.follow(), Exit::Done);
        job.client.close();
        daemon.join().unwrap();
    }

    #[test]
    fn the_first_interrupt_cancels_and_the_second_leaves() {
        for times in [1, 2] {
            let server = Server::new();
            let mut job = job(&server, &[]);
            let (count, bell) = (Arc::clone(&job.interrupts), job.client.bell());
            let daemon = thread::spawn(move || {
                let (mut peer, _) = begin(&server, 0, 0);
                request(&mut peer);
                peer.say(&accepted(false));
                peer.say(&event(1, "agent_started", json!({})));
                assert_eq!(peer.hear()["type"], "ack");
                count.store(1, Ordering::SeqCst);
                bell.ring();
                let cancel = request(&mut peer);
                assert_eq!((&cancel["type"], &cancel["run"]), (&json!("cancel"), &json!(RUN)));
                if times == 2 {
                    count.store(2, Ordering::SeqCst);
                    bell.ring();
                } else {
                    peer.say(&event(2, "agent_completed", json!({"status": "cancelled"})));
                }
                peer.closed();
            });
            assert_eq!(job.follow(), Exit::Failed);
            job.client.close();
            daemon.join().unwrap();
        }
    }

    #[test]
    fn a_run_from_before_is_looked_for_from_the_beginning() {
        for kept in [true, false] {
            let server = Server::new();
            let mut job = job(&server, &["--key", "k"]);
            let daemon = thread::spawn(move || {
                let (mut peer, _) = begin(&server, 9, 9);
                assert_eq!(request(&mut peer)["key"], "k");
                peer.say(&accepted(true));
                let (mut peer, hello) = begin(&server, 8, 9);
                assert_eq!(hello["from"], "oldest");
                let name = if kept { "agent_completed" } else { "custom" };
                peer.say(&event(9, name, json!({"status": "ok"})));
                peer.closed();
            });
            assert_eq!(job.follow(), if kept { Exit::Done } else { Exit::Failed });
            job.client.close();
            daemon.join().unwrap();
        }
    }

    #[test]
    fn what_comes_before_the_answer_that_was_lost_is_the_runs_too() {
        let server = Server::new();
        let mut job = job(&server, &[]);
        let daemon = thread::spawn(move || {
            let (mut peer, _) = begin(&server, 3, 3);
            let key = request(&mut peer)["key"].clone();
            drop(peer);
            let (mut peer, hello) = begin(&server, 3, 5);
            assert_eq!(hello["from"]["seq"], 3);
            peer.say(&event(4, "run_queued", json!({"position": 0, "key": key})));
            peer.say(&event(5, "agent_completed", json!({"status": "ok"})));
            peer.close(4507);
            peer.closed();
        });
        assert_eq!(job.follow(), Exit::Done);
        job.client.close();
        daemon.join().unwrap();
    }

    #[test]
    fn a_run_whose_end_was_lost_is_not_waited_for() {
        let server = Server::new();
        let mut job = job(&server, &[]);
        let daemon = thread::spawn(move || {
            let (mut peer, _) = begin(&server, 0, 0);
            request(&mut peer);
            peer.say(&accepted(false));
            peer.say(&event(1, "agent_started", json!({})));
            assert_eq!(peer.hear()["type"], "ack");
            drop(peer);
            let mut peer = server.accept();
            peer.hear();
            let mut trimmed = welcome(40, 41);
            trimmed["resume"] = json!({"status": "reset", "reason": "trimmed", "from": 40});
            peer.say(&trimmed);
            request(&mut peer);
            let mut ended = accepted(true);
            ended["head"] = json!(41);
            peer.say(&ended);
            let mut other = event(41, "custom", json!({}));
            other["run"] = json!("run_t_0000000f");
            peer.say(&other);
            peer.close(4507);
            peer.closed();
        });
        assert_eq!(job.follow(), Exit::Failed);
        job.client.close();
        daemon.join().unwrap();
    }

    #[test]
    fn a_run_that_ended_before_is_looked_for_though_it_was_asked_for_twice() {
        let server = Server::new();
        let mut job = job(&server, &["--key", "k"]);
        let daemon = thread::spawn(move || {
            let (mut peer, _) = begin(&server, 9, 9);
            request(&mut peer);
            drop(peer);
            let (mut peer, _) = begin(&server, 9, 9);
            request(&mut peer);
            let mut ended = accepted(true);
            ended["head"] = json!(9);
            peer.say(&ended);
            peer.close(1001);
            let (mut peer, hello) = begin(&server, 8, 9);
            let is_sought = hello["from"] == "oldest";
            peer.say(&event(9, "agent_completed", json!({"status": "ok"})));
            peer.close(4507);
            peer.closed();
            assert!(is_sought, "from {}", hello["from"]);
        });
        assert_eq!(job.follow(), Exit::Done);
        job.client.close();
        daemon.join().unwrap();
    }

    #[test]
    fn a_refused_run_and_a_replaced_device_are_told_apart() {
        let server = Server::new();
        let mut job = job(&server, &[]);
        let daemon = thread::spawn(move || {
            let (mut peer, _) = begin(&server, 0, 0);
            request(&mut peer);
            peer.close(4510);
            let (mut peer, hello) = begin(&server, 0, 0);
            assert_eq!((&hello["ack"], hello.get("device")), (&json!(false), None), "it goes on as a viewer");
            request(&mut peer);
            peer.say(&json!({"type": "error", "of": "run", "id": "run", "code": "agent_unknown",
                "message": "no such", "temporary": false}));
            peer.closed();
        });
        assert_eq!(job.follow(), Exit::Refused);
        job.client.close();
        daemon.join().unwrap();
    }
}
