//! Properties of the rate limit.

use super::{Rate, Verdict};
use crate::config::Limits;
use crate::time::{Mono, Span};
use alloc::vec::Vec;
use proptest::prelude::*;

fn limits() -> impl Strategy<Value = Limits> {
    (1..1_000u64, 1..300u64).prop_map(|(messages_per_second, burst)| Limits {
        messages_per_second,
        burst,
        ..Limits::default()
    })
}

proptest! {
    #[test]
    fn no_more_than_the_burst_and_the_rate_are_ever_fine(
        limits in limits(),
        gaps in prop::collection::vec(prop_oneof![Just(0), 0..2_000u64, 0..3_000_000u64], 1..600),
    ) {
        let (mut rate, mut now, mut fine) = (Rate::default(), Mono(5), Vec::new());
        for gap in gaps {
            now = now + Span(gap);
            if rate.message(now, &limits) == Verdict::Fine {
                fine.push(now);
            }
        }
        let every = 1_000_000 / limits.messages_per_second;
        for (first, since) in fine.iter().enumerate() {
            for (last, until) in fine.iter().enumerate().skip(first) {
                let allowed = limits.burst + until.since(*since).0 / every;
                let count = (last - first) as u64 + 1;
                prop_assert!(count <= allowed, "{count} from {since:?} to {until:?}");
            }
        }
    }

    #[test]
    fn whoever_keeps_to_the_rate_is_never_refused(
        limits in limits(),
        late in prop::collection::vec(0..5_000u64, 1..400),
    ) {
        let (mut rate, mut now) = (Rate::default(), Mono(0));
        let every = 1_000_000 / limits.messages_per_second;
        for late in late {
            prop_assert_eq!(rate.message(now, &limits), Verdict::Fine);
            now = now + Span(every + late);
        }
    }

    #[test]
    fn a_refused_message_is_fine_after_the_wait_that_was_told(limits in limits(), burst in 1..400usize) {
        let (mut rate, now) = (Rate::default(), Mono(1));
        for _ in 0..burst {
            match rate.message(now, &limits) {
                Verdict::Fine => {}
                Verdict::Close => break,
                Verdict::Refuse(wait) => {
                    prop_assert_eq!(rate.message(now + wait, &limits), Verdict::Fine);
                    break;
                }
            }
        }
    }
}
