//! Properties of a stream: what is trimmed, what is kept, and where a connection begins.

use super::{Extent, Keep, MARK_EVERY, Stream};
use crate::ids::{Epoch, Owner, User};
use crate::record::Record;
use crate::time::{Now, WallMs};
use crate::wire::user::From;
use alloc::vec::Vec;
use bytes::Bytes;
use proptest::prelude::*;

/// What happens to a stream.
#[derive(Clone, Debug)]
enum Step {
    /// Events of this length are written.
    Push(usize, usize),
    /// So many of those that are not durable become it.
    Advance(u64),
    /// All who are here have everything but the newest so many.
    Leave(u64),
    Trim {
        events: u64,
        bytes: u64,
        from_back: Option<u64>,
    },
    /// It is stored, and found again.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..90usize, 0..300usize).prop_map(|(count, length)| Step::Push(count, length)),
        3 => (0..200u64).prop_map(Step::Advance),
        2 => (0..200u64).prop_map(Step::Leave),
        3 => (1..400u64, 1..40_000u64, prop::option::of(0..300u64))
            .prop_map(|(events, bytes, from_back)| Step::Trim { events, bytes, from_back }),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..40)
}

fn user() -> Owner {
    Owner::User(User::parse("alice").expect("a user"))
}

/// The stream, the lengths of all events ever written to it, and its newest rows.
struct Log {
    stream: Stream,
    lengths: Vec<u64>,
    /// Its facts, and how far it reached then.
    row: Bytes,
    before: Extent,
    marks: Option<Bytes>,
}

fn row_of(stream: &Stream) -> Bytes {
    let Record::Put { value, .. } = stream.row() else { panic!("a row is put") };
    value
}

impl Log {
    fn new() -> Self {
        let stream = Stream::new(user(), Epoch::new(1));
        let (row, before) = (row_of(&stream), stream.extent());
        Self { stream, lengths: Vec::new(), row, before, marks: None }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Push(count, length) => (0..count).for_each(|_| self.push(length)),
            Step::Advance(count) => {
                let to = self.stream.last().min(self.stream.head() + count);
                self.stream.advance(to, true);
            }
            Step::Leave(back) => self.leave(self.stream.last().saturating_sub(back)),
            Step::Trim { events, bytes, from_back } => self.trim(events, bytes, from_back),
            Step::Restart => self.restart(),
        }
        self.check_memory();
    }

    /// What is in memory is counted, and all of it is there that is not durable.
    fn check_memory(&self) {
        let kept: usize = self.stream.tail.iter().map(|entry| entry.bytes.len()).sum();
        assert_eq!(self.stream.tail_bytes, kept);
        for seq in self.stream.head() + 1..=self.stream.last() {
            assert_eq!(self.stream.in_memory(seq).map(|entry| entry.seq), Some(seq));
        }
    }

    fn leave(&mut self, seq: u64) {
        let there = |stream: &Stream| (1..=stream.last()).find(|seq| stream.in_memory(*seq).is_some());
        let (first, gone) = (there(&self.stream), seq.min(self.stream.head()));
        self.stream.leave(seq);
        let left = first.map(|first| first.max(gone + 1)).filter(|first| *first <= self.stream.last());
        assert_eq!(there(&self.stream), left, "what all have leaves, if it is durable, and nothing else");
    }

    fn push(&mut self, length: usize) {
        let mut records = Vec::new();
        let seq = self.stream.next();
        let bytes = Bytes::from(alloc::vec![b'x'; length]);
        self.stream.push(bytes, Now { wall: WallMs(seq), ..Now::default() }, |record| records.push(record));
        self.lengths.push(length as u64);
        let is_there = |record: &Record| matches!(record, Record::Event { seq: at, .. } if *at == seq);
        assert_eq!(records.iter().filter(|record| is_there(record)).count(), 1);
        for record in records {
            if let Record::Put { key, value } = record {
                assert_eq!(key, Stream::marks_key(&user()));
                self.marks = Some(value);
            }
        }
        assert_eq!(self.stream.in_memory(seq).map(|entry| entry.seq), Some(seq));
    }

    fn trim(&mut self, events: u64, bytes: u64, from_back: Option<u64>) {
        let before = self.stream.floor();
        let from = from_back.map(|back| (self.stream.next()).saturating_sub(back).max(before));
        let rose = self.stream.trim(Keep { events, bytes, since: WallMs(0), from });
        let (floor, last) = (self.stream.floor(), self.stream.last());
        assert_eq!(rose, floor > before);
        assert!(
            floor >= before && floor <= self.stream.head() + 1,
            "only what is durable goes, and for good"
        );
        assert!(from.is_none_or(|from| floor <= from), "what is needed stays");
        if rose {
            (self.row, self.before) = (row_of(&self.stream), self.stream.extent());
            // Nothing goes that had to stay: with one more mark kept it would be too much.
            let kept: u64 = self.lengths[floor as usize - 1..].iter().sum();
            let marked = last + 1 - floor + MARK_EVERY > events || kept + 300 * MARK_EVERY > bytes;
            assert!(marked, "{kept} bytes from {floor} to {last}");
        }
        if from.is_none() && self.stream.head() == last {
            assert!(last + 1 - floor <= events + MARK_EVERY, "too many go, up to a mark");
        }
    }

    /// Its row was stored when the floor last rose; a run's row knows how far it reaches since.
    fn restart(&mut self) {
        let head = self.stream.last();
        let mut found = Stream::from_rows(user(), &self.row, self.marks.as_deref());
        found.reach(self.stream.extent());
        found.reach(self.before);
        let facts = |stream: &Stream| (stream.key().clone(), stream.floor(), stream.extent());
        assert_eq!(facts(&found), facts(&self.stream));
        assert_eq!(found.head(), head, "what is stored is durable");
        self.stream = found;
    }
}

proptest! {
    #[test]
    fn trimming_takes_what_is_too_much_and_nothing_else(steps in steps()) {
        let mut log = Log::new();
        steps.iter().for_each(|step| log.take(step));
    }

    #[test]
    fn trimming_by_age_takes_what_is_older_up_to_a_mark(steps in steps(), since in 1..4_000u64) {
        let mut log = Log::new();
        steps.iter().for_each(|step| log.take(step));
        let (floor, head, last) = (log.stream.floor(), log.stream.head(), log.stream.last());
        let keep = Keep { events: u64::MAX, bytes: u64::MAX, since: WallMs(since), from: None };
        log.stream.trim(keep);
        // The events of a log are written at the time that is their seq.
        prop_assert!(log.stream.floor() <= floor.max(since + 1), "what is younger stays");
        prop_assert!(log.stream.floor() <= head + 1, "and what is not durable");
        if head == last {
            let most = if since >= last { 0 } else { MARK_EVERY };
            prop_assert!(log.stream.floor() + most > since.min(last), "what is older goes");
            prop_assert!(!log.stream.is_empty() || last == 0 || since >= last || floor > last);
        }
    }

    #[test]
    fn a_connection_begins_within_the_stream_and_where_it_asked_if_it_can(
        steps in steps(),
        seq in 0..4_000u64,
        device in prop::option::of(0..4_000u64),
        live_back in prop::option::of(0..200u64),
        is_same_epoch in any::<bool>(),
    ) {
        let mut log = Log::new();
        steps.iter().for_each(|step| log.take(step));
        let stream = &log.stream;
        let (oldest, head) = (stream.floor() - 1, stream.head());
        let live = live_back.map(|back| stream.next().saturating_sub(back).max(stream.floor()));
        let epoch = if is_same_epoch { stream.epoch().clone() } else { Epoch::new(2) };
        let position = From::Position { epoch, seq };
        for from in [From::Oldest, From::Head, From::Live, From::Device, position.clone()] {
            let resume = stream.resume(&from, device, live);
            prop_assert!((oldest..=head).contains(&resume.from), "{from:?} begins at {resume:?}");
            prop_assert_eq!(resume.status == "reset", resume.reason.is_some());
            if resume.status == "reset" {
                prop_assert_eq!(resume.from, oldest);
            }
        }
        let is_there = is_same_epoch && (oldest..=head).contains(&seq);
        let resume = stream.resume(&position, device, live);
        prop_assert_eq!(resume.status == "resumed", is_there);
        if is_there {
            prop_assert_eq!(resume.from, seq);
        }
    }
}
