//! O29, for PROTOCOL §7 topic `alerts`: what it says begins before it is over, and is over before it begins
//! again, also over crashes and full disks; and when all is at rest, what it says last is so.

use crate::said::Said;
use runcast_core::View;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeSet;

/// The alerts that durable events have raised and not cleared.
#[derive(Debug, Default)]
pub struct Alerts(BTreeSet<(String, Option<String>)>);

/// What an alert's event says of it.
#[derive(Deserialize)]
struct Alert<'a> {
    #[serde(borrow)]
    alert: Cow<'a, str>,
    #[serde(borrow)]
    agent: Option<Cow<'a, str>>,
}

impl Alerts {
    /// An event of the topic is durable.
    ///
    /// # Errors
    /// It says what was said.
    pub fn stored(&mut self, said: &Said<'_>) -> Result<(), String> {
        let raises = match said.event.as_deref() {
            Some("alert_raised") => true,
            Some("alert_cleared") => false,
            Some(_) | None => return Ok(()),
        };
        let data = said.data.map_or("", |data| data.get());
        let Ok(Alert { alert, agent }) = serde_json::from_str(data) else {
            return Err(format!("nobody knows which alert this is: {said:?}"));
        };
        let alert = (alert.into_owned(), agent.map(Cow::into_owned));
        let is_news = if raises { self.0.insert(alert) } else { self.0.remove(&alert) };
        if is_news { Ok(()) } else { Err(format!("that was said before: {said:?}")) }
    }

    /// All is at rest.
    ///
    /// # Errors
    /// What was said last is not so.
    pub fn at_rest(&self, view: View<'_>) -> Result<(), String> {
        let agent = |agent: &runcast_core::ids::Agent| agent.as_str().to_owned();
        let known = view.alerts().map(|alert| (alert.as_str().to_owned(), alert.agent().map(agent)));
        let known: BTreeSet<_> = known.collect();
        if known != self.0 {
            return Err(format!("{:?} were told, the core remembers {known:?}", self.0));
        }
        let is_told = |name: &str| self.0.contains(&(name.to_owned(), None));
        let has_undelivered = view.undelivered().any(|(_, _, is_listed)| is_listed);
        if is_told("undelivered") != has_undelivered {
            return Err(format!("undelivered: {has_undelivered}, told: {:?}", self.0));
        }
        if is_told("queue_high") && view.queued() == 0 {
            return Err("nothing is queued, and the queue is said to be full".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_is_raised_and_cleared_in_turn() {
        let mut alerts = Alerts::default();
        let mut say = |event: &str, agent: &str| {
            let text = format!(
                r#"{{"type":"event","topic":"alerts","event":"{event}","data":{{"alert":"breaker_open","agent":"{agent}"}}}}"#
            );
            alerts.stored(&Said::read(&text).unwrap()).is_ok()
        };
        assert!(!say("alert_cleared", "a"));
        assert!(say("alert_raised", "a") && say("alert_raised", "b"));
        assert!(!say("alert_raised", "a"));
        assert!(say("alert_cleared", "a") && say("alert_raised", "a"));
        assert!(say("flash", "a"));
    }
}
