//! `runcast selftest`: a run through the live daemon, from a worker of its own to a device of its own, and
//! how long each step took (REQUIREMENTS D4).

use super::show;
use super::table::Table;
use super::{Exit, SelftestOptions, refuse, say, token};
use crate::client::{Client, Event, Heard, Options, Over};
use crate::place::Place;
use crate::worker::{self, Agent, AgentError, Ask, Out, Output, Workers};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// What the agent is called, and its user and worker, if the token names no other.
const NAME: &str = "selftest";
/// Time until the request is made again that no worker was there for.
const AGAIN: Duration = Duration::from_millis(50);
/// The five events that every run with a tool has, in their order (REQUIREMENTS A1).
const FIVE: [&str; 5] =
    ["agent_started", "agent_thinking", "tool_executing", "tool_completed", "agent_completed"];

/// Says all that an agent may say.
struct Probe;

impl Agent for Probe {
    fn name(&self) -> &str {
        NAME
    }

    fn slots(&self) -> usize {
        4
    }

    fn retryable(&self) -> bool {
        true
    }

    fn run(&self, ask: &Ask, out: &mut Out) -> Result<Output, AgentError> {
        out.thinking("Does this arrive?")?;
        let echoed = out.tool("echo", ask.input.clone(), |_call| Ok(ask.input.clone()))?;
        let echoed = echoed.map_err(|message| AgentError::failed("tool_failed", message))?;
        Ok(Output { output: echoed, usage: None })
    }
}

/// What came, and how long after the beginning.
#[derive(Debug, Default)]
struct Steps(Vec<(String, Duration)>);

impl Steps {
    fn note(&mut self, step: &str, began: Instant) {
        if self.0.iter().all(|(other, _)| other != step) {
            self.0.push((step.to_owned(), began.elapsed()));
        }
    }

    /// Which of the five events is missing, or came before one that it comes after.
    fn missing(&self) -> Option<&'static str> {
        let mut rest = self.0.iter();
        FIVE.into_iter().find(|event| rest.all(|(step, _)| step != event))
    }
}

/// Runs the probe. 0 when all five events came in order and the run ended well.
pub fn selftest(options: &SelftestOptions) -> Exit {
    let connection = &options.connection;
    let token = match connection.token.clone().map_or_else(|| sign(options), Ok) {
        Ok(token) => token,
        Err(exit) => return exit,
    };
    let began = Instant::now();
    let _worker = match serve(connection.place(), &token) {
        Ok(worker) => worker,
        Err(error) => return failed(&format!("no worker can be started: {error}")),
    };
    let client = Client::new(Options {
        place: connection.place(),
        token: Box::new(move || token.clone()),
        device: Some(NAME.into()),
        ack: true,
        from: json!("head"),
    });
    let mut client = match client {
        Ok(client) => client,
        Err(error) => return failed(&error.to_string()),
    };
    let mut steps = Steps::default();
    let ended = follow(&mut client, &mut steps, began, began + Duration::from_micros(options.within.0));
    client.close();
    tell(options, &steps);
    match (ended, steps.missing()) {
        (Err(exit), _) => exit,
        (Ok(status), None) if status == "ok" => Exit::Done,
        (Ok(_), Some(missing)) => {
            failed(&format!("the run has ended, and {missing} did not come in its place"))
        }
        (Ok(status), None) => failed(&format!("the run has ended {status}; look at the daemon's log")),
    }
}

/// A token of this machine's secret, as `runcast token` would print it.
fn sign(options: &SelftestOptions) -> Result<String, Exit> {
    let (config, data) = (options.config.clone(), options.data.clone());
    token::of(config, data, NAME, "user worker").map_err(|problems| refuse(&problems))
}

fn serve(place: Place, token: &str) -> io::Result<Workers> {
    let (token, name) = (token.to_owned(), format!("{NAME}-{}", std::process::id()));
    worker::spawn(place, move || token.clone(), vec![Box::new(Probe)], name)
}

/// Asks for the run and follows it to its end, whose status is returned.
fn follow(client: &mut Client, steps: &mut Steps, began: Instant, until: Instant) -> Result<String, Exit> {
    let key = format!("{NAME}-{:016x}", rand::random::<u64>());
    let ask = json!({ "type": "run", "id": NAME, "agent": NAME, "key": key, "thread": key, "input": "ping" });
    let (mut run, mut again) = (None, until);
    loop {
        match client.next(Some(again.min(until))) {
            Ok(Heard::Welcome(_)) => {
                steps.note("welcome", began);
                client.send(&ask);
            }
            Ok(Heard::Told(told)) if told["id"] == NAME => match told["type"].as_str() {
                Some("accepted") => {
                    steps.note("accepted", began);
                    (run, again) = (told["run"].as_str().map(str::to_owned), until);
                }
                // Its worker is not there yet.
                Some("error") if told["code"] == "agent_unknown" => again = Instant::now() + AGAIN,
                _ => return Err(refused(&told)),
            },
            Ok(Heard::Event(event)) if run.as_deref() == Some(event.run.as_str()) => {
                steps.note(&event.event, began);
                if let Some(status) = end(&event) {
                    return Ok(status);
                }
            }
            Ok(Heard::Late) if Instant::now() >= until => {
                let what = if run.is_some() { "the run has not ended" } else { "no run was accepted" };
                return Err(failed(&format!(
                    "{what} in time; does the token have the scopes user and worker?"
                )));
            }
            Ok(Heard::Late) => {
                again = until;
                client.send(&ask);
            }
            Ok(Heard::Event(_) | Heard::Told(_) | Heard::Rung | Heard::Lost { .. }) => {}
            Err(over @ (Over::Refused { .. } | Over::Unreachable(_) | Over::Replaced)) => {
                return Err(show::over(&over));
            }
        }
    }
}

fn end(event: &Event) -> Option<String> {
    (event.event == "agent_completed").then(|| event.data["status"].as_str().unwrap_or_default().to_owned())
}

fn refused(told: &Value) -> Exit {
    let text = |field: &str| told[field].as_str().unwrap_or_default();
    let _ = writeln!(io::stderr(), "runcast: refused: {}: {}", text("code"), text("message"));
    Exit::Refused
}

fn failed(why: &str) -> Exit {
    let _ = writeln!(io::stderr(), "runcast: selftest failed: {why}");
    Exit::Failed
}

fn tell(options: &SelftestOptions, steps: &Steps) {
    if options.connection.json {
        let at = |(step, at): &(String, Duration)| json!({ "step": step, "at_us": at.as_micros() as u64 });
        say(&json!({ "steps": steps.0.iter().map(at).collect::<Vec<_>>() }).to_string());
        return;
    }
    let mut table = Table::new(&["STEP", "AT", "AFTER THE LAST"]);
    let mut before = Duration::ZERO;
    for (step, at) in &steps.0 {
        table.row(&[step, &millis(*at), &millis(*at - before)]);
        before = *at;
    }
    say(&table.finish());
}

fn millis(time: Duration) -> String {
    format!("{}.{} ms", time.as_millis(), time.as_micros() % 1_000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(names: &[&str]) -> Steps {
        let mut steps = Steps::default();
        names.iter().for_each(|name| steps.note(name, Instant::now()));
        steps
    }

    #[test]
    fn all_five_events_must_come_and_in_their_order() {
        let mut names = [&["welcome", "accepted", "run_queued"][..], &FIVE].concat();
        assert_eq!(steps(&names).missing(), None);
        names.swap(5, 6);
        assert_eq!(steps(&names).missing(), Some("tool_completed"));
        assert_eq!(steps(&["welcome"]).missing(), Some("agent_started"));
    }
}
