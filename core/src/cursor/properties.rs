//! Properties of delivery: the waits between retries, the window, and what is joined.

use super::{Cursor, Next, WINDOW_BYTES};
use crate::config::Delivery;
use crate::delivery::ack_wait;
use crate::ids::{Epoch, Owner, User};
use crate::planted::Planted;
use crate::stream::{Resume, Stream};
use crate::time::{Now, Span};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use proptest::prelude::*;

/// What happens to a connection.
#[derive(Clone, Debug)]
enum Step {
    /// Events of this length become durable.
    Grow(usize, usize),
    /// So many deltas become durable.
    Say(usize),
    /// All that may be sent is.
    Send,
    /// What was sent is acknowledged up to so far before the last.
    Ack(u64),
    /// More is acknowledged than was sent.
    AckAhead(u64),
    /// The acknowledgement is overdue: everything is sent again.
    Retry,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let lengths = prop_oneof![3 => 2..200usize, 1 => 100_000..700_000usize];
    let step = prop_oneof![
        (1..12usize, lengths).prop_map(|(count, length)| Step::Grow(count, length)),
        (1..90usize).prop_map(Step::Say),
        Just(Step::Send),
        (0..20u64).prop_map(Step::Ack),
        (1..u64::MAX / 2).prop_map(Step::AckAhead),
        Just(Step::Retry),
    ];
    prop::collection::vec(step, 1..60)
}

/// A delta whose text is its seq.
fn delta(seq: u64) -> Bytes {
    let data = format!("{{\"delta\":\"{seq},\"}}");
    Bytes::from(format!(
        "{{\"seq\":{seq},\"ts\":1,\"thread\":\"t\",\"run\":\"r\",\"attempt\":1,\"event\":\"agent_output\",\"data\":{data}}}"
    ))
}

/// Whether what stands for the events after `prev` up to `seq` has the text of all of them.
fn is_whole(bytes: &Bytes, prev: u64, seq: u64) -> bool {
    let text: String = (prev + 1..=seq).map(|seq| format!("{seq},")).collect();
    let text = format!("{{\"delta\":\"{text}\"}}");
    seq == prev + 1 || bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Sends all that may be sent, each once more where it is a retry.
fn send(cursor: &mut Cursor, stream: &Stream, window: usize, is_viewer: bool) -> Result<(), TestCaseError> {
    let mut ends = 0;
    loop {
        let (sent, again) = (cursor.sent(), cursor.again.map(|index| cursor.unacked[index]));
        let prev = again.map_or(sent, |again| again.prev);
        match cursor.next(stream) {
            Next::Nothing => return Ok(()),
            Next::Page(after, count) => {
                // It lies in the store: as if that had answered.
                let needed = again.map_or(1, |again| again.seq - again.prev);
                prop_assert_eq!((after, count as u64), (prev, needed));
                return Ok(());
            }
            Next::Event(seq, bytes) => {
                let before = cursor.unacked();
                prop_assert!(is_whole(&bytes, prev, seq), "{:?} stands for {}..={}", bytes, prev, seq);
                ends += bytes.len() as u64;
                cursor.sent_one(seq, bytes.len(), ends);
                let (events, held) = cursor.unacked();
                match again {
                    Some(again) => {
                        prop_assert_eq!((events, cursor.sent()), (before.0, sent), "a retry takes no room");
                        prop_assert_eq!(seq, again.seq, "it is sent as it was");
                    }
                    None => {
                        let may_join = !is_viewer && cursor.behind(stream.head()) > window as u64;
                        prop_assert!(cursor.sent() == seq && (seq == sent + 1 || may_join));
                    }
                }
                prop_assert!(events <= window && (is_viewer || again.is_some() || events > before.0));
                prop_assert!(before.0 == 0 || again.is_some() || before.1 < WINDOW_BYTES, "{} bytes", held);
            }
        }
    }
}

proptest! {
    #[test]
    fn each_wait_for_an_acknowledgement_is_twice_the_last_and_at_most_a_fifth_off(
        timeout_ms in 1..600_000u64, round in 0..40u32, random in any::<u64>(),
    ) {
        let delivery = Delivery { ack_timeout: Span::millis(timeout_ms), ..Delivery::default() };
        let wait = ack_wait(&delivery, round, random);
        let full = Span::millis(timeout_ms).times(1 << round.min(16));
        prop_assert!(wait >= full.ratio(80, 100) && wait <= full.ratio(120, 100), "{wait:?} for {full:?}");
        prop_assert!(round > 0 || wait == full, "the first wait is as configured");
    }

    #[test]
    fn the_window_holds_whatever_is_sent_and_acknowledged(
        window in 1..40u32, is_viewer in any::<bool>(), steps in steps(),
    ) {
        let user = Owner::User(User::parse("alice").expect("a user"));
        let mut stream = Stream::new(user, Epoch::new(1));
        let mut cursor = Cursor::new(window, is_viewer, Planted::default());
        cursor.begin(Resume { status: "fresh", reason: None, from: 0 });
        let mut acked = 0;
        for step in steps {
            match step {
                Step::Grow(count, length) => {
                    for _ in 0..count {
                        stream.push(Bytes::from(alloc::vec![b'}'; length]), Now::default(), drop);
                    }
                    stream.advance(stream.last(), true);
                }
                Step::Say(count) => {
                    for _ in 0..count {
                        stream.push(delta(stream.next()), Now::default(), drop);
                    }
                    stream.advance(stream.last(), true);
                }
                Step::Send => send(&mut cursor, &stream, window as usize, is_viewer)?,
                Step::Ack(back) => {
                    let seq = cursor.sent().saturating_sub(back);
                    let is_news = cursor.ack(seq);
                    prop_assert_eq!(is_news, Some(!is_viewer && seq > acked));
                    acked = acked.max(seq);
                }
                Step::AckAhead(by) => prop_assert_eq!(cursor.ack(cursor.sent() + by), None),
                Step::Retry if cursor.unacked().0 > 0 => prop_assert!(cursor.begin_retry(u32::MAX)),
                Step::Retry => {}
            }
            let held = cursor.unacked.iter().map(|held| held.seq - held.prev).sum::<u64>();
            let between = if is_viewer { 0 } else { cursor.sent() - acked };
            prop_assert!(held >= between, "all between acknowledged and sent is held");
            prop_assert_eq!(held == 0, between == 0);
        }
    }
}
