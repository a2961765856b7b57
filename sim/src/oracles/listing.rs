//! O27 at the core's face, where everything has its exact time, for PROTOCOL §4 "Undelivered": a run whose
//! end no device has acknowledged is listed when its time is up, neither before nor after; the webhook is
//! called for it in the same step, and again at its times until it is taken or was called often enough. What
//! keeps a listing or a call back is a full store, an end that is not durable, a daemon that goes down (all
//! three are tried again after a second), and for a call four others that are under way.

use runcast_core::Core;
use runcast_core::config::Config;
use runcast_core::effect::Effect;
use runcast_core::input::Input;
use runcast_core::record::{Image, Record, Table};
use runcast_core::time::{Mono, Now, Span, WallMs};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What is kept back is tried again after this.
const AGAIN: Span = Span::secs(1);
/// After a start what is listed is called after this, and what failed once as well; later ones three times as
/// long each, ± 20 %.
const CALL_AGAIN: Span = Span::secs(2);
/// Calls about one run.
const CALLS_MAX: u32 = 7;
/// Calls at once.
const CALLS_AT_ONCE: usize = 4;

/// A run whose end nobody has acknowledged.
#[derive(Debug, Default)]
struct Watched {
    is_listed: bool,
    calls: u32,
    is_told: bool,
    /// When it is to be listed, or called: not before the first, and by the second.
    next: Option<(Mono, Mono)>,
}

/// All of them, in one process of the daemon.
#[derive(Debug, Default)]
pub struct Listing {
    after: Span,
    has_webhook: bool,
    runs: BTreeMap<String, Watched>,
    /// Calls that are not answered.
    under_way: BTreeSet<String>,
    /// Whether in this step what is due is looked at.
    is_time: bool,
    /// Nothing is due before this.
    idle_until: Mono,
}

/// What may keep a run from being listed, or called.
trait Keeps {
    /// Whether something does now.
    fn keeps(&self, run: &str) -> bool;
}

impl Keeps for Core {
    fn keeps(&self, run: &str) -> bool {
        let view = self.inspect();
        // Of an end that is not durable nothing is shown but that no worker has the run any more.
        let is_unsure = || {
            let mut runs = view.runs().filter(|other| other.run.as_str() == run);
            runs.any(|run| run.state == "running" && run.worker.is_none())
        };
        view.is_store_full() || view.is_closing() || is_unsure()
    }
}

impl Listing {
    /// What is watched or listed when a process starts.
    pub fn open(config: &Config, image: &Image, now: Now) -> Self {
        let delivery = &config.delivery;
        let (after, has_webhook) = (delivery.undelivered_after, delivery.webhook.is_some());
        let mut listing = Self { after, has_webhook, ..Self::default() };
        for (key, row) in image.rows.iter().filter(|(key, _)| key.table == Table::Undelivered) {
            let row: Value = serde_json::from_slice(row).unwrap_or_default();
            let age = now.wall.since(WallMs(row["ended_ms"].as_u64().unwrap_or(0)));
            let mut run = Watched {
                is_listed: row["is_listed"] == true,
                calls: row["calls"].as_u64().unwrap_or(0) as u32,
                is_told: row["is_told"] == true,
                next: None,
            };
            let wait = if run.is_listed { CALL_AGAIN } else { after - age };
            let is_due = !run.is_listed || has_webhook && run.wants_call();
            run.next = is_due.then_some((now.mono + wait, now.mono + wait));
            listing.runs.insert(key.name.to_string(), run);
        }
        listing
    }

    /// An input is about to be handled.
    pub fn look(&mut self, now: Mono, input: &Input<'_>) {
        self.is_time = matches!(input, Input::Timer | Input::Called { .. });
        if let Input::Called { run, is_taken } = input {
            self.answered(now, run.as_str(), *is_taken);
        }
    }

    fn answered(&mut self, now: Mono, run: &str, is_taken: bool) {
        self.under_way.remove(run);
        let Some(run) = self.runs.get_mut(run) else { return };
        (run.calls, run.is_told) = (run.calls + 1, is_taken);
        let wait = (1..run.calls).fold(CALL_AGAIN, |wait, _| wait.times(3));
        let next = (now + wait.ratio(80, 100), now + wait.ratio(120, 100));
        run.next = run.wants_call().then_some(next);
        self.idle_until = self.idle_until.min(next.0);
    }

    /// A step is over.
    ///
    /// # Errors
    /// Something is listed or called at the wrong time, or was not at the right one.
    pub fn settle(&mut self, now: Mono, core: &Core, effects: &[Effect]) -> Result<(), String> {
        let view = core.inspect();
        if view.is_store_full() || effects.iter().any(touches) {
            let undelivered = view.undelivered().map(|(_, run, is_listed)| (run.as_str(), is_listed));
            self.compare(now, undelivered.collect())?;
        }
        for effect in effects {
            if let Effect::Webhook { run, .. } = effect {
                self.called(now, run.as_str())?;
            }
        }
        if self.is_time { self.in_time(now, core) } else { Ok(()) }
    }

    /// These are watched now, or listed.
    fn compare(&mut self, now: Mono, undelivered: BTreeMap<&str, bool>) -> Result<(), String> {
        self.runs.retain(|run, _| undelivered.contains_key(run.as_str()));
        for (id, is_listed) in undelivered {
            let due = now + self.after;
            let new = || Watched { next: Some((due, due)), ..Watched::default() };
            let run = self.runs.entry(id.to_owned()).or_insert_with(new);
            if is_listed && !run.is_listed {
                run.may(now).map_err(|early| format!("{id} is listed {early}"))?;
                run.is_listed = true;
                run.next = self.has_webhook.then_some((now, now));
            }
            self.idle_until = self.idle_until.min(run.next.map_or(self.idle_until, |(least, _)| least));
        }
        Ok(())
    }

    fn called(&mut self, now: Mono, id: &str) -> Result<(), String> {
        let run = self.runs.get_mut(id).filter(|run| run.is_listed && run.wants_call());
        let run = run.ok_or_else(|| format!("the webhook is called for {id}, and is not to be"))?;
        run.may(now).map_err(|early| format!("the webhook is called for {id} {early}"))?;
        run.next = None;
        let is_new = self.under_way.insert(id.to_owned());
        match self.under_way.len() {
            _ if !is_new => Err(format!("the webhook is called for {id}, and the call before is under way")),
            calls if calls > CALLS_AT_ONCE => Err(format!("{calls} calls of the webhook are under way")),
            _ => Ok(()),
        }
    }

    /// Everything that is due was done, or is kept back for a while.
    fn in_time(&mut self, now: Mono, core: &impl Keeps) -> Result<(), String> {
        if now < self.idle_until {
            return Ok(());
        }
        let is_busy = self.under_way.len() >= CALLS_AT_ONCE;
        for (id, run) in &mut self.runs {
            let Some((least, most)) = run.next.filter(|(least, _)| *least <= now) else { continue };
            if core.keeps(id) {
                run.next = Some((least, most.max(now + AGAIN)));
            } else if most <= now && !(run.is_listed && is_busy) {
                return Err(run.late(id, most, now));
            }
        }
        let next = self.runs.values().filter_map(|run| run.next);
        self.idle_until = next.map(|(least, _)| least).min().unwrap_or(Mono(u64::MAX));
        Ok(())
    }

    /// Looks whether something should have been listed or called by the last turn.
    ///
    /// # Errors
    /// It should.
    pub fn overdue(&self, turn: Mono, core: &Core) -> Result<(), String> {
        if turn < self.idle_until {
            return Ok(());
        }
        let is_busy = self.under_way.len() >= CALLS_AT_ONCE;
        for (id, run) in &self.runs {
            let most = run.next.map_or(Mono(u64::MAX), |(_, most)| most);
            if most <= turn && !(run.is_listed && is_busy) && !core.keeps(id) {
                return Err(run.late(id, most, turn));
            }
        }
        Ok(())
    }
}

impl Watched {
    const fn wants_call(&self) -> bool {
        !self.is_told && self.calls < CALLS_MAX
    }

    /// Whether its time has come; else by how much it has not.
    fn may(&self, now: Mono) -> Result<(), String> {
        match self.next {
            Some((least, _)) if least <= now => Ok(()),
            Some((least, _)) => Err(format!("{} µs too early", least.since(now).0)),
            None => Err("again".to_owned()),
        }
    }

    fn late(&self, id: &str, by: Mono, now: Mono) -> String {
        let what = if self.is_listed { "called for" } else { "listed" };
        format!("{id} was to be {what} {} µs ago, after {} calls", now.since(by).0, self.calls)
    }
}

/// Whether something is watched from now on, listed, or not watched any more.
fn touches(effect: &Effect) -> bool {
    let Effect::Append { records, .. } = effect else { return false };
    records.iter().any(|record| match record {
        Record::Put { key, .. } | Record::Delete { key } => key.table == Table::Undelivered,
        Record::Event { .. } | Record::Trim { .. } => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use runcast_core::record::RowKey;

    /// Something that keeps everything back, or nothing.
    impl Keeps for bool {
        fn keeps(&self, _: &str) -> bool {
            *self
        }
    }

    const MS: u64 = 1_000;

    fn listing() -> Listing {
        let mut listing = Listing { after: Span::secs(60), has_webhook: true, ..Listing::default() };
        listing.compare(Mono(0), [("r", false)].into()).unwrap();
        listing
    }

    fn list(listing: &mut Listing, ms: u64) -> Result<(), String> {
        listing.compare(Mono(ms * MS), [("r", true)].into())
    }

    #[test]
    fn a_run_is_listed_and_called_when_its_time_is_up() {
        assert!(list(&mut listing(), 59_999).is_err(), "early");
        assert!(listing().in_time(Mono(59_999 * MS), &false).is_ok());
        assert!(listing().in_time(Mono(60_000 * MS), &false).is_err(), "late");
        let mut good = listing();
        list(&mut good, 60_000).unwrap();
        assert!(good.in_time(Mono(60_000 * MS), &false).is_err(), "not called");
        good.called(Mono(60_000 * MS), "r").unwrap();
        assert!(good.in_time(Mono(60_000 * MS), &false).is_ok());
        assert!(good.called(Mono(60_000 * MS), "r").is_err(), "twice");
    }

    #[test]
    fn what_is_kept_back_is_tried_again_after_a_second() {
        let mut listing = listing();
        assert!(listing.in_time(Mono(60_500 * MS), &true).is_ok());
        assert!(listing.in_time(Mono(61_499 * MS), &false).is_ok());
        assert!(listing.in_time(Mono(61_500 * MS), &false).is_err());
    }

    #[test]
    fn a_call_that_fails_is_made_again_and_one_that_is_taken_is_not() {
        let mut listing = listing();
        list(&mut listing, 60_000).unwrap();
        listing.called(Mono(60_000 * MS), "r").unwrap();
        listing.answered(Mono(61_000 * MS), "r", false);
        assert!(listing.called(Mono(62_599 * MS), "r").is_err(), "before 2 s less 20 %");
        assert!(listing.in_time(Mono(63_399 * MS), &false).is_ok());
        assert!(listing.in_time(Mono(63_400 * MS), &false).is_err(), "after 2 s and 20 %");
        listing.called(Mono(63_000 * MS), "r").unwrap();
        listing.answered(Mono(63_000 * MS), "r", true);
        assert!(listing.in_time(Mono(999_000 * MS), &false).is_ok());
        assert!(listing.called(Mono(999_000 * MS), "r").is_err(), "it was taken");
    }

    #[test]
    fn after_a_start_the_time_since_the_end_has_counted() {
        let row = |is_listed: bool, calls: u32| {
            format!("{{\"ended_ms\":1000,\"is_listed\":{is_listed},\"calls\":{calls},\"is_told\":false}}")
        };
        let key = |name: &str| RowKey { table: Table::Undelivered, owner: "".into(), name: name.into() };
        let rows = [("new", row(false, 0)), ("listed", row(true, 1)), ("given-up", row(true, 7))];
        let rows = rows.map(|(name, row)| (key(name), bytes::Bytes::from(row)));
        let image = Image { rows: rows.into_iter().collect() };
        let mut config = Config::default();
        config.delivery.webhook = Some("http://somewhere".to_owned());
        let now = Now { mono: Mono(5_000 * MS), wall: WallMs(31_000) };
        let listing = Listing::open(&config, &image, now);
        let next = |name: &str| listing.runs[name].next.map(|(least, most)| (least.0 / MS, most.0 / MS));
        assert_eq!(next("new"), Some((35_000, 35_000)));
        assert_eq!(next("listed"), Some((7_000, 7_000)));
        assert_eq!(next("given-up"), None);
    }
}
