//! Worlds of the swarm as one test, for whoever changes the core in a thousand ways and wants to know of each
//! whether an oracle sees it: `cargo mutants` (`sim/MUTANTS.md`). Everybody else runs `cargo sim swarm`.

use runcast_sim::play::Which;
use runcast_sim::swarm::{note_panics, swarm};

/// As many as see almost every planted bug.
const WORLDS: u64 = 40;

#[test]
fn forty_worlds_keep_every_promise() {
    note_panics();
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let seeds: Vec<u64> = (0..WORLDS).collect();
    if let Err(failure) = swarm(Which::Events, &seeds, jobs, &|_, _| {}) {
        // `note_panics` has silenced what a panic says.
        drop(std::panic::take_hook());
        panic!("{failure}");
    }
}
