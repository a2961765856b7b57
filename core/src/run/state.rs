//! How far a run is, as it is stored: with each of its events. So it is written by hand, and its numbers have
//! their places instead of names.

use super::Cause;
use crate::progress::Progress;
use crate::stream::Extent;
use crate::wire::json::Object;
use crate::worker::WorkerKey;
use bytes::Bytes;
use serde::Deserialize;

/// Room for a row of a run that says nothing of its progress.
const ROW_BYTES: usize = 256;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) numbers: Numbers,
    pub(super) worker: Option<WorkerKey>,
    /// What that worker gives an attempt, if it says so.
    pub(super) timeout_ms: Option<u64>,
    pub(super) cancel: Option<Cause>,
    pub(super) progress: Progress,
}

/// By their names only in stores of version 3 and before, which left out some that were 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Numbers {
    pub(super) attempt: u64,
    pub(super) attempts: u64,
    #[serde(default)]
    pub(super) not_taken: u64,
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
    /// Of its user's stream.
    #[serde(flatten)]
    pub(super) stream: Extent,
}

/// All of them, each in its place. Another order or number of them is another version of the store.
type Places = [u64; 14];

impl Numbers {
    const fn placed(self) -> Places {
        let Self {
            attempt,
            attempts,
            not_taken,
            first_seq,
            last_seq,
            events,
            n,
            queued_ms,
            ran_us,
            ran_before_us,
            commands,
            stream: Extent { last, bytes, written },
        } = self;
        [
            attempt,
            first_seq,
            n,
            last,
            bytes,
            written,
            attempts,
            not_taken,
            last_seq,
            events,
            queued_ms,
            ran_us,
            ran_before_us,
            commands,
        ]
    }

    const fn at(places: Places) -> Self {
        let [
            attempt,
            first_seq,
            n,
            last,
            bytes,
            written,
            attempts,
            not_taken,
            last_seq,
            events,
            queued_ms,
            ran_us,
            ran_before_us,
            commands,
        ] = places;
        Self {
            attempt,
            attempts,
            not_taken,
            first_seq,
            last_seq,
            events,
            n,
            queued_ms,
            ran_us,
            ran_before_us,
            commands,
            stream: Extent { last, bytes, written },
        }
    }
}

/// The row, as it is read.
#[derive(Deserialize)]
struct Row {
    at: Option<Places>,
    worker: Option<WorkerKey>,
    timeout_ms: Option<u64>,
    cancel: Option<Cause>,
    #[serde(default)]
    progress: Progress,
    #[serde(flatten)]
    named: Option<Numbers>,
}

impl State {
    /// The row.
    pub(super) fn row(&self) -> Bytes {
        let mut row = Object::with_room(ROW_BYTES).numbers("at", self.numbers.placed());
        if let Some(worker) = &self.worker {
            let whose = |it: Object| it.str("sub", worker.sub.as_str()).str("name", worker.name.as_str());
            row = row.object("worker", whose);
        }
        if let Some(timeout_ms) = self.timeout_ms {
            row = row.number("timeout_ms", timeout_ms);
        }
        if let Some(cancel) = &self.cancel {
            row = row.json("cancel", cancel);
        }
        if self.progress != Progress::default() {
            row = row.json("progress", &self.progress);
        }
        Bytes::copy_from_slice(row.finish().as_bytes())
    }

    /// # Panics
    /// If it is no such row.
    pub(super) fn from_row(row: &[u8]) -> Self {
        let Row { at, worker, timeout_ms, cancel, progress, named } = super::stored(row);
        let numbers = at.map(Numbers::at).or(named).expect("a row of a run has its numbers");
        Self { numbers, worker, timeout_ms, cancel, progress }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{User, WorkerName};

    fn full() -> State {
        let progress = r#"{"step":{"seq":7,"text":"\"look\""},"percent":null}"#;
        let numbers = Numbers {
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
            stream: Extent { last: 12, bytes: 13, written: u64::MAX },
        };
        let worker = User::parse("a \"b\"").zip(WorkerName::parse("w"));
        State {
            numbers,
            worker: worker.map(|(sub, name)| WorkerKey { sub, name }),
            timeout_ms: None,
            cancel: Some(Cause::Interrupt),
            progress: serde_json::from_str(progress).unwrap(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        assert!(full().worker.is_some());
        for state in [full(), State { timeout_ms: Some(30_000), ..full() }, State::default()] {
            let row = state.row();
            assert_eq!(State::from_row(&row), state, "{row:?}");
        }
    }

    #[test]
    fn what_version_3_has_written_is_read() {
        let row = r#"{"attempt":1,"attempts":2,"first_seq":4,"last_seq":5,"events":6,"not_taken":3,"n":7,
            "queued_ms":8,"ran_us":9,"ran_before_us":10,"commands":11,"stream_last":12,"stream_bytes":13,
            "stream_written":18446744073709551615,"worker":{"sub":"a \"b\"","name":"w"},"cancel":"Interrupt",
            "progress":{"step":{"seq":7,"text":"\"look\""},"percent":null}}"#;
        assert_eq!(State::from_row(row.as_bytes()), full());
        let least = r#"{"attempt":1,"attempts":0,"first_seq":2,"last_seq":2,"events":1}"#;
        let numbers = Numbers { attempt: 1, first_seq: 2, last_seq: 2, events: 1, ..Numbers::default() };
        assert_eq!(State::from_row(least.as_bytes()), State { numbers, ..State::default() });
    }

    #[test]
    fn what_version_4_has_written_is_read_and_written_so_again() {
        let row = r#"{"at":[1,4,7,12,13,18446744073709551615,2,3,5,6,8,9,10,11],"worker":{"sub":"a \"b\"","name":"w"},"#;
        let rest = r#""cancel":"Interrupt","progress":{"step":{"seq":7,"text":"\"look\""},"percent":null}}"#;
        let row = [row, rest].concat();
        assert_eq!(State::from_row(row.as_bytes()), full());
        assert_eq!(full().row(), row);
    }

    #[test]
    #[should_panic(expected = "has its numbers")]
    fn what_has_no_numbers_is_no_row() {
        State::from_row(br#"{"attempt":1,"worker":{"sub":"a","name":"w"}}"#);
    }

    #[test]
    #[should_panic(expected = "a stored row is what was stored")]
    fn what_lacks_a_number_is_no_row() {
        State::from_row(br#"{"at":[1,2,3]}"#);
    }
}
