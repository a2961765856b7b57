//! `runcast tail`: a user's events as they come, one a line, until it is interrupted.

use super::show;
use super::{Exit, Start, TailOptions};
use crate::client::{Client, Event, Heard};
use serde_json::{Value, json};
use std::io::{self, Write};

/// Follows the stream: as a viewer, or as a device that acknowledges what was printed. Ends when the daemon
/// refuses, when it cannot be reached at first, or when nobody reads what is printed.
pub fn tail(options: &TailOptions) -> Exit {
    let device = options.device.as_ref().map(|device| device.as_str().to_owned());
    let ack = device.is_some();
    match show::connect(&options.connection, device, ack, from(options)) {
        Ok(client) => follow(client, options, &mut io::stdout()),
        Err(error) => {
            let _ = writeln!(io::stderr(), "runcast: {error}");
            Exit::Failed
        }
    }
}

/// A viewer has no position of its own, so it begins with what is going on.
fn from(options: &TailOptions) -> Value {
    match &options.from {
        None if options.device.is_some() => json!("device"),
        None | Some(Start::Live) => json!("live"),
        Some(Start::Device) => json!("device"),
        Some(Start::Oldest) => json!("oldest"),
        Some(Start::Head) => json!("head"),
        Some(Start::After { epoch, seq }) => json!({ "epoch": epoch.as_str(), "seq": seq }),
    }
}

fn follow(mut client: Client, options: &TailOptions, out: &mut impl Write) -> Exit {
    let wanted = |event: &Event| options.thread.as_ref().is_none_or(|thread| thread.as_str() == event.thread);
    loop {
        let heard = match client.next(None) {
            Ok(heard) => heard,
            Err(over) => return show::over(&over),
        };
        let printed = match &heard {
            Heard::Event(event) if !wanted(event) => Ok(()),
            Heard::Event(event) if options.connection.json => writeln!(out, "{}", event.text),
            Heard::Event(event) => writeln!(out, "{}", show::line(event)),
            Heard::Welcome(welcome) if welcome.resume.status == "reset" => {
                let reason = welcome.resume.reason.as_deref().unwrap_or_default();
                writeln!(io::stderr(), "runcast: some events are no longer kept ({reason})")
            }
            Heard::Told(message) if message["type"] == "error" => {
                writeln!(io::stderr(), "runcast: {}: {}", message["code"], message["message"])
            }
            Heard::Lost { .. } => match show::lost(&heard) {
                Some(line) => writeln!(io::stderr(), "runcast: {line}"),
                None => Ok(()),
            },
            Heard::Welcome(_) | Heard::Told(_) | Heard::Rung | Heard::Late => Ok(()),
        };
        // Who reads no more wants no more. What was not printed is not acknowledged.
        if printed.and_then(|()| out.flush()).is_err() {
            return Exit::Done;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use crate::scripted::Server;
    use clap::Parser;
    use std::thread;

    fn options(words: &[&str]) -> TailOptions {
        let Command::Tail(options) =
            Cli::try_parse_from(["runcast", "tail"].iter().chain(words)).unwrap().command
        else {
            panic!("not tail")
        };
        options
    }

    #[test]
    fn it_begins_where_it_is_told() {
        assert_eq!(from(&options(&[])), "live");
        assert_eq!(from(&options(&["--device", "d"])), "device");
        assert_eq!(from(&options(&["--from", "oldest"])), "oldest");
        assert_eq!(from(&options(&["--from", "e-1:4"])), json!({"epoch": "e-1", "seq": 4}));
    }

    #[test]
    fn it_prints_the_events_of_a_thread_and_acknowledges_all() {
        let server = Server::new();
        let url = server.url();
        let options = options(&[
            "--url", &url, "--token", "x", "--device", "d", "--thread", "t1", "--json", "--from", "head",
        ]);
        let daemon = thread::spawn(move || {
            let mut peer = server.accept();
            let hello = peer.hear();
            assert_eq!(
                (&hello["device"], &hello["ack"], &hello["from"]),
                (&json!("d"), &json!(true), &json!("head"))
            );
            peer.say(&json!({"type": "welcome", "user": "alice", "epoch": "e", "floor": 1, "head": 0,
                "resume": {"status": "fresh", "from": 0}, "heartbeat_ms": 60_000}));
            for (seq, thread) in [(1, "t1"), (2, "t2"), (3, "t1")] {
                peer.say(&json!({"type": "event", "seq": seq, "thread": thread, "run": "r",
                    "event": "custom", "data": {}}));
            }
            while peer.hear()["seq"] != 3 {}
            peer.close(4507);
            peer.closed();
        });
        let mut out = Vec::new();
        let client = show::connect(&options.connection, Some("d".into()), true, from(&options)).unwrap();
        assert_eq!(follow(client, &options, &mut out), Exit::Refused);
        daemon.join().unwrap();
        let lines: Vec<Value> =
            String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.iter().map(|line| line["seq"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 3]);
    }
}
