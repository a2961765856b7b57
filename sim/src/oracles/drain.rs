//! O25, for PROTOCOL §7 "Draining": from the moment in which the daemon is told to go down it accepts no run
//! and offers none; clients are not all told the same time to come back; and it exits only when nothing runs
//! any more, or runs have had their time, and all that it has written is durable.

use runcast_core::Core;
use runcast_core::config::Config;
use runcast_core::effect::Effect;
use runcast_core::ids::AppendId;
use runcast_core::record::{Record, Table};
use runcast_core::time::Mono;

/// So many clients told one time are no chance.
const SAME_AT_MOST: usize = 8;

/// How a process of the daemon goes down.
#[derive(Debug, Default)]
pub struct Drain {
    /// Since when, and whether it was told again.
    told: Option<(Mono, bool)>,
    /// The times that clients were told to come back after.
    back: Vec<u64>,
    /// Runs are waited for no longer: none was active then. One that waited for its user goes on with its
    /// worker, whenever it is answered, under the next process.
    is_closing: bool,
    /// The newest append: what a full disk did not take is given again.
    given: Option<AppendId>,
}

impl Drain {
    /// It is told to go down.
    pub fn told(&mut self, now: Mono) {
        self.told = Some(self.told.map_or((now, false), |(since, _)| (since, true)));
    }

    fn is_given_again(&mut self, effect: &Effect) -> bool {
        let Effect::Append { id, .. } = effect else { return false };
        let newest = self.given.max(Some(*id));
        std::mem::replace(&mut self.given, newest) >= Some(*id)
    }

    /// It does something.
    ///
    /// # Errors
    /// Something that it may not do any more, or not yet.
    pub fn judge(&mut self, now: Mono, effect: &Effect, core: &Core, config: &Config) -> Result<(), String> {
        let is_given_again = self.is_given_again(effect);
        let Some((since, is_hurried)) = self.told else {
            let exits = matches!(effect, Effect::Exit);
            return if exits { Err("it exits, and nobody wants it to".to_owned()) } else { Ok(()) };
        };
        let view = core.inspect();
        if !std::mem::replace(&mut self.is_closing, view.is_closing()) && self.is_closing {
            let has_waited = is_hurried || now.since(since) >= config.server.drain;
            if view.active() > 0 && !has_waited {
                return Err(format!("it closes, and {} runs have not had their time", view.active()));
            }
        }
        match effect {
            Effect::Append { records, .. } if since < now && !is_given_again => {
                let is_new = |record: &&Record| matches!(record, Record::Put { key, .. } if key.table == Table::RunSpec);
                let new = records.iter().find(is_new);
                new.map_or(Ok(()), |record| Err(format!("a run is accepted while it goes down: {record:?}")))
            }
            Effect::Send { text, .. } if text.starts_with(b"{\"type\":\"run\"") => {
                Err("a run is offered while it goes down".to_owned())
            }
            Effect::Send { text, .. } => self.notice(text),
            Effect::Exit => {
                if !self.is_closing {
                    return Err("it exits, and has not closed what is open".to_owned());
                }
                let (open, waiting) = (view.sizes().moved, view.appends_waiting());
                if open + waiting > 0 && !view.is_store_full() {
                    return Err(format!("it exits with {waiting} appends and {open} positions not durable"));
                }
                Ok(())
            }
            Effect::Append { .. }
            | Effect::Upgrade { .. }
            | Effect::Allow { .. }
            | Effect::Share { .. }
            | Effect::Respond { .. }
            | Effect::Body { .. }
            | Effect::Stream { .. }
            | Effect::Ping { .. }
            | Effect::Close { .. }
            | Effect::Read { .. }
            | Effect::Verify { .. }
            | Effect::Webhook { .. }
            | Effect::Note(_)
            | Effect::Audit(_)
            | Effect::Backup { .. }
            | Effect::Load { .. } => Ok(()),
        }
    }

    /// Times to come back are spread.
    fn notice(&mut self, text: &[u8]) -> Result<(), String> {
        let begins = b"{\"type\":\"notice\",\"notice\":\"drain\",\"reconnect_ms\":";
        let Some(rest) = text.strip_prefix(begins) else { return Ok(()) };
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
        self.back.push(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')));
        let same = self.back.iter().filter(|back| **back == self.back[0]).count();
        if same < SAME_AT_MOST || same < self.back.len() {
            return Ok(());
        }
        Err(format!("{same} clients are all to come back after {} ms", self.back[0]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_who_are_all_to_come_back_at_once_are_seen() {
        let told = |ms: u64| format!("{{\"type\":\"notice\",\"notice\":\"drain\",\"reconnect_ms\":{ms}}}");
        let mut drain = Drain::default();
        for _ in 1..SAME_AT_MOST {
            assert!(drain.notice(told(1_500).as_bytes()).is_ok());
        }
        assert!(drain.notice(told(1_500).as_bytes()).is_err());
        let mut drain = Drain::default();
        (0..100).for_each(|n| assert!(drain.notice(told(1_000 + n % 7).as_bytes()).is_ok()));
    }
}
