//! What the model knows of a connection, and what may be done to it and said on it.

use super::{Judgement, Log, Model, Run, State, json, number, of_topic, read};
use crate::oracles::joined::{self, Delta};
use crate::said::{RunEntry, Said};
use bytes::Bytes;
use runcast_core::effect::Effect;
use runcast_core::input::Claims;
use runcast_core::record::Query;
use std::collections::{BTreeMap, BTreeSet};

/// A connection: its sides, and how far it is in its user's stream.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) is_worker: bool,
    is_upgraded: bool,
    is_over: bool,
    is_welcome: bool,
    /// Whom its newest good token names.
    pub(super) user: String,
    /// Whether that lets it read operators' topics.
    operates: bool,
    /// Whether the token that was brought last would.
    would_operate: bool,
    /// How far it is in each of its streams: in its user's own, which has no name, and in topics.
    pub(super) lanes: BTreeMap<String, Lane>,
    /// None for a viewer.
    window: Option<u64>,
}

/// How far a connection is in a stream.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Whether it reads it.
    is_read: bool,
    sent: u64,
    pub(super) acked: u64,
    /// The seqs of what was sent, as far as it may be unacknowledged.
    held: BTreeSet<u64>,
}

impl Lane {
    /// It is sent an event that stands for all up to `seq`.
    fn sends(&mut self, seq: u64, window: Option<u64>) -> Judgement {
        self.sent = seq;
        self.held = self.held.split_off(&(self.acked + 1));
        self.held.insert(seq);
        let is_within = window.is_none_or(|window| self.held.len() as u64 <= window);
        must!(is_within, "{window:?} are the window past {}", self.acked);
        Ok(())
    }

    /// It is read from here on. What was acknowledged before that was heard waits, and counts then.
    fn begins(&mut self, from: u64) {
        *self = Self { is_read: true, sent: from, acked: self.acked.max(from), held: BTreeSet::new() };
    }
}

impl Log {
    /// Deltas are sent as one event, or sent again so.
    fn joins(&self, lane: &mut Lane, window: Option<u64>, prev: u64, said: &Said<'_>) -> Judgement {
        let seq = said.seq.unwrap_or(0);
        let stored = |seq| self.events.get(&seq).or_else(|| self.gone.get(&seq));
        let deltas = (prev + 1..=seq).map(|seq| read(stored(seq)?).ok().map(|said| Delta::of(&said)));
        let deltas = deltas.collect::<Option<Vec<_>>>().filter(|_| seq <= self.head);
        joined::judge(said, &deltas.ok_or("it is not durable")?)?;
        match said.redelivery {
            None => {
                must!(prev == lane.sent, "it comes after {}", lane.sent);
                // How far it is behind is the core's to know: what it acknowledges may wait to be handled.
                must!(window.is_some(), "a viewer is sent joined deltas");
                lane.sends(seq, window)
            }
            Some(_) => {
                must!(seq <= lane.sent, "it is a retry after {}", lane.sent);
                Ok(())
            }
        }
    }
}

impl Line {
    /// A token with a good signature was brought. A newer one counts when it is answered well.
    pub(super) fn knows(&mut self, claims: &Claims) {
        let scopes = claims.scope.as_deref().unwrap_or_default();
        self.would_operate = scopes.split(' ').any(|scope| scope == "operate");
        if !self.is_welcome {
            self.user.clone_from(&claims.sub);
            self.operates = self.would_operate;
        }
    }
}

impl Model {
    pub(super) fn is_done(&mut self, effect: &Effect) -> Judgement {
        let (conn, needs_upgrade) = match effect {
            Effect::Load { load, query: Query::Events { stream, .. } } => {
                self.pages.insert(*load, stream.clone());
                return Ok(());
            }
            Effect::Append { .. }
            | Effect::Load { .. }
            | Effect::Webhook { .. }
            | Effect::Note(_)
            | Effect::Backup { .. }
            | Effect::Audit(_)
            | Effect::Exit => {
                return Ok(());
            }
            // The body of a request, and a stream of events over HTTP, are nobody's here.
            Effect::Upgrade { conn, .. }
            | Effect::Share { conn, .. }
            | Effect::Respond { conn, .. }
            | Effect::Body { conn, .. }
            | Effect::Stream { conn, .. } => (conn, Some(false)),
            Effect::Allow { conn, .. }
            | Effect::Send { conn, .. }
            | Effect::Ping { conn }
            | Effect::Read { conn, .. } => (conn, Some(true)),
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
            (false, "event") => self.delivers(line, &said, text),
            (false, "welcome") => self.welcomes(line, &said, text),
            (false, "subscribed") => self.reads(line, &said),
            (false, _) => {
                if said.of.as_deref() == Some("refresh") && said.kind == "ok" {
                    line.operates = line.would_operate;
                }
                line.lanes.retain(|name, _| said.ended.iter().flatten().all(|topic| topic != name));
                self.tells_user(&line.user, &said)
            }
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

    fn delivers(&mut self, line: &mut Line, said: &Said<'_>, text: &Bytes) -> Judgement {
        let (seq, topic) = (said.seq.unwrap_or(0), said.topic.as_deref());
        let log = self.log(&topic.map_or(line.user.clone(), of_topic))?;
        let window = line.window;
        if let Some(prev) = said.prev {
            let lane = line.lanes.entry(String::new()).or_default();
            return log.joins(lane, window, prev, said);
        }
        let line = line.lanes.get_mut(topic.unwrap_or_default()).filter(|lane| lane.is_read);
        let line = line.ok_or("it does not read that")?;
        let stored = log.events.get(&seq).or_else(|| log.gone.get(&seq));
        let stored = stored.filter(|_| seq <= log.head).ok_or("it is not durable")?;
        if text == stored {
            must!(seq == line.sent + 1, "it comes after {}", line.sent);
            return line.sends(seq, window);
        }
        let rest = text.strip_prefix(&stored[..stored.len() - 1]).unwrap_or_default();
        must!(rest.starts_with(b",\"redelivery\":"), "it is stored as {stored:?}");
        must!(seq <= line.sent && window.is_some(), "it is a retry after {}", line.sent);
        Ok(())
    }

    /// A connection reads these topics from here on, and no others.
    fn reads(&mut self, line: &mut Line, said: &Said<'_>) -> Judgement {
        let entries = said.topic_entries();
        line.lanes.retain(|name, _| name.is_empty() || entries.iter().any(|entry| entry.topic == **name));
        for entry in &entries {
            let Some(resume) = &entry.resume else { continue };
            let is_open = matches!(&*entry.topic, "system" | "news");
            must!(is_open || line.operates, "{} may not be read", entry.topic);
            let log = self.log(&of_topic(&entry.topic))?;
            must!(entry.epoch == log.epoch, "its stream is {}", log.epoch);
            let heads = log.head_before..=log.head;
            must!(heads.contains(&entry.head), "the head of {} is {}", entry.topic, log.head);
            let lane = line.lanes.entry(entry.topic.to_string()).or_default();
            let is_kept = lane.is_read;
            must!(!is_kept || resume.from == lane.sent, "{} was at {}", entry.topic, lane.sent);
            must!(resume.from <= log.head, "{} begins after {}", entry.topic, log.head);
            if !is_kept {
                lane.begins(resume.from);
            }
        }
        Ok(())
    }

    fn tells_user(&mut self, user: &str, said: &Said<'_>) -> Judgement {
        if let Some(head) = said.head {
            let durable = self.log(user)?.head;
            // An answer that waited to be durable may tell of an older one.
            let is_right = if said.kind == "accepted" { head <= durable } else { head == durable };
            must!(is_right, "the head is {durable}");
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
        let from = number(&welcome["resume"]["from"]);
        must!(from <= log.head, "it begins after {}", log.head);
        line.lanes.entry(String::new()).or_default().begins(from);
        line.window = welcome["device"].as_str().map(|_| number(&welcome["limits"]["window"]));
        self.reads(line, said)?;
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
