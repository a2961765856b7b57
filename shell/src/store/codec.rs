//! How records, rows and chunks look as bytes.
//!
//! Every value in redb's tables is `format 1, CRC-32 4, body`, all numbers little endian, all texts with
//! their length (4 bytes) before them. The checksum covers the key too, so that a value in the wrong place is
//! seen as well.

use super::journal::Place;
use bytes::{BufMut, Bytes, BytesMut};
use runcast_core::record::{Record, RowKey, StreamKey, Table};
use std::ops::Range;
use std::sync::Arc;

/// The version of these encodings.
const FORMAT: u8 = 1;
const BODY_AT: usize = 5;

const EVENT: u8 = 1;
const PUT: u8 = 2;
const DELETE: u8 = 3;
const TRIM: u8 = 4;

/// A chunk holds at most so many events,
pub(super) const CHUNK_EVENTS_MAX: usize = 256;
/// and so many bytes of events with their lengths, or one event: as many as fit, with its key, into one of
/// redb's pages of 32 KiB, which are powers of two and written whole.
pub(super) const CHUNK_BYTES_MAX: usize = 31 * 1024;

/// Room for entries is had in pieces of so many bytes, so that what a large one leaves is not scattered.
const ROOM_BYTES: usize = 1024 * 1024;

/// Records as an entry of the journal, which has checksums of its own, in what is left of this room or in
/// more. A record that has a value ends with it.
pub(super) fn encode_records<'a>(
    records: impl Iterator<Item = &'a Record> + Clone,
    room: &mut BytesMut,
) -> Bytes {
    let bytes = records.clone().map(record_bytes).sum();
    if room.capacity() < bytes {
        *room = BytesMut::with_capacity(bytes.max(ROOM_BYTES));
    }
    records.for_each(|record| put_record(room, record));
    room.split().freeze()
}

/// The records of an entry of the journal; none if they make no sense.
pub(super) fn decode_records(body: Bytes) -> Option<Vec<Record>> {
    let mut body = Reader(body);
    let mut records = Vec::new();
    while !body.0.is_empty() {
        records.push(body.record()?);
    }
    Some(records)
}

/// Where the journal begins.
pub(super) fn encode_place(place: Place) -> Vec<u8> {
    let mut out = unsealed(16);
    out.extend_from_slice(&place.number.to_le_bytes());
    out.extend_from_slice(&place.block.to_le_bytes());
    sealed(&[b"first"], out)
}

/// The same; none if it is damaged.
pub(super) fn decode_place(value: &[u8]) -> Option<Place> {
    let mut body = Reader(body(&[b"first"], value)?);
    let mut number = || Some(u64::from_le_bytes(body.number()?));
    Some(Place { number: number()?, block: number()? })
}

/// A row's value.
pub(super) fn encode_row(key: &RowKey, value: &[u8]) -> Vec<u8> {
    let mut out = unsealed(value.len());
    out.extend_from_slice(value);
    sealed(&row_parts(&[key.table as u8], key), out)
}

/// What a row holds; none if it is damaged.
pub(super) fn decode_row(key: &RowKey, value: &[u8]) -> Option<Bytes> {
    body(&row_parts(&[key.table as u8], key), value)
}

/// Consecutive events of a stream, the first with this seq.
pub(super) fn encode_chunk(stream: &StreamKey, first: u64, events: &[&[u8]]) -> Vec<u8> {
    let mut out = unsealed(events.iter().map(|event| 4 + event.len()).sum());
    for event in events {
        put_text(&mut out, event);
    }
    sealed(&[stream.0.as_bytes(), &first.to_le_bytes()], out)
}

/// Where in a chunk its events are; none if it is damaged. They are left where they are.
pub(super) fn decode_chunk(stream: &StreamKey, first: u64, value: &[u8]) -> Option<Vec<Range<usize>>> {
    let body = checked(&[stream.0.as_bytes(), &first.to_le_bytes()], value)?;
    let mut events = Vec::new();
    let mut rest = body;
    while let Some((len, after)) = rest.split_first_chunk() {
        let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
        rest = after.get(len..)?;
        let end = value.len() - rest.len();
        events.push(end - len..end);
    }
    (rest.is_empty() && !events.is_empty()).then_some(events)
}

/// How many bytes a record takes in the journal.
pub(crate) fn record_bytes(record: &Record) -> usize {
    1 + match record {
        Record::Event { stream, seq: _, bytes } => 4 + stream.0.len() + 8 + 4 + bytes.len(),
        Record::Put { key, value } => key_bytes(key) + 4 + value.len(),
        Record::Delete { key } => key_bytes(key),
        Record::Trim { stream, floor: _ } => 4 + stream.0.len() + 8,
    }
}

fn key_bytes(key: &RowKey) -> usize {
    1 + 4 + key.owner.len() + 4 + key.name.len()
}

fn row_parts<'a>(table: &'a [u8; 1], key: &'a RowKey) -> [&'a [u8]; 3] {
    [table, key.owner.as_bytes(), key.name.as_bytes()]
}

fn unsealed(body_bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(BODY_AT + body_bytes);
    out.extend_from_slice(&[FORMAT, 0, 0, 0, 0]);
    out
}

fn sealed(key: &[&[u8]], mut out: Vec<u8>) -> Vec<u8> {
    let checksum = checksum(key, &out[BODY_AT..]);
    out[1..BODY_AT].copy_from_slice(&checksum.to_le_bytes());
    out
}

fn body(key: &[&[u8]], value: &[u8]) -> Option<Bytes> {
    checked(key, value).map(Bytes::copy_from_slice)
}

/// The body where it is, if the checksum holds.
fn checked<'a>(key: &[&[u8]], value: &'a [u8]) -> Option<&'a [u8]> {
    let (head, body) = value.split_at_checked(BODY_AT)?;
    let holds = head[0] == FORMAT && head[1..] == checksum(key, body).to_le_bytes();
    holds.then_some(body)
}

fn checksum(key: &[&[u8]], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in key {
        hasher.update(&length(part.len()));
        hasher.update(part);
    }
    hasher.update(body);
    hasher.finalize()
}

fn length(len: usize) -> [u8; 4] {
    u32::try_from(len).expect("the core's limits keep a record below 4 GiB").to_le_bytes()
}

fn put_text(out: &mut impl BufMut, text: &[u8]) {
    out.put_slice(&length(text.len()));
    out.put_slice(text);
}

fn put_key(out: &mut BytesMut, key: &RowKey) {
    out.put_u8(key.table as u8);
    put_text(out, key.owner.as_bytes());
    put_text(out, key.name.as_bytes());
}

fn put_record(out: &mut BytesMut, record: &Record) {
    match record {
        Record::Event { stream, seq, bytes } => {
            out.put_u8(EVENT);
            put_text(out, stream.0.as_bytes());
            out.put_u64_le(*seq);
            put_text(out, bytes);
        }
        Record::Put { key, value } => {
            out.put_u8(PUT);
            put_key(out, key);
            put_text(out, value);
        }
        Record::Delete { key } => {
            out.put_u8(DELETE);
            put_key(out, key);
        }
        Record::Trim { stream, floor } => {
            out.put_u8(TRIM);
            put_text(out, stream.0.as_bytes());
            out.put_u64_le(*floor);
        }
    }
}

/// What is left to read. Values share the one buffer.
struct Reader(Bytes);

impl Reader {
    fn take(&mut self, len: usize) -> Option<Bytes> {
        (len <= self.0.len()).then(|| self.0.split_to(len))
    }

    fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.as_ref().try_into().ok()
    }

    fn bytes(&mut self) -> Option<Bytes> {
        let len = u32::from_le_bytes(self.number()?);
        self.take(usize::try_from(len).ok()?)
    }

    fn text(&mut self) -> Option<Arc<str>> {
        std::str::from_utf8(&self.bytes()?).ok().map(Arc::from)
    }

    fn key(&mut self) -> Option<RowKey> {
        let [table] = self.number()?;
        Some(RowKey { table: Table::from_number(table)?, owner: self.text()?, name: self.text()? })
    }

    fn record(&mut self) -> Option<Record> {
        let [tag] = self.number()?;
        match tag {
            EVENT => {
                let stream = StreamKey(self.text()?);
                let seq = u64::from_le_bytes(self.number()?);
                Some(Record::Event { stream, seq, bytes: self.bytes()? })
            }
            PUT => Some(Record::Put { key: self.key()?, value: self.bytes()? }),
            DELETE => Some(Record::Delete { key: self.key()? }),
            TRIM => {
                let stream = StreamKey(self.text()?);
                Some(Record::Trim { stream, floor: u64::from_le_bytes(self.number()?) })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_as_they_were_and_take_the_bytes_that_were_counted() {
        let key = RowKey { table: Table::Device, owner: "ü".into(), name: "".into() };
        let stream = StreamKey("s/e-1".into());
        let records = [
            Record::Event { stream: stream.clone(), seq: u64::MAX, bytes: Bytes::from_static(b"{}") },
            Record::Put { key: key.clone(), value: Bytes::new() },
            Record::Delete { key },
            Record::Trim { stream, floor: 7 },
        ];
        let body = encode_records(records.iter(), &mut BytesMut::new());
        assert_eq!(body.len(), records.iter().map(record_bytes).sum::<usize>());
        assert_eq!(decode_records(body.clone()).as_deref(), Some(&records[..]));
        let cut = |len: &usize| decode_records(body.slice(..*len)).is_some();
        assert_eq!((1..body.len()).filter(cut).count(), 3, "only between records");
    }

    #[test]
    fn senseless_records_are_damage() {
        for body in [&b"\x09"[..], b"\x01\xff\xff\xff\xff", b"\x03\x63", b"\x04\x01\0\0\0\xff\0\0"] {
            assert_eq!(decode_records(Bytes::from_static(body)), None);
        }
    }

    #[test]
    fn no_changed_or_cut_place_is_taken_for_a_good_one() {
        let place = Place { number: 3, block: 9 };
        let value = encode_place(place);
        assert_eq!(decode_place(&value), Some(place));
        for at in 0..value.len() {
            assert_eq!(decode_place(&value[..at]), None);
            let mut changed = value.clone();
            changed[at] ^= 0x10;
            assert_eq!(decode_place(&changed), None);
        }
    }

    #[test]
    fn a_chunk_gives_its_events_back_only_under_its_own_key() {
        let stream = StreamKey("s".into());
        let events = [&b"one"[..], b""];
        let value = encode_chunk(&stream, 5, &events);
        let places = decode_chunk(&stream, 5, &value).unwrap();
        assert_eq!(places.iter().map(|place| &value[place.clone()]).collect::<Vec<_>>(), events);
        assert_eq!(decode_chunk(&stream, 6, &value), None);
        assert_eq!(decode_chunk(&StreamKey("t".into()), 5, &value), None);
    }
}
