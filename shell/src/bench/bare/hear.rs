//! What is done with each message. Nothing is written before the turn's end, after what it stores is synced.

use super::said::{self, OfDevice, OfWorker, Position};
use super::store::User;
use super::{Bare, Role};
use crate::conn::put_text;
use std::fmt::Arguments;
use std::fmt::Write;

/// A run, from when it is asked for. Its id ends with its number.
pub(super) struct Run {
    id: String,
    user: usize,
    agent: String,
    /// The connection of its worker.
    worker: usize,
    envelope: String,
    /// The last message of its worker.
    n: u64,
    is_unconfirmed: bool,
}

impl Bare {
    /// A message that cannot be read ends its connection.
    pub(super) fn hear(&mut self, id: usize, text: &str) {
        let Some(conn) = &self.conns[id] else { return };
        let heard = match conn.role {
            Role::Worker(_) => serde_json::from_str(text).map(|said| self.hear_worker(id, &said)),
            Role::Device { user, device, .. } => {
                serde_json::from_str(text).map(|said| self.hear_device(id, (user, device), &said))
            }
            Role::Stranger(_) => return,
        };
        if heard.is_err() {
            self.leave(id);
        }
    }

    fn hear_worker(&mut self, id: usize, said: &OfWorker<'_>) {
        let run = said.run.and_then(|run| self.run_of(run));
        match (said.kind, run, said.n) {
            ("event", Some(run), Some(n)) => {
                self.write(run, said.event.unwrap_or_default(), said.data.map_or("{}", |data| data.get()));
                self.confirm_later(run, n);
            }
            ("started", Some(run), _) => {
                let Some(Role::Worker(name)) = self.conns[id].as_ref().map(|conn| &conn.role) else { return };
                let agent = &self.runs[run].agent;
                let data = format!(r#"{{"agent":"{agent}","worker":"{name}","attempt":1,"queued_ms":0}}"#);
                self.write(run, "agent_started", &data);
                self.confirm_later(run, 0);
            }
            ("complete", Some(run), Some(n)) => {
                let status = said.status.unwrap_or_default();
                let data =
                    format!(r#"{{"status":"{status}","queued_ms":0,"running_ms":0,"attempts":1,"tools":0}}"#);
                self.write(run, "agent_completed", &data);
                self.confirm_later(run, n);
            }
            ("hello", ..) => self.welcome_worker(id, said.worker.unwrap_or_default()),
            _ => {}
        }
    }

    fn hear_device(&mut self, id: usize, (user, device): (usize, Option<usize>), said: &OfDevice<'_>) {
        match said.kind {
            "ack" => {
                if let (Some(device), Some(seq)) = (device, said.seq) {
                    self.users[user].devices[device].1 = seq;
                }
            }
            "hello" => self.welcome(id, user, said),
            "run" => self.accept_run(id, user, said),
            "ping" => {
                self.text.clear();
                for part in [r#"{"type":"pong","ts":"#, &self.ts, "}"] {
                    self.text.push_str(part);
                }
                self.send(id);
            }
            _ => {}
        }
    }

    fn run_of(&self, id: &str) -> Option<usize> {
        let number = usize::from_str_radix(id.get(id.len().checked_sub(8)?..)?, 16).ok()?;
        (number < self.runs.len()).then_some(number)
    }

    /// Makes an event of a run, to be stored and then sent.
    fn write(&mut self, run: usize, kind: &str, data: &str) {
        let Run { user, envelope, .. } = &self.runs[run];
        let (number, user) = (*user, &mut self.users[*user]);
        said::event(&mut self.text, (user.stream.head() + 1, &self.ts), envelope, kind, data);
        self.journal.append(number, user.stream.push(&self.text));
        for index in 0..user.conns.len() {
            let id = self.users[number].conns[index];
            self.queue(id);
        }
    }

    fn confirm_later(&mut self, run: usize, n: u64) {
        let it = &mut self.runs[run];
        it.n = n;
        if !it.is_unconfirmed {
            it.is_unconfirmed = true;
            self.unconfirmed.push(run);
        }
    }

    /// Tells workers what of their runs is stored.
    pub(super) fn confirm(&mut self) {
        let mut unconfirmed = std::mem::take(&mut self.unconfirmed);
        for run in unconfirmed.drain(..) {
            let it = &mut self.runs[run];
            it.is_unconfirmed = false;
            let worker = it.worker;
            self.text.clear();
            for part in [r#"{"type":"ack","run":""#, &it.id, r#"","attempt":1,"n":"#] {
                self.text.push_str(part);
            }
            write!(self.text, "{}}}", it.n).expect("a string takes all that is written");
            self.send(worker);
        }
        self.unconfirmed = unconfirmed;
    }

    /// A message to one connection.
    fn say(&mut self, id: usize, message: Arguments<'_>) {
        self.text.clear();
        self.text.write_fmt(message).expect("a string takes all that is written");
        self.send(id);
    }

    fn send(&mut self, id: usize) {
        let Some(conn) = self.conns[id].as_mut() else { return };
        put_text(&mut conn.out, self.text.as_bytes());
        self.queue(id);
    }

    fn welcome_worker(&mut self, id: usize, name: &str) {
        let Some(conn) = self.conns[id].as_mut() else { return };
        conn.role = Role::Worker(name.to_owned());
        self.workers.push(id);
        self.say(
            id,
            format_args!(
                r#"{{"type":"welcome","worker":"{name}","lease_ms":15000,"publish_window":256,"message_bytes":1048576,"heartbeat_ms":10000,"runs":[]}}"#
            ),
        );
    }

    /// A device is sent what comes after its position from now on. What runs there are is not said.
    fn welcome(&mut self, id: usize, user: usize, said: &OfDevice<'_>) {
        let it = &mut self.users[user];
        let (status, from) = beginning(it, said);
        let device = said.device.map(|name| {
            let known = it.devices.iter().position(|(other, _)| other == name);
            known.unwrap_or_else(|| {
                it.devices.push((name.to_owned(), from));
                it.devices.len() - 1
            })
        });
        let (name, head, upto) = (it.name.clone(), it.stream.head(), Some(it.stream.end_of(from)));
        it.conns.push(id);
        if let Some(conn) = self.conns[id].as_mut() {
            conn.role = Role::Device { user, device, upto };
        }
        let device = said.device.map_or_else(String::new, |device| format!(r#","device":"{device}""#));
        self.say(
            id,
            format_args!(
                r#"{{"type":"welcome","connection":"c-{id}","user":"{name}"{device},"epoch":"e-1","floor":1,"head":{head},"resume":{{"status":"{status}","from":{from}}},"heartbeat_ms":10000,"topics":[],"runs":[],"limits":{{"window":256,"message_bytes":65536,"event_bytes":1052672,"runs_active":3,"runs_queued":20}}}}"#
            ),
        );
    }

    /// A run goes to the next worker at once.
    fn accept_run(&mut self, id: usize, user: usize, said: &OfDevice<'_>) {
        let (Some(thread), Some(agent)) = (said.thread, said.agent) else { return };
        let (number, key) = (self.runs.len(), said.key.unwrap_or_default());
        let next = number.checked_rem(self.workers.len()).and_then(|next| self.workers.get(next));
        let (Some(worker), name) = (next.copied(), self.users[user].name.clone()) else { return };
        // What is `null` is read as nothing.
        let input = said.input.map_or("null", |input| input.get());
        let run = format!("run_{thread}_{number:08x}");
        let (envelope, agent) = (said::envelope(thread, &run), agent.to_owned());
        self.say(
            id,
            format_args!(
                r#"{{"type":"accepted","key":"{key}","run":"{run}","thread":"{thread}","position":0,"ahead":0,"duplicate":false}}"#
            ),
        );
        self.say(
            worker,
            format_args!(
                r#"{{"type":"run","run":"{run}","attempt":1,"thread":"{thread}","user":"{name}","agent":"{agent}","input":{input},"timeout_ms":30000}}"#
            ),
        );
        let data = format!(
            r#"{{"agent":"{agent}","input":{input},"position":0,"key":"{key}","priority":"normal"}}"#
        );
        self.runs.push(Run { id: run, user, agent, worker, envelope, n: 0, is_unconfirmed: false });
        self.write(number, "run_queued", &data);
    }
}

/// Where a device begins: where it says, or after what it has acknowledged, or with what is next.
fn beginning(user: &User, said: &OfDevice<'_>) -> (&'static str, u64) {
    let head = user.stream.head();
    let known = || user.devices.iter().find(|(name, _)| said.device == Some(name)).map(|(_, seq)| *seq);
    let from = match said.from.map(|from| from.get()) {
        None => known(),
        Some(r#""oldest""#) => return ("fresh", 0),
        Some(from) => serde_json::from_str::<Position>(from).ok().map(|from| from.seq),
    };
    from.map_or(("fresh", head), |seq| ("resumed", seq.min(head)))
}
