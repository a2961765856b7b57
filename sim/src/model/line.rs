//! What the model knows of a connection, and what may be done to it and said on it.

use super::{Judgement, Model, Run, State, json, number, read};
use crate::said::{RunEntry, Said};
use bytes::Bytes;
use runcast_core::effect::Effect;
use runcast_core::record::Query;

/// A connection: its sides, and how far it is in its user's stream.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) is_worker: bool,
    is_upgraded: bool,
    is_over: bool,
    is_welcome: bool,
    /// Whom its newest good token names.
    pub(super) user: String,
    sent: u64,
    pub(super) acked: u64,
    /// None for a viewer.
    window: Option<u64>,
}

impl Model {
    pub(super) fn is_done(&mut self, effect: &Effect) -> Judgement {
        let (conn, needs_upgrade) = match effect {
            Effect::Load { load, query: Query::Events { stream, .. } } => {
                self.pages.insert(*load, stream.clone());
                return Ok(());
            }
            Effect::Append { .. } | Effect::Load { .. } => return Ok(()),
            // The body of a request, and a stream of events over HTTP, are nobody's here.
            Effect::Upgrade { conn, .. }
            | Effect::Respond { conn, .. }
            | Effect::Body { conn, .. }
            | Effect::Stream { conn, .. } => (conn, Some(false)),
            Effect::Send { conn, .. } | Effect::Ping { conn } | Effect::Read { conn, .. } => {
                (conn, Some(true))
            }
            Effect::Close { conn, .. } | Effect::Verify { conn, .. } => (conn, None),
        };
        let mut line = self.conns.remove(conn).ok_or("nobody is there")?;
        must!(needs_upgrade.is_none_or(|needs| needs == line.is_upgraded), "the wrong protocol");
        // Whoever does not take an HTTP answer is closed after it.
        let is_late = matches!(effect, Effect::Close { .. }) && !line.is_upgraded;
        must!(!line.is_over || is_late, "the connection is over");
        line.is_upgraded |= matches!(effect, Effect::Upgrade { .. });
        line.is_over |= matches!(effect, Effect::Respond { .. } | Effect::Close { .. });
        if let Effect::Send { text, .. } = effect {
            self.is_said(&mut line, text)?;
        }
        self.conns.insert(*conn, line);
        Ok(())
    }

    fn is_said(&mut self, line: &mut Line, text: &Bytes) -> Judgement {
        let said = read(text)?;
        let is_welcome = said.kind == "welcome";
        must!(line.is_welcome != is_welcome || said.kind == "error", "welcome comes first, and once");
        line.is_welcome |= is_welcome;
        match (line.is_worker, said.kind.as_ref()) {
            (false, "event") => self.delivers(line, said.seq.unwrap_or(0), text),
            (false, "welcome") => self.welcomes(line, &said, text),
            (false, _) => self.tells_user(&line.user, &said),
            (true, "run") => self.offers(&said),
            (true, "ack") if self.forgotten.contains(said.run.as_deref().unwrap_or_default()) => Ok(()),
            (true, "ack") => self.run(&said)?.acks(said.attempt, said.n),
            (true, "welcome") => said
                .run_entries()
                .iter()
                .filter(|it| it.state == "continue")
                .try_for_each(|it| self.runs.get(&*it.run).ok_or("no such run")?.acks(it.attempt, it.n)),
            (true, "cancel") => {
                let run = self.run(&said)?;
                must!(run.state >= State::Cancelling, "the run is {:?}", run.state);
                Ok(())
            }
            (true, _) => Ok(()),
        }
    }

    fn delivers(&mut self, line: &mut Line, seq: u64, text: &Bytes) -> Judgement {
        let log = self.log(&line.user)?;
        let stored = log.events.get(&seq).filter(|_| seq <= log.head).ok_or("it is not durable")?;
        if text == stored {
            must!(seq == line.sent + 1, "it comes after {}", line.sent);
            line.sent = seq;
            let is_within = line.window.is_none_or(|window| seq <= line.acked + window);
            must!(is_within, "{:?} are the window past {}", line.window, line.acked);
            return Ok(());
        }
        let rest = text.strip_prefix(&stored[..stored.len() - 1]).unwrap_or_default();
        must!(rest.starts_with(b",\"redelivery\":"), "it is stored as {stored:?}");
        must!(seq <= line.sent && line.window.is_some(), "it is a retry after {}", line.sent);
        Ok(())
    }

    fn tells_user(&mut self, user: &str, said: &Said<'_>) -> Judgement {
        if let Some(head) = said.head {
            must!(head == self.log(user)?.head, "that is not the head");
        }
        if let Ok(run) = self.run(said) {
            must!(run.user == user && run.state > State::Asked, "{}'s run is {:?}", run.user, run.state);
            let is_ended = said.state.as_deref() == Some("ended");
            must!(!is_ended || run.state == State::Ended, "the run is {:?}", run.state);
        }
        Ok(())
    }

    fn welcomes(&mut self, line: &mut Line, said: &Said<'_>, text: &[u8]) -> Judgement {
        let (welcome, is_blind) = (json(text), self.is_blind);
        must!(said.user.as_deref() == Some(&line.user), "the token is {}'s", line.user);
        let log = self.log(&line.user)?;
        must!(said.epoch.as_deref() == Some(&*log.epoch), "its stream is {}", log.epoch);
        // What becomes durable in one step is shown in order: others' events may come after the welcome.
        let told = said.head.unwrap_or(0);
        must!((log.head_before..=log.head).contains(&told), "the head is {} in {}", log.head, log.epoch);
        line.sent = number(&welcome["resume"]["from"]);
        must!(line.sent <= log.head, "it begins after {}", log.head);
        line.acked = line.sent;
        line.window = welcome["device"].as_str().map(|_| number(&welcome["limits"]["window"]));
        let head = told;
        let mut runs: Vec<_> = self.runs.iter().filter(|(_, run)| run.user == line.user).collect();
        runs.retain(|(_, run)| run.state < State::Ended && run.first_seq <= head);
        runs.sort_by_key(|(_, run)| run.first_seq);
        // What is written in this step, or shown, may have come after the welcome.
        let is_right = |(id, run): &(&String, &Run), entry: &RunEntry<'_>| {
            let is_same = run.word() == entry.state && entry.attempt == Some(run.attempt);
            let is_new = [run.changed_at, run.started_at].contains(&self.steps);
            **id == entry.run && (is_same || is_blind || is_new)
        };
        // So may an end that becomes durable in it.
        let is_over = |id: &str| self.runs.get(id).is_some_and(|run| run.state == State::Ended);
        let mut entries = said.run_entries();
        entries.retain(|entry| !is_over(&entry.run));
        let is_listed =
            runs.len() == entries.len() && runs.iter().zip(&entries).all(|(run, it)| is_right(run, it));
        must!(is_listed, "the runs are {runs:?}");
        Ok(())
    }
}
