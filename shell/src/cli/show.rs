//! How events look to a person at a terminal.
//!
//! The answer goes to stdout as it comes; everything else goes to stderr, so that a pipe gets the answer
//! alone.

use super::table::judge;
use super::{Connection, Exit};
use crate::client::{Client, Event, Heard, Options, Over};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Where `serve --dev` leaves a token for whoever may read the data directory.
const DEV_TOKEN: &str = "runcast-data/dev-token";
/// How much of a value is shown on one line, in characters.
const SHOWN_MAX: usize = 160;

/// A client for a command.
pub(super) fn connect(
    connection: &Connection,
    device: Option<String>,
    ack: bool,
    from: Value,
) -> io::Result<Client> {
    let asked = connection.clone();
    let token = Box::new(move || token(&asked));
    Client::new(Options { place: connection.place(), token, device, ack, from })
}

/// The token to show: the one that was given, or on this machine that of `serve --dev`; empty if there is
/// none.
pub(super) fn token(connection: &Connection) -> String {
    let is_near = connection.place().is_near();
    connection.token.clone().or_else(|| dev_token().filter(|_| is_near)).unwrap_or_default()
}

/// The development token, when there is one here.
fn dev_token() -> Option<String> {
    let token = std::fs::read_to_string(Path::new(DEV_TOKEN)).ok()?;
    tracing::debug!(file = DEV_TOKEN, "using the token of `serve --dev`");
    Some(token.trim().to_owned())
}

/// Says why a client came to its end, and with what the command ends then.
pub(super) fn over(over: &Over) -> Exit {
    let (exit, hint) = match over {
        Over::Refused { code, .. } if code == "token_missing" => {
            (Exit::Refused, " (give --token or RUNCAST_TOKEN; `runcast token --user NAME` prints one)")
        }
        Over::Refused { .. } => (Exit::Refused, ""),
        Over::Unreachable(lost) => judge(lost),
        Over::Replaced => (Exit::Failed, ""),
    };
    let _ = writeln!(io::stderr(), "runcast: {over}{hint}");
    exit
}

/// What stands on the line that is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Nothing,
    Thinking,
    Answer,
}

/// The two outputs of one run.
pub(super) struct Screen<O, E> {
    answer: O,
    notes: E,
    /// Thinking and notes are dimmed.
    dim: bool,
    /// Both outputs are one terminal: a note in the middle of an answer begins a new line.
    shared: bool,
    open: Open,
    tools: BTreeMap<String, String>,
    /// The answer of this attempt, by message.
    said: BTreeMap<String, String>,
}

impl Screen<io::Stdout, io::Stderr> {
    pub(super) fn new() -> Self {
        let dim = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let shared = io::stdout().is_terminal() && io::stderr().is_terminal();
        Self::with(io::stdout(), io::stderr(), dim, shared)
    }
}

impl<O: Write, E: Write> Screen<O, E> {
    fn with(answer: O, notes: E, dim: bool, shared: bool) -> Self {
        Self {
            answer,
            notes,
            dim,
            shared,
            open: Open::Nothing,
            tools: BTreeMap::new(),
            said: BTreeMap::new(),
        }
    }

    /// Shows an event of the run.
    pub(super) fn event(&mut self, event: &Event) -> io::Result<()> {
        let data = &event.data;
        let text = |field: &str| data[field].as_str().unwrap_or_default();
        match event.event.as_str() {
            "agent_thinking" => self.thinking(text("delta")),
            "agent_output" => self.output(text("message"), data["text"].as_str(), text("delta")),
            "tool_executing" => {
                self.tools.insert(text("call").into(), text("tool").into());
                self.note(&format!("▸ {} {}", text("tool"), brief(&data["args"])))
            }
            "tool_completed" => {
                let tool = self.tools.remove(text("call")).unwrap_or_else(|| text("call").into());
                let sign = if data["status"] == "ok" { "✓" } else { "✗" };
                let took =
                    data["duration_ms"].as_u64().map(|ms| format!(", {}", seconds(ms))).unwrap_or_default();
                let error = if data["error"].is_null() {
                    String::new()
                } else {
                    format!(": {}", brief(&data["error"]))
                };
                self.note(&format!("{sign} {tool} {}{took}{error}", text("status")))
            }
            "step_completed" if data["status"] == "ok" => Ok(()),
            // Of the answer of a lost attempt nothing is part of the next one's.
            "agent_started" => self.begin_anew(event),
            "agent_completed" => self.complete(event),
            _ => self.sum_up(event),
        }
    }

    fn sum_up(&mut self, event: &Event) -> io::Result<()> {
        match summary(event) {
            Some(line) => self.note(&line),
            None => Ok(()),
        }
    }

    fn begin_anew(&mut self, event: &Event) -> io::Result<()> {
        self.end()?;
        self.said.clear();
        self.sum_up(event)
    }

    /// An agent may answer only with its end.
    fn complete(&mut self, event: &Event) -> io::Result<()> {
        if self.said.is_empty() {
            self.output("", Some(&inner_text(&event.data["output"])), "")?;
        }
        self.sum_up(event)
    }

    /// Shows what the daemon says besides events, as far as it is about `run` or about no run.
    pub(super) fn told(&mut self, message: &Value, run: Option<&str>) -> io::Result<()> {
        let about = message["run"].as_str();
        if message["type"] != "notice" || (about.is_some() && about != run) {
            return Ok(());
        }
        let ms = |field: &str| seconds(message[field].as_u64().unwrap_or(0));
        let line = match message["notice"].as_str().unwrap_or_default() {
            "queue" => {
                let (position, words) =
                    (&message["position"], message["message"].as_str().unwrap_or_default());
                format!(
                    "waiting {}: position {position}, {} ahead. {words}",
                    ms("waited_ms"),
                    message["ahead"]
                )
            }
            "working" => format!("working for {}, quiet for {}", ms("running_ms"), ms("idle_ms")),
            "timeout_soon" => format!("running for {} of at most {}", ms("running_ms"), ms("timeout_ms")),
            "backlog" => format!("{} events behind", message["behind"]),
            "drain" => "the daemon is going down".to_owned(),
            "expiring" => format!("the token expires in {}", ms("expires_ms")),
            other => other.to_owned(),
        };
        self.note(&format!("… {line}"))
    }

    fn thinking(&mut self, delta: &str) -> io::Result<()> {
        if self.open != Open::Thinking {
            self.break_line()?;
        }
        let ends = delta.ends_with('\n');
        let delta = plain(delta);
        if self.dim {
            write!(self.notes, "\x1b[2m{delta}\x1b[0m")?;
        } else {
            write!(self.notes, "{delta}")?;
        }
        self.notes.flush()?;
        self.open = if ends { Open::Nothing } else { Open::Thinking };
        Ok(())
    }

    /// A piece of the answer, of one of its messages; a text takes the place of what was said of it.
    fn output(&mut self, message: &str, text: Option<&str>, delta: &str) -> io::Result<()> {
        if let Some(text) = text {
            // What is shown cannot be taken back: what is new follows it, or all of it on lines of its own.
            let said = self.said.get(message).map_or("", String::as_str);
            let rest = text.strip_prefix(said);
            if rest.is_none() {
                self.end()?;
                self.said.remove(message);
            }
            let rest = rest.unwrap_or(text).to_owned();
            self.say(message, &rest)?;
        }
        self.say(message, delta)
    }

    fn say(&mut self, message: &str, delta: &str) -> io::Result<()> {
        if delta.is_empty() {
            return Ok(());
        }
        self.said.entry(message.to_owned()).or_default().push_str(delta);
        if self.open == Open::Thinking {
            self.break_line()?;
        }
        write!(self.answer, "{}", plain(delta))?;
        self.answer.flush()?;
        self.open = if delta.ends_with('\n') { Open::Nothing } else { Open::Answer };
        Ok(())
    }

    /// A line beside the answer.
    pub(super) fn note(&mut self, line: &str) -> io::Result<()> {
        self.break_line()?;
        let line = plain(line);
        if self.dim {
            writeln!(self.notes, "\x1b[2m  {line}\x1b[0m")
        } else {
            writeln!(self.notes, "  {line}")
        }
    }

    fn break_line(&mut self) -> io::Result<()> {
        match self.open {
            Open::Thinking => writeln!(self.notes)?,
            Open::Answer if self.shared => writeln!(self.answer)?,
            Open::Answer => return Ok(()),
            Open::Nothing => {}
        }
        self.open = Open::Nothing;
        Ok(())
    }

    /// Ends the answer's last line.
    pub(super) fn end(&mut self) -> io::Result<()> {
        match self.open {
            Open::Thinking => writeln!(self.notes)?,
            Open::Answer => writeln!(self.answer)?,
            Open::Nothing => {}
        }
        self.open = Open::Nothing;
        self.answer.flush()
    }
}

/// The words in an output: many agents wrap them in an object.
fn inner_text(output: &Value) -> String {
    match output.as_str().or_else(|| output["text"].as_str()) {
        Some(text) => text.to_owned(),
        None if output.is_null() => String::new(),
        None => output.to_string(),
    }
}

/// One line about an event that has no place of its own; none for what says nothing to a person.
fn summary(event: &Event) -> Option<String> {
    let data = &event.data;
    let text = |field: &str| data[field].as_str().unwrap_or_default();
    let ms = |field: &str| seconds(data[field].as_u64().unwrap_or(0));
    Some(match event.event.as_str() {
        "run_queued" => {
            let place = match data["position"].as_u64() {
                Some(position) if position > 0 => format!("position {position}"),
                Some(_) | None => "first in line".into(),
            };
            format!("{} queued on thread {}: {place}", event.run, event.thread)
        }
        "agent_started" => {
            format!("{} started by {} after {}", text("agent"), text("worker"), ms("queued_ms"))
        }
        "step_started" => format!("— {}", if text("name").is_empty() { text("step") } else { text("name") }),
        "step_completed" => format!("— {} {}", text("name"), text("status")),
        "tool_progress" => format!(
            "  {} {}",
            data["percent"].as_u64().map_or(String::new(), |p| format!("{p} %")),
            text("text")
        ),
        "run_progress" => format!("{} %", data["percent"]),
        "input_required" => format!("? {}", text("prompt")),
        "run_retrying" => format!("trying again in {}: {}", ms("delay_ms"), text("reason")),
        "agent_completed" => {
            let error = if data["error"].is_null() {
                String::new()
            } else {
                format!(": {}", told_error(&data["error"]))
            };
            format!("{} after {}{error}", text("status"), ms("running_ms"))
        }
        _ => return None,
    })
}

/// An event as one line of a table.
pub(super) fn line(event: &Event) -> String {
    let what = match event.event.as_str() {
        "agent_thinking" | "agent_output" => {
            let delta =
                if event.data["delta"].is_string() { &event.data["delta"] } else { &event.data["text"] };
            brief(delta)
        }
        "tool_executing" => {
            format!("{} {}", event.data["tool"].as_str().unwrap_or_default(), brief(&event.data["args"]))
        }
        _ => summary(event).unwrap_or_else(|| brief(&event.data)),
    };
    plain(&format!("{:>6}  {}  {:<15} {what}", event.seq, event.run, event.event))
}

fn told_error(error: &Value) -> String {
    match (error["code"].as_str(), error["message"].as_str()) {
        (Some(code), Some(message)) => format!("{message} ({code})"),
        (_, _) => brief(error),
    }
}

/// A value on one line, not too long.
fn brief(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= SHOWN_MAX {
        text
    } else {
        text.chars().take(SHOWN_MAX).collect::<String>() + "…"
    }
}

/// What comes from outside steers no terminal: of the control characters only line ends and tabs stay.
pub(super) fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// `850 ms`, `5.1 s`.
pub(super) fn seconds(ms: u64) -> String {
    if ms < 1_000 { format!("{ms} ms") } else { format!("{}.{} s", ms / 1_000, ms % 1_000 / 100) }
}

/// How long ago an instant of the wire is: `30 s ago`, `3 h ago`.
pub(super) fn ago(ts: u64, now: SystemTime) -> String {
    let then = SystemTime::UNIX_EPOCH + Duration::from_millis(ts);
    let secs = now.duration_since(then).unwrap_or_default().as_secs();
    match secs {
        0..120 => format!("{secs} s ago"),
        120..7_200 => format!("{} min ago", secs / 60),
        7_200..172_800 => format!("{} h ago", secs / 3_600),
        _ => format!("{} d ago", secs / 86_400),
    }
}

/// Says on stderr what became of the connection.
pub(super) fn lost(heard: &Heard) -> Option<String> {
    let Heard::Lost { why, wait } = heard else { return None };
    let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    Some(format!("… {why}; again in {}", seconds(wait)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    fn event(name: &str, data: Value) -> Event {
        let message =
            json!({"seq": 7, "thread": "t1", "run": "run_t1_00000001", "event": name, "data": data});
        Event::deserialize(message).unwrap()
    }

    fn shown(events: &[(&str, Value)]) -> (String, String) {
        let (mut answer, mut notes) = (Vec::new(), Vec::new());
        let mut screen = Screen::with(&mut answer, &mut notes, false, false);
        for (name, data) in events {
            screen.event(&event(name, data.clone())).unwrap();
        }
        screen.end().unwrap();
        (String::from_utf8(answer).unwrap(), String::from_utf8(notes).unwrap())
    }

    #[test]
    fn a_pipe_gets_the_answer_alone() {
        let (answer, notes) = shown(&[
            ("run_queued", json!({"position": 2})),
            ("agent_started", json!({"agent": "echo", "worker": "w-1", "queued_ms": 5})),
            ("agent_thinking", json!({"delta": "let "})),
            ("agent_thinking", json!({"delta": "me see"})),
            ("tool_executing", json!({"call": "c", "tool": "list", "args": {"path": "."}})),
            ("tool_completed", json!({"call": "c", "status": "ok", "duration_ms": 1_250})),
            ("agent_output", json!({"delta": "one\ntw"})),
            ("custom", json!({"name": "x"})),
            ("agent_output", json!({"delta": "o"})),
            (
                "agent_completed",
                json!({"status": "error", "running_ms": 9, "error": {"code": "x", "message": "y"}}),
            ),
        ]);
        assert_eq!(answer, "one\ntwo\n");
        let expected = "  run_t1_00000001 queued on thread t1: position 2\n\
            \x20 echo started by w-1 after 5 ms\nlet me see\n\
            \x20 ▸ list {\"path\":\".\"}\n  ✓ list ok, 1.2 s\n  error after 9 ms: y (x)\n";
        assert_eq!(notes, expected);
    }

    #[test]
    fn an_answer_that_takes_the_place_of_its_pieces_is_not_said_twice() {
        let said = |delta: &str| ("agent_output", json!({ "delta": delta }));
        let whole = |text: &str| ("agent_output", json!({ "text": text }));
        assert_eq!(shown(&[said("Hel"), said("lo"), whole("Hello, you")]).0, "Hello, you\n");
        assert_eq!(shown(&[said("Hel"), whole("Good day"), said("!")]).0, "Hel\nGood day!\n");
        assert_eq!(shown(&[whole("a"), whole("a"), said("b")]).0, "ab\n");
        let again = ("agent_started", json!({"agent": "echo", "worker": "w-2", "queued_ms": 5}));
        assert_eq!(shown(&[said("lost\n"), again, whole("lost\nno more")]).0, "lost\nlost\nno more\n");
    }

    #[test]
    fn an_answer_that_comes_only_with_the_end_is_shown() {
        let end = |output: Value| ("agent_completed", json!({"status": "ok", "output": output}));
        assert_eq!(shown(&[end(json!({"text": "42"}))]).0, "42\n");
        assert_eq!(shown(&[end(json!({"sum": 42}))]).0, "{\"sum\":42}\n");
        assert_eq!(shown(&[end(Value::Null)]).0, "");
        let said = ("agent_output", json!({"delta": "42"}));
        assert_eq!(shown(&[said, end(json!({"text": "42"}))]).0, "42\n");
    }

    #[test]
    fn nothing_from_outside_steers_the_terminal() {
        let (answer, _) = shown(&[("agent_output", json!({"delta": "a\u{1b}[2Jb\u{9b}c\td"}))]);
        assert_eq!(answer, "a[2Jbc\td\n");
        assert!(!line(&event("custom", json!({"name": "\u{1b}]0;x\u{7}"}))).contains('\u{1b}'));
    }
}
