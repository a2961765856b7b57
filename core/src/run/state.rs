//! How far a run is, as it is stored: with each of its events. So it is written by hand, which takes
//! three quarters of serde's instructions, and what is not there is left out.

use super::Cause;
use crate::progress::Progress;
use crate::stream::Extent;
use crate::wire::json::Object;
use crate::worker::WorkerKey;
use alloc::string::String;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct State {
    pub(super) attempt: u64,
    pub(super) attempts: u64,
    #[serde(default)]
    pub(super) not_taken: u32,
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
    pub(super) events: u64,
    #[serde(default)]
    pub(super) n: u64,
    #[serde(default)]
    pub(super) queued_ms: u64,
    #[serde(default)]
    pub(super) ran_us: u64,
    #[serde(default)]
    pub(super) ran_before_us: u64,
    #[serde(default)]
    pub(super) commands: u64,
    #[serde(default)]
    pub(super) worker: Option<WorkerKey>,
    #[serde(default)]
    pub(super) cancel: Option<Cause>,
    #[serde(default)]
    pub(super) progress: Progress,
    /// Of its user's stream.
    #[serde(flatten)]
    pub(super) stream: Extent,
}

impl State {
    /// The row.
    pub(super) fn row(&self) -> Bytes {
        let always = [
            ("attempt", self.attempt),
            ("attempts", self.attempts),
            ("first_seq", self.first_seq),
            ("last_seq", self.last_seq),
            ("events", self.events),
        ];
        let if_there = [
            ("not_taken", self.not_taken.into()),
            ("n", self.n),
            ("queued_ms", self.queued_ms),
            ("ran_us", self.ran_us),
            ("ran_before_us", self.ran_before_us),
            ("commands", self.commands),
        ];
        let there = if_there.into_iter().chain(self.stream.fields()).filter(|(_, value)| *value > 0);
        let row = always.into_iter().chain(there);
        let row = row.fold(Object::new(), |row, (name, value)| row.number(name, value));
        let worker = self.worker.as_ref();
        let worker = worker.map(|it| Object::new().str("sub", it.sub.as_str()).str("name", it.name.as_str()));
        let progress = (self.progress != Progress::default()).then(|| json(&self.progress));
        let row = row
            .maybe_raw("worker", worker.map(Object::finish))
            .maybe_raw("cancel", self.cancel.as_ref().map(json))
            .maybe_raw("progress", progress);
        Bytes::copy_from_slice(row.finish().as_bytes())
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("rows are plain data")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{User, WorkerName};

    #[test]
    fn what_is_written_is_read() {
        let progress = r#"{"step":{"seq":7,"text":"\"look\""},"percent":null}"#;
        let full = State {
            attempt: 1,
            attempts: 2,
            not_taken: 3,
            first_seq: 4,
            last_seq: 5,
            events: 6,
            n: 7,
            queued_ms: 8,
            ran_us: 9,
            ran_before_us: 10,
            commands: 11,
            worker: User::parse("a \"b\"")
                .zip(WorkerName::parse("w"))
                .map(|(sub, name)| WorkerKey { sub, name }),
            cancel: Some(Cause::Interrupt),
            progress: serde_json::from_str(progress).unwrap(),
            stream: Extent { last: 12, bytes: 13, written: 14 },
        };
        assert!(full.worker.is_some());
        for state in [full, State::default()] {
            let row = state.row();
            assert_eq!(serde_json::from_slice::<State>(&row).unwrap(), state, "{row:?}");
        }
    }
}
