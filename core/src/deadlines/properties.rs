//! Properties of the timers: they fire as if each were always in its place.

use super::{Deadlines, Timer};
use crate::ids::{ConnId, Lane, Topic};
use crate::time::Mono;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use proptest::prelude::*;

/// What is done to a timer.
#[derive(Clone, Debug)]
enum Do {
    Set(u64, u64),
    SetEarlier(u64, u64),
    SetIfUnset(u64, u64),
    Clear(u64),
    Rest(u64),
    Fire(u64),
}

fn any_step() -> impl Strategy<Value = Do> {
    let (name, at) = (0..6u64, 0..40u64);
    prop_oneof![
        (name.clone(), at.clone()).prop_map(|(name, at)| Do::Set(name, at)),
        (name.clone(), at.clone()).prop_map(|(name, at)| Do::SetEarlier(name, at)),
        (name.clone(), at.clone()).prop_map(|(name, at)| Do::SetIfUnset(name, at)),
        name.clone().prop_map(Do::Clear),
        name.prop_map(Do::Rest),
        at.prop_map(Do::Fire),
    ]
}

/// Timers of both tables, in their order.
fn timer(name: u64) -> Timer {
    let (conn, topic) = (ConnId(7), Topic::parse("news").expect("a name"));
    match name {
        0 => Timer::Stuck(conn),
        1 => Timer::Stuck(ConnId(8)),
        2 => Timer::Acks(conn, Lane::Own),
        3 => Timer::Acks(conn, Lane::Topic(topic)),
        4 => Timer::Expiry(conn),
        _ => Timer::Queue,
    }
}

proptest! {
    #[test]
    fn timers_fire_in_their_order_wherever_their_places_are(steps in prop::collection::vec(any_step(), 1..80)) {
        let (mut deadlines, mut set) = (Deadlines::new(crate::lookup::Secret::none()), BTreeMap::new());
        for step in steps {
            match step {
                Do::Set(name, at) => {
                    deadlines.set(timer(name), Mono(at));
                    set.insert(name, at);
                }
                Do::SetEarlier(name, at) => {
                    deadlines.set_earlier(timer(name), Mono(at));
                    set.entry(name).and_modify(|old| *old = at.min(*old)).or_insert(at);
                }
                Do::SetIfUnset(name, at) => {
                    deadlines.set_if_unset(timer(name), Mono(at));
                    set.entry(name).or_insert(at);
                }
                Do::Clear(name) => {
                    deadlines.clear(timer(name));
                    set.remove(&name);
                }
                Do::Rest(name) => {
                    deadlines.rest(timer(name));
                    set.remove(&name);
                }
                Do::Fire(now) => {
                    let mut due: Vec<(u64, u64)> = set.iter().map(|(name, at)| (*at, *name)).collect();
                    due.retain(|(at, _)| *at <= now);
                    due.sort_unstable();
                    for (_, name) in due {
                        prop_assert_eq!(deadlines.due(Mono(now)), Some(timer(name)));
                        set.remove(&name);
                    }
                    prop_assert_eq!(deadlines.due(Mono(now)), None);
                }
            }
            deadlines.tidy();
            prop_assert_eq!(deadlines.len(), set.len());
            prop_assert!(deadlines.resting() <= 6);
            let first = set.iter().map(|(name, at)| (*at, *name)).min();
            prop_assert_eq!(deadlines.first(), first.map(|(at, name)| (Mono(at), timer(name))));
        }
    }
}

#[test]
fn a_connection_s_timers_are_told_by_their_rank() {
    let conn = ConnId((1 << 56) - 1);
    let plain = [
        Timer::Head,
        Timer::Answer,
        Timer::Hello,
        Timer::Heartbeat,
        Timer::Silence,
        Timer::Stuck,
        Timer::Expiry,
    ];
    let lanes = [Timer::Acks, Timer::Backlog].map(|lane| lane(conn, Lane::Own));
    for timer in plain.map(|plain| plain(conn)).into_iter().chain(lanes) {
        assert_eq!(Timer::of_rank(timer.rank()), timer);
    }
}
