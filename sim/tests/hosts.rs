//! World 2, turmoil: some seeds keep all promises, and the same seed is the same world.

use runcast_sim::hosts::Hosts;
use runcast_sim::plan::Plan;
use runcast_sim::play::Which;
use runcast_sim::swarm;
use runcast_sim::trace::Show;

/// Its daemon is killed, its zones are cut off, its connections reset.
const EVENTFUL: u64 = 0;
/// Nothing goes wrong in it.
const CALM: u64 = 32;

#[test]
fn an_eventful_world_of_hosts_keeps_its_promises_and_comes_to_rest() {
    let summary =
        swarm::run_and_explain(Which::Turmoil, EVENTFUL).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(summary.crashes > 0 && summary.resets > 0 && summary.partitions > 0, "{summary}");
    assert!(summary.delivered > 0, "{summary}");
}

#[test]
fn a_calm_world_of_hosts_delivers_all() {
    assert!(Plan::draw(CALM).faults.is_empty());
    let summary = swarm::run_and_explain(Which::Turmoil, CALM).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(summary.crashes == 0 && summary.resets == 0, "{summary}");
    assert!(summary.delivered > 0, "{summary}");
}

#[test]
fn the_same_seed_is_the_same_world_of_hosts() {
    let beginning = || {
        let mut hosts = Hosts::new(Plan::draw_for(Which::Turmoil, 3), Show::Hash);
        hosts.finish_within(10_000_000).unwrap()
    };
    assert_eq!(beginning(), beginning());
}
