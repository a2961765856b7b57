//! O1, O16 and O17 for topics (PROTOCOL §3 `topics`, §4, §7): a connection reads the topics that its newest
//! `welcome` or `subscribed` lists, each in order from where that says, within a window of its own; only
//! whoever may, and nothing of one that it has given up or whose token has lost it.

use super::order::{Piece, Sender};
use super::others::Progress;
use super::truth::{Truth, secret};
use super::{durable, isolation};
use crate::said::{Said, TopicEntry};
use crate::schedule::Micros;
use std::collections::BTreeMap;

/// All topics of a world, and whether only operators may read them.
pub const TOPICS: [(&str, bool); 5] =
    [("system", false), ("news", false), ("ops", true), ("agents", true), ("alerts", true)];

/// The number whose secret is in what operators alone may read.
pub const OPERATORS: usize = 998;

/// Whether a user may read a topic.
pub fn may_read(topic: &str, operates: bool) -> bool {
    TOPICS.iter().any(|(name, is_operators)| *name == topic && (operates || !is_operators))
}

/// What is wrong: which oracle says so, and how.
type Broken = (&'static str, String);

/// One topic on a connection.
#[derive(Debug, Default)]
pub struct Lane {
    /// The incarnation of its stream.
    pub epoch: String,
    sender: Sender,
    progress: Progress,
}

/// The topics of a connection.
#[derive(Debug, Default)]
pub struct Lanes {
    /// Whether its user may read what is for operators.
    pub operates: bool,
    lanes: BTreeMap<String, Lane>,
}

impl Lanes {
    /// What the connection is told, in so many bytes, that concerns topics.
    ///
    /// # Errors
    /// What it must not be told, or in another order.
    pub fn told(
        &mut self,
        now: Micros,
        window: Option<u64>,
        truth: &mut Truth,
        said: &Said<'_>,
        bytes: usize,
    ) -> Result<(), Broken> {
        match (said.kind.as_ref(), &said.topic) {
            ("welcome" | "subscribed", _) => self.listed(window, truth, &said.topic_entries()),
            ("ok", _) => {
                self.lanes.retain(|name, _| said.ended.iter().flatten().all(|topic| topic != name));
                Ok(())
            }
            ("event", Some(topic)) => self.event((now, bytes), truth, topic, said),
            _ => Ok(()),
        }
    }

    fn listed(
        &mut self,
        window: Option<u64>,
        truth: &mut Truth,
        entries: &[TopicEntry<'_>],
    ) -> Result<(), Broken> {
        self.lanes.retain(|topic, _| entries.iter().any(|entry| entry.topic == **topic));
        for entry in entries {
            let Some(resume) = &entry.resume else { continue };
            if !may_read(&entry.topic, self.operates) {
                return Err(("O17", format!("{} is read by a user who may not", entry.topic)));
            }
            durable::head(truth, OPERATORS, &entry.epoch, entry.head).map_err(|what| ("O16", what))?;
            if let Some(lane) = self.lanes.get(&*entry.topic) {
                let (position, _) = lane.sender.position();
                if (position, &*lane.epoch) != (resume.from, &*entry.epoch) {
                    let what = format!("{} was kept at {position}, and begins anew: {entry:?}", entry.topic);
                    return Err(("O1", what));
                }
                continue;
            }
            let mut lane = Lane { epoch: entry.epoch.to_string(), ..Lane::default() };
            lane.sender.welcome(resume.from, window);
            self.lanes.insert(entry.topic.to_string(), lane);
        }
        Ok(())
    }

    fn event(
        &mut self,
        (now, bytes): (Micros, usize),
        truth: &mut Truth,
        topic: &str,
        said: &Said<'_>,
    ) -> Result<(), Broken> {
        let Some(lane) = self.lanes.get_mut(topic) else {
            return Err(("O17", format!("{topic} is not read: {said:?}")));
        };
        durable::event(truth, OPERATORS, &lane.epoch, said)?;
        lane.sender.event(now, Piece::of(said), bytes).map_err(|what| ("O1", format!("{topic}: {what}")))
    }

    /// The client is about to acknowledge.
    pub fn acked(&mut self, topic: &str, seq: u64) {
        if let Some(lane) = self.lanes.get_mut(topic) {
            lane.sender.acked(seq);
        }
    }

    /// Looks whether a topic is not delivered though it could be (O23).
    ///
    /// # Errors
    /// Which.
    pub fn look(
        &mut self,
        now: Micros,
        truth: &mut Truth,
        is_narrow: bool,
        calm_since: Micros,
    ) -> Result<(), String> {
        for (topic, lane) in &mut self.lanes {
            let (position, room) = lane.sender.position();
            let head = truth.stream(OPERATORS, &lane.epoch).map_or(0, |log| log.head());
            let is_owed = room && !is_narrow && position < head;
            let owed = lane.progress.look(now, position, is_owed, calm_since);
            owed.map_err(|what| format!("{topic}: {what}"))?;
        }
        Ok(())
    }
}

/// What is sent to a user (O10): no other user's secret, nor, if it is not one, the operators'.
///
/// # Errors
/// Whose it carries.
pub fn isolated(user: usize, operates: bool, text: &str) -> Result<(), String> {
    if operates {
        return isolation::judge(user, &text.replace(&secret(OPERATORS), ""));
    }
    isolation::judge(user, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lanes: &mut Lanes, text: &str) -> Option<&'static str> {
        let said = Said::read(text).unwrap();
        lanes.told(0, Some(8), &mut Truth::default(), &said, 100).err().map(|(oracle, _)| oracle)
    }

    fn list(topic: &str, from: u64) -> String {
        let resume = format!("{{\"status\":\"fresh\",\"from\":{from}}}");
        format!(
            "{{\"type\":\"subscribed\",\"topics\":[{{\"topic\":\"{topic}\",\"epoch\":\"e\",\"floor\":1,\"head\":0,\
             \"resume\":{resume}}}]}}"
        )
    }

    #[test]
    fn a_topic_is_read_by_whoever_may_and_as_long_as_it_is_listed() {
        let mut lanes = Lanes::default();
        assert_eq!(told(&mut lanes, &list("ops", 0)), Some("O17"));
        assert_eq!(told(&mut lanes, &list("news", 0)), None);
        assert_eq!(told(&mut lanes, &list("news", 1)), Some("O1"), "it was kept");
        let event = r#"{"type":"event","topic":"news","seq":1,"ts":1,"event":"x","data":1}"#;
        assert_eq!(told(&mut lanes, event), Some("O16"));
        assert_eq!(told(&mut lanes, r#"{"type":"ok","of":"refresh","ended":["news"]}"#), None);
        assert_eq!(told(&mut lanes, event), Some("O17"));
        lanes.operates = true;
        assert_eq!(told(&mut lanes, &list("ops", 0)), None);
    }

    #[test]
    fn the_operators_secret_is_for_operators() {
        let text = secret(OPERATORS);
        assert!(isolated(3, true, &text).is_ok());
        assert!(isolated(3, false, &text).is_err());
        assert!(isolated(3, true, &secret(4)).is_err());
    }
}
