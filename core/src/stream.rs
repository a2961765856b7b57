//! A log of events, a user's or a topic's: what is assigned, what is durable, what is still kept, and its
//! newest part in memory.

#[cfg(test)]
mod properties;

use crate::ids::{Epoch, Owner};
use crate::record::{Found, Record, RowKey, StreamKey, Table};
use crate::time::{Mono, Now, WallMs};
use crate::wire::json::Object;
use crate::wire::user::From;
use alloc::collections::VecDeque;
use alloc::format;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Events of a stream kept in memory, at most, besides those that are not durable.
const TAIL_EVENTS: usize = 1024;
/// Bytes of a stream kept in memory, at most, or what is not durable.
const TAIL_BYTES: usize = 256 * 1024;
/// Events between two marks. Trimming goes from mark to mark.
const MARK_EVERY: u64 = 64;

/// An ordered log of events.
#[derive(Debug)]
pub(crate) struct Stream {
    owner: Owner,
    key: StreamKey,
    epoch: Epoch,
    /// The epoch by which its events are stored, if that was another: a store that is made of a backup gives
    /// its streams new ones, and leaves the events where they are.
    stored_by: Option<Epoch>,
    /// The oldest seq still kept.
    floor: u64,
    /// The newest durable seq; 0 when there is none.
    head: u64,
    /// The newest seq given out.
    last: u64,
    tail: VecDeque<Entry>,
    tail_bytes: usize,
    /// All bytes ever written to it.
    bytes: u64,
    /// When its newest event was written.
    written: WallMs,
    marks: VecDeque<Mark>,
}

/// An event in memory.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Its place.
    pub(crate) seq: u64,
    /// Its one encoding.
    pub(crate) bytes: Bytes,
    /// When it came.
    made: Mono,
}

/// What was written before an event: lets the log be trimmed by bytes and by age without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    seq: u64,
    bytes: u64,
    /// When it was written; 0 if nobody knows.
    #[serde(default)]
    ts: u64,
}

/// The stored form of a stream's facts.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    epoch: Epoch,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stored_by: Option<Epoch>,
    floor: u64,
    last: u64,
    bytes: u64,
    #[serde(default)]
    written: u64,
}

/// How far a stream reaches: what each of its events changes. The row of a run has it, which is stored with
/// each event of the run: then the stream's own row is not stored again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Extent {
    #[serde(default, rename = "stream_last")]
    pub(crate) last: u64,
    #[serde(default, rename = "stream_bytes")]
    pub(crate) bytes: u64,
    #[serde(default, rename = "stream_written")]
    pub(crate) written: u64,
}

/// Where a connection begins, as `welcome` tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resume {
    /// `resumed`, `fresh` or `reset`.
    pub(crate) status: &'static str,
    /// Why it is a reset.
    pub(crate) reason: Option<&'static str>,
    /// The position at which it begins.
    pub(crate) from: u64,
}

/// A topic's rows are the daemon's own: they are there from the start.
fn row_of(owner: &Owner, what: &str) -> RowKey {
    match owner {
        Owner::User(user) => RowKey { table: Table::User, owner: user.text(), name: what.into() },
        Owner::Topic(topic) => {
            RowKey { table: Table::Topic, owner: "".into(), name: format!("{topic}/{what}").into() }
        }
    }
}

/// Where its events are stored.
fn key_of(owner: &Owner, epoch: &Epoch) -> StreamKey {
    StreamKey(match owner {
        Owner::User(user) => format!("u:{epoch}:{user}").into(),
        Owner::Topic(topic) => format!("t:{epoch}:{topic}").into(),
    })
}

/// The row of a stream with a new epoch, made of `random`: in a store that is made of a backup, so that
/// nobody takes the past for the present. None for any other row.
pub(crate) fn renewed(key: &RowKey, row: &[u8], random: u64) -> Option<Bytes> {
    let is_stream = (key.table == Table::User && &*key.name == "stream")
        || (key.table == Table::Topic && key.name.ends_with("/stream"));
    let row: Row = serde_json::from_slice(row).ok().filter(|_| is_stream)?;
    let stored_by = Some(row.stored_by.unwrap_or(row.epoch));
    Some(crate::record::row(&Row { epoch: Epoch::new(random), stored_by, ..row }))
}

impl Resume {
    fn new(status: &'static str, from: u64) -> Self {
        Self { status, reason: None, from }
    }

    /// The position up to which a device that begins so counts for nothing: whoever names one has got it.
    pub(crate) fn first(&self) -> u64 {
        if self.status == "resumed" { 0 } else { self.from }
    }

    /// As it stands in a `welcome`.
    pub(crate) fn describe(&self) -> Object {
        Object::new().str("status", self.status).maybe_str("reason", self.reason).raw("from", self.from)
    }
}

/// How much of a stream is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keep {
    /// The newest events, at most.
    pub(crate) events: u64,
    /// Their bytes, at most.
    pub(crate) bytes: u64,
    /// What was written since; 0 if age does not matter.
    pub(crate) since: WallMs,
    /// The first event that must stay whatever its age.
    pub(crate) from: Option<u64>,
}

impl Stream {
    /// A new stream.
    pub(crate) fn new(owner: Owner, epoch: Epoch) -> Self {
        let key = key_of(&owner, &epoch);
        let (tail, marks) = (VecDeque::new(), VecDeque::new());
        Self {
            owner,
            key,
            epoch,
            stored_by: None,
            floor: 1,
            head: 0,
            last: 0,
            tail,
            tail_bytes: 0,
            bytes: 0,
            written: WallMs(0),
            marks,
        }
    }

    /// The stream as it is stored.
    pub(crate) fn from_rows(owner: Owner, row: &[u8], marks: Option<&[u8]>) -> Self {
        let row: Row = serde_json::from_slice(row).expect("a stored row is what was stored");
        let mut stream = Self::new(owner, row.epoch);
        if let Some(stored_by) = row.stored_by {
            stream.key = key_of(&stream.owner, &stored_by);
            stream.stored_by = Some(stored_by);
        }
        stream.floor = row.floor;
        stream.last = row.last;
        stream.head = row.last;
        stream.bytes = row.bytes;
        stream.written = WallMs(row.written);
        if let Some(marks) = marks {
            stream.marks = serde_json::from_slice(marks).expect("a stored row is what was stored");
            // Stored with the last mark, perhaps before the floor rose: what lies below it is over.
            while stream.marks.get(1).is_some_and(|second| second.seq <= stream.floor) {
                stream.marks.pop_front();
            }
        }
        stream
    }

    pub(crate) fn row_key(owner: &Owner) -> RowKey {
        row_of(owner, "stream")
    }

    pub(crate) fn marks_key(owner: &Owner) -> RowKey {
        row_of(owner, "marks")
    }

    /// The row that stores its facts.
    pub(crate) fn row(&self) -> Record {
        let Self { floor, last, bytes, written, .. } = *self;
        let (epoch, stored_by) = (self.epoch.clone(), self.stored_by.clone());
        let row = Row { epoch, stored_by, floor, last, bytes, written: written.0 };
        Record::Put { key: Self::row_key(&self.owner), value: crate::record::row(&row) }
    }

    /// How far it reaches.
    pub(crate) const fn extent(&self) -> Extent {
        Extent { last: self.last, bytes: self.bytes, written: self.written.0 }
    }

    /// A stream as it is stored reaches as far as the newest of its own row and those of its runs says.
    pub(crate) fn reach(&mut self, extent: Extent) {
        if extent.last > self.last {
            (self.last, self.head) = (extent.last, extent.last);
            (self.bytes, self.written) = (extent.bytes, WallMs(extent.written));
        }
    }

    pub(crate) fn key(&self) -> &StreamKey {
        &self.key
    }

    pub(crate) fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// What a page of this stream is, that was asked for after this seq: events that do not begin there,
    /// though nothing was trimmed, are damaged. Asked for again they would be the same for ever.
    pub(crate) fn judge(&self, after: u64, found: Found) -> Found {
        match &found {
            Found::Events(events) if events.first().is_some_and(|it| it.0 > self.floor.max(after + 1)) => {
                Found::Damaged
            }
            Found::Events(_) | Found::Rows(_) | Found::Damaged => found,
        }
    }

    pub(crate) const fn floor(&self) -> u64 {
        self.floor
    }

    pub(crate) const fn head(&self) -> u64 {
        self.head
    }

    pub(crate) const fn last(&self) -> u64 {
        self.last
    }

    /// The place of the next event.
    pub(crate) const fn next(&self) -> u64 {
        self.last + 1
    }

    /// Adds an event in the place that [`Self::next`] gave; `record` is given what stores it.
    pub(crate) fn push(&mut self, bytes: Bytes, now: Now, mut record: impl FnMut(Record)) {
        self.last += 1;
        self.written = now.wall;
        let seq = self.last;
        if seq % MARK_EVERY == 1 {
            // Most streams have one for long.
            self.marks.reserve_exact(1);
            self.marks.push_back(Mark { seq, bytes: self.bytes, ts: now.wall.0 });
            let value = crate::record::row(&self.marks);
            record(Record::Put { key: Self::marks_key(&self.owner), value });
        }
        self.bytes += bytes.len() as u64;
        self.tail_bytes += bytes.len();
        record(Record::Event { stream: self.key.clone(), seq, bytes: bytes.clone() });
        self.tail.push_back(Entry { seq, bytes, made: now.mono });
    }

    /// Adds an event in the place that [`Self::next`] gave, and trims what is then too much; `record` is
    /// given what stores all that. `is_told` is that a row is stored with it which has its [`Extent`].
    pub(crate) fn grow(
        &mut self,
        bytes: Bytes,
        now: Now,
        keep: Keep,
        is_told: bool,
        mut record: impl FnMut(Record),
    ) {
        self.push(bytes, now, &mut record);
        let is_trimmed = self.trim(keep);
        if is_trimmed {
            record(Record::Trim { stream: self.key.clone(), floor: self.floor });
        }
        if is_trimmed || !is_told {
            record(self.row());
        }
    }

    /// Everything up to `seq` is durable. The newest of it stays in memory, unless `keeps` says otherwise.
    pub(crate) fn advance(&mut self, seq: u64, keeps: bool) {
        assert!(seq <= self.last, "only what was written becomes durable");
        self.head = self.head.max(seq);
        while !keeps || self.tail.len() > TAIL_EVENTS || self.tail_bytes > TAIL_BYTES {
            if !self.leave_oldest(self.head) {
                break;
            }
        }
    }

    /// All who are here have everything up to `seq`: what of it is durable leaves memory.
    pub(crate) fn leave(&mut self, seq: u64) {
        while self.leave_oldest(self.head.min(seq)) {}
        if self.tail.is_empty() {
            self.tail = VecDeque::new();
        }
    }

    /// The oldest event in memory leaves it, if it is not after `upto`.
    fn leave_oldest(&mut self, upto: u64) -> bool {
        let Some(first) = self.tail.pop_front_if(|first| first.seq <= upto) else { return false };
        self.tail_bytes -= first.bytes.len();
        true
    }

    /// An event that is in memory.
    pub(crate) fn in_memory(&self, seq: u64) -> Option<&Entry> {
        let first = self.tail.front()?.seq;
        self.tail.get(usize::try_from(seq.checked_sub(first)?).ok()?)
    }

    /// When the events after `after` up to `upto` came, as far as they are in memory.
    pub(crate) fn made(&self, after: u64, upto: u64) -> impl Iterator<Item = Mono> {
        let first = self.tail.front().map_or(1, |entry| entry.seq);
        let at = |seq: u64| (seq.saturating_sub(first) as usize).min(self.tail.len());
        self.tail.range(at(after + 1)..at(upto + 1).max(at(after + 1))).map(|entry| entry.made)
    }

    /// Whether only [`Keep::from`] stands in the way of raising the floor.
    pub(crate) fn is_trimming_held(&self, keep: Keep) -> bool {
        let (Some(first), Some(second)) = (self.marks.front(), self.marks.get(1)) else { return false };
        let is_over = self.last + 1 - first.seq > keep.events || self.bytes - first.bytes > keep.bytes;
        is_over && keep.from.is_some_and(|from| from < second.seq)
    }

    /// Raises the floor as far as what is to be kept allows. Returns whether it rose.
    pub(crate) fn trim(&mut self, keep: Keep) -> bool {
        let before = self.floor;
        while let [first, second, ..] = self.marks.make_contiguous() {
            let too_many = self.last + 1 - first.seq > keep.events;
            let too_big = self.bytes - first.bytes > keep.bytes;
            let too_old = (1..=keep.since.0).contains(&second.ts);
            let needed = keep.from.is_some_and(|from| from < second.seq);
            if needed || !(too_many || too_big || too_old) || second.seq > self.head + 1 {
                break;
            }
            self.floor = second.seq;
            self.marks.pop_front();
        }
        let all_old = (1..=keep.since.0).contains(&self.written.0);
        if all_old && keep.from.is_none() && self.marks.len() == 1 && self.head == self.last {
            self.floor = self.last + 1;
        }
        self.floor > before
    }

    /// Whether nothing of it is kept.
    pub(crate) const fn is_empty(&self) -> bool {
        self.floor > self.last
    }

    /// Where a connection begins that asks for `from`. `device` is the position of a device that is known,
    /// `live` the first event of the oldest run that has not ended.
    pub(crate) fn resume(&self, from: &From, device: Option<u64>, live: Option<u64>) -> Resume {
        let oldest = self.floor - 1;
        match from {
            From::Oldest => Resume::new("fresh", oldest),
            From::Head => Resume::new("fresh", self.head),
            From::Device if let Some(seq) = device => self.after(seq),
            From::Live | From::Device => {
                let first = live.map_or(self.head, |first| first - 1);
                Resume::new("fresh", first.clamp(oldest, self.head))
            }
            From::Position { epoch, .. } if *epoch != self.epoch => self.reset("epoch"),
            From::Position { seq, .. } => self.after(*seq),
        }
    }

    fn after(&self, seq: u64) -> Resume {
        if seq > self.head {
            self.reset("ahead")
        } else if seq + 1 < self.floor {
            self.reset("trimmed")
        } else {
            Resume::new("resumed", seq)
        }
    }

    fn reset(&self, reason: &'static str) -> Resume {
        Resume { status: "reset", reason: Some(reason), from: self.floor - 1 }
    }
}
