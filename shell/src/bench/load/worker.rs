//! Workers as publishers: they take every run that is offered, and say as much of it as is asked for.

use super::count::Count;
use super::device::STAMP;
use super::peer::Peer;
use serde::Deserialize;
use std::collections::HashMap;

/// What an event costs besides its text, as a device gets it, more or less.
const ENVELOPE: usize = 147;
/// The same, of what others than a daemon are given.
const BARE_ENVELOPE: usize = 68;

/// What one publisher may have under way; a daemon tells its workers.
pub(super) const WINDOW: usize = 256;
/// Bytes of a publisher that may wait for its socket, where nothing else holds it back.
const UNSENT_MOST: usize = 256 << 10;

/// One worker's connection.
#[derive(Debug, Default)]
pub(super) struct Worker {
    pub(super) peer: Peer,
    /// Messages that may be unacknowledged, and that are.
    window: usize,
    unacked: usize,
}

/// A run that a worker has taken.
#[derive(Debug)]
pub(super) struct Run {
    id: String,
    attempt: u64,
    worker: usize,
    pub(super) user: usize,
    /// Its last message, and the last that was acknowledged.
    n: u64,
    acked: u64,
}

/// All runs, in the order in which they were offered.
#[derive(Debug, Default)]
pub(super) struct Runs {
    pub(super) all: Vec<Run>,
    by_id: HashMap<String, usize>,
}

/// What a daemon says to a worker, as far as it is looked at.
#[derive(Deserialize)]
struct Said<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    run: Option<&'a str>,
    #[serde(default)]
    attempt: u64,
    user: Option<&'a str>,
    n: Option<u64>,
    #[serde(default)]
    publish_window: usize,
}

impl Worker {
    /// What it says first: its runs, if it has any, so that it may go on with them.
    pub(super) fn hello(number: usize, runs: &Runs) -> String {
        let own = runs.all.iter().filter(|run| run.worker == number);
        let named =
            own.map(|run| format!(r#"{{"run":"{}","attempt":{},"n":{}}}"#, run.id, run.attempt, run.n));
        let named: Vec<String> = named.collect();
        format!(
            r#"{{"type":"hello","worker":"w-{number}","agents":[{{"agent":"bench","slots":10000}}],"runs":[{}]}}"#,
            named.join(",")
        )
    }

    /// Hears all that is there.
    pub(super) fn hear(&mut self, number: usize, runs: &mut Runs, count: &mut Count) -> Result<(), String> {
        while let Some(text) = self.peer.next()? {
            let said: Said<'_> =
                serde_json::from_str(&text).map_err(|error| format!("cannot be read: {error}: {text}"))?;
            match said.kind {
                "welcome" => {
                    (self.window, self.unacked) = (said.publish_window, 0);
                    count.workers += 1;
                }
                "run" => self.take(number, &said, runs)?,
                "ack" => self.on_ack(&said, runs, count)?,
                "error" => return Err(text.to_string()),
                _ => {}
            }
        }
        count.workers += u64::from(self.peer.is_let_in());
        self.peer.flush()
    }

    fn take(&mut self, number: usize, said: &Said<'_>, runs: &mut Runs) -> Result<(), String> {
        let user = said.user.and_then(|user| user.strip_prefix("u-")?.parse().ok());
        let (Some(id), Some(user)) = (said.run, user) else { return Err("an offer without a run".into()) };
        runs.by_id.insert(id.to_owned(), runs.all.len());
        let attempt = said.attempt;
        runs.all.push(Run { id: id.to_owned(), attempt, worker: number, user, n: 0, acked: 0 });
        self.peer.say(format!(r#"{{"type":"started","run":"{id}","attempt":{attempt}}}"#))
    }

    fn on_ack(&mut self, said: &Said<'_>, runs: &mut Runs, count: &mut Count) -> Result<(), String> {
        let index = said.run.and_then(|run| runs.by_id.get(run)).ok_or("an ack of no run")?;
        let (run, n) = (&mut runs.all[*index], said.n.ok_or("an ack without `n`")?);
        if n == 0 {
            count.live += 1;
            return Ok(());
        }
        self.unacked = self.unacked.saturating_sub(n.saturating_sub(run.acked) as usize);
        run.acked = run.acked.max(n);
        Ok(())
    }

    /// What it said that the other side may not have: messages that are not acknowledged, and, where it is no
    /// daemon, bytes that have not left.
    pub(super) fn under_way(&mut self) -> usize {
        self.unacked + self.peer.foreign().map_or(0, |it| it.unconfirmed() + it.unsent())
    }

    /// Whether it may send no more for now.
    pub(super) const fn is_full(&self) -> bool {
        self.unacked >= self.window
    }
}

impl Runs {
    /// Runs as they are without a daemon: one of each user, shared among so many workers.
    pub(super) fn bare(users: usize, workers: usize) -> Self {
        let run = |user| Run { id: String::new(), attempt: 1, worker: user % workers, user, n: 0, acked: 0 };
        Self { all: (0..users).map(run).collect(), by_id: HashMap::new() }
    }

    /// Says one more thing of a run, unless its worker's window is full or its socket takes no more.
    pub(super) fn publish(
        &mut self,
        index: usize,
        workers: &mut [Worker],
        bytes: usize,
        now: u64,
    ) -> Result<bool, String> {
        let run = &mut self.all[index];
        let worker = &mut workers[run.worker];
        if let Some(foreign) = worker.peer.foreign() {
            if foreign.unsent() >= UNSENT_MOST {
                foreign.flush()?;
            }
            if foreign.unconfirmed() >= WINDOW || foreign.unsent() >= UNSENT_MOST {
                return Ok(false);
            }
            run.n += 1;
            foreign.publish(run.user, &finished(run.n, bytes, now))?;
            return Ok(true);
        }
        if worker.is_full() {
            return Ok(false);
        }
        run.n += 1;
        worker.unacked += 1;
        let (id, attempt, n, width) = (&run.id, run.attempt, run.n, bytes.saturating_sub(ENVELOPE));
        let text = format!("{STAMP}{now} ");
        worker.peer.say(format!(
            r#"{{"type":"event","run":"{id}","attempt":{attempt},"n":{n},"event":"agent_output","data":{{"delta":"{text:.<width$}"}}}}"#
        ))?;
        Ok(true)
    }

    /// Says that all runs are over.
    pub(super) fn complete(&mut self, workers: &mut [Worker]) -> Result<(), String> {
        for run in &mut self.all {
            run.n += 1;
            let (id, attempt, n) = (&run.id, run.attempt, run.n);
            workers[run.worker].peer.say(format!(
                r#"{{"type":"complete","run":"{id}","attempt":{attempt},"n":{n},"status":"ok"}}"#
            ))?;
        }
        workers.iter_mut().try_for_each(|worker| worker.peer.flush())
    }
}

/// An event as a daemon makes it, for what makes nothing of its own.
fn finished(seq: u64, bytes: usize, now: u64) -> String {
    let (text, width) = (format!("{STAMP}{now} "), bytes.saturating_sub(BARE_ENVELOPE));
    format!(r#"{{"type":"event","seq":{seq},"event":"agent_output","data":{{"delta":"{text:.<width$}"}}}}"#)
}
