//! Answers: what is folded, with what is not folded yet laid over it.

use super::codec;
use super::engine::{CHUNKS, Engine, ROWS, RowKeyBytes, row_key};
use super::overlay::Unfolded;
use bytes::Bytes;
use redb::ReadOnlyTable;
use runcast_core::record::{Found, Image, Query, RowKey, StreamKey, Table};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

type Rows = ReadOnlyTable<RowKeyBytes<'static>, &'static [u8]>;
type Sorted = BTreeMap<RowKey, Bytes>;

/// Why a question is not answered.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// What was asked for is not as it was stored, or the disk has lost it: says what. redb is as good as
    /// before.
    Damaged(String),
    /// redb fails, or has met damage of its own.
    Engine(redb::Error),
}

impl Unanswered {
    /// Whether what was asked for is damaged, whoever has found that.
    pub(super) fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged(_) | Self::Engine(redb::Error::Corrupted(_)))
    }
}

impl From<redb::Error> for Unanswered {
    fn from(error: redb::Error) -> Self {
        Self::Engine(error)
    }
}

impl From<redb::StorageError> for Unanswered {
    fn from(error: redb::StorageError) -> Self {
        Self::Engine(error.into())
    }
}

impl From<redb::TableError> for Unanswered {
    fn from(error: redb::TableError) -> Self {
        Self::Engine(error.into())
    }
}

/// Where the difference does not matter.
impl From<Unanswered> for redb::Error {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Damaged(what) => Self::Corrupted(what),
            Unanswered::Engine(error) => error,
        }
    }
}

/// The answer to a question.
pub(super) fn answer(engine: &Engine, unfolded: &Unfolded, query: &Query) -> Result<Found, Unanswered> {
    match query {
        Query::Rows(keys) => {
            let table = engine.begin_read()?.open_table(ROWS)?;
            let mut found = Sorted::new();
            for key in keys {
                if let Some(value) = row(&table, unfolded, key)? {
                    found.insert(key.clone(), value);
                }
            }
            Ok(Found::Rows(found.into_iter().collect()))
        }
        Query::Owner(owner) => {
            let table = engine.begin_read()?.open_table(ROWS)?;
            let mut found = Sorted::new();
            context(&table, unfolded, owner, &mut found)?;
            Ok(Found::Rows(found.into_iter().collect()))
        }
        Query::First { table, owner, skip, rows_max } => {
            let rows = engine.begin_read()?.open_table(ROWS)?;
            let mut found = Sorted::new();
            scan(&rows, unfolded, *table, Some(owner), skip.saturating_add(*rows_max), &mut found)?;
            Ok(Found::Rows(found.into_iter().skip(*skip).take(*rows_max).collect()))
        }
        Query::Events { stream, after, events_max, bytes_max } => {
            let (events_max, bytes_max) = (*events_max, *bytes_max);
            let page = Page { last: None, count: 0, bytes: 0, events_max, bytes_max };
            Ok(Found::Events(events(engine, unfolded, stream, *after, page)?))
        }
    }
}

/// What the core must have at start.
pub(super) fn image(engine: &Engine, unfolded: &Unfolded) -> Result<Image, Unanswered> {
    let rows = engine.begin_read()?.open_table(ROWS)?;
    let mut found = Sorted::new();
    for table in Table::ALL.into_iter().filter(|table| table.is_alive()) {
        scan(&rows, unfolded, table, None, usize::MAX, &mut found)?;
    }
    let owners: BTreeSet<Arc<str>> = found.keys().map(|key| key.owner.clone()).collect();
    for owner in owners.iter().filter(|owner| !owner.is_empty()) {
        context(&rows, unfolded, owner, &mut found)?;
    }
    Ok(Image { rows: found.into_iter().collect() })
}

/// The seq of a stream's newest folded event.
pub(super) fn end(engine: &Engine, stream: &StreamKey) -> Result<Option<u64>, Unanswered> {
    let chunks = engine.begin_read()?.open_table(CHUNKS)?;
    let name = stream.0.as_bytes();
    let Some(last) = chunks.range((name, 0)..=(name, u64::MAX))?.next_back() else { return Ok(None) };
    let (key, value) = last?;
    let first = key.value().1;
    let events = chunk(stream, first, value.value())?;
    Ok(Some(first + events.len() as u64 - 1))
}

fn row(rows: &Rows, unfolded: &Unfolded, key: &RowKey) -> Result<Option<Bytes>, Unanswered> {
    if let Some(latest) = unfolded.row(key) {
        return Ok(latest.map(Bytes::copy_from_slice));
    }
    rows.get(row_key(key))?.map(|value| whole_row(key, value.value())).transpose()
}

pub(super) fn whole_row(key: &RowKey, value: &[u8]) -> Result<Bytes, Unanswered> {
    codec::decode_row(key, value).ok_or_else(|| Unanswered::Damaged(row_words(key)))
}

/// The key that is stored so.
pub(super) fn row_of((number, owner, name): RowKeyBytes<'_>) -> Result<RowKey, Unanswered> {
    let table = Table::from_number(number);
    let table = table.ok_or_else(|| Unanswered::Damaged(format!("table {number}")))?;
    Ok(RowKey { table, owner: text(owner)?, name: text(name)? })
}

fn row_words(key: &RowKey) -> String {
    format!("row {:?} of {:?} in table {:?}", key.name, key.owner, key.table)
}

fn context(rows: &Rows, unfolded: &Unfolded, owner: &Arc<str>, found: &mut Sorted) -> Result<(), Unanswered> {
    for table in Table::ALL.into_iter().filter(|table| table.is_context()) {
        scan(rows, unfolded, table, Some(owner), usize::MAX, found)?;
    }
    Ok(())
}

/// All rows of a table, or those of one owner: at least the first `enough` of them.
fn scan(
    rows: &Rows,
    unfolded: &Unfolded,
    table: Table,
    owner: Option<&Arc<str>>,
    enough: usize,
    found: &mut Sorted,
) -> Result<(), Unanswered> {
    let before = found.len();
    let asked = |key: &RowKey| key.table == table && owner.is_none_or(|owner| key.owner == *owner);
    let first = RowKey { table, owner: owner.cloned().unwrap_or_else(|| "".into()), name: "".into() };
    for entry in rows.range(row_key(&first)..)? {
        let (stored, value) = entry?;
        let (number, owner, name) = stored.value();
        if number != table as u8 {
            break;
        }
        let (owner, name) = (text(owner)?, text(name)?);
        let key = RowKey { table, owner, name };
        if !asked(&key) || found.len() - before >= enough {
            break;
        }
        if unfolded.row(&key).is_none() {
            let value = whole_row(&key, value.value())?;
            found.insert(key, value);
        }
    }
    for (key, value) in unfolded.rows_of(table, owner) {
        match value {
            Some(value) => drop(found.insert(key.clone(), Bytes::copy_from_slice(value))),
            None => drop(found.remove(key)),
        }
    }
    Ok(())
}

fn text(bytes: &[u8]) -> Result<Arc<str>, Unanswered> {
    let text = std::str::from_utf8(bytes);
    text.map(Arc::from).map_err(|_| Unanswered::Damaged("the key of a row".into()))
}

/// Where the events of a chunk are.
fn chunk(stream: &StreamKey, first: u64, value: &[u8]) -> Result<Vec<Range<usize>>, Unanswered> {
    let events = codec::decode_chunk(stream, first, value);
    events.ok_or_else(|| Unanswered::Damaged(format!("events from {first} of stream {:?}", stream.0)))
}

/// What is on an answer that is being filled.
struct Page {
    /// The seq of the last event.
    last: Option<u64>,
    count: usize,
    bytes: usize,
    events_max: usize,
    bytes_max: usize,
}

impl Page {
    /// Counts the next event in, which has so many bytes; false if the page is full without it.
    fn takes(&mut self, seq: u64, bytes: usize) -> Result<bool, Unanswered> {
        if let Some(last) = self.last {
            if last + 1 != seq {
                return Err(Unanswered::Damaged(format!("no event between {last} and {seq}")));
            }
            if self.count >= self.events_max || self.bytes + bytes > self.bytes_max {
                return Ok(false);
            }
        }
        self.last = Some(seq);
        self.count += 1;
        self.bytes += bytes;
        Ok(true)
    }
}

fn events(
    engine: &Engine,
    unfolded: &Unfolded,
    stream: &StreamKey,
    after: u64,
    mut page: Page,
) -> Result<Vec<(u64, Bytes)>, Unanswered> {
    let chunks = engine.begin_read()?.open_table(CHUNKS)?;
    let name = stream.0.as_bytes();
    // The chunk that `after` is in, if there is one, and all that follow.
    let begin = chunks.range((name, 0)..=(name, after))?.next_back();
    let begin = begin.transpose()?.map_or(after, |(key, _)| key.value().1);
    // Chunks may be small, and what is not folded is a part of something larger: the events are copied
    // together once it is known which, and share one buffer.
    let (mut parts, mut places, mut room, mut is_full) = (Vec::new(), Vec::new(), 0, false);
    for entry in chunks.range((name, begin)..=(name, u64::MAX))? {
        let (key, value) = entry?;
        let first = key.value().1;
        let mut part = 0..0;
        for (seq, place) in (first..).zip(chunk(stream, first, value.value())?) {
            if seq <= after {
                continue;
            }
            is_full = !page.takes(seq, place.len())?;
            if is_full {
                break;
            }
            if part.is_empty() {
                part.start = place.start;
            }
            part.end = place.end;
            places.push((seq, room + place.start - part.start..room + place.end - part.start));
        }
        room += part.len();
        parts.push((value, part));
        if is_full {
            break;
        }
    }
    // A fold that has just ended may have put into the tables what is in memory, too.
    let (after, mut latest) = (page.last.unwrap_or(after), Vec::new());
    for (seq, bytes) in unfolded.events_after(stream, after) {
        if is_full || !page.takes(seq, bytes.len())? {
            break;
        }
        places.push((seq, room..room + bytes.len()));
        room += bytes.len();
        latest.push(bytes);
    }
    let mut buffer = Vec::with_capacity(room);
    parts.iter().for_each(|(value, part)| buffer.extend_from_slice(&value.value()[part.clone()]));
    latest.into_iter().for_each(|bytes| buffer.extend_from_slice(bytes));
    let buffer = Bytes::from(buffer);
    Ok(places.into_iter().map(|(seq, place)| (seq, buffer.slice(place))).collect())
}
