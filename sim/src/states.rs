//! How many different states the daemons of a swarm have been in: what the core shows of itself, made coarse,
//! so that worlds meet in the same ones. A curve over the seeds that still rises says that more seeds would
//! see more.

use runcast_core::{Core, CursorView, View};
use std::collections::BTreeSet;

/// Turns of the loop from one look to the next.
const EVERY: u64 = 8;
/// The parts of the seeds after which the states are counted, in eighths.
const PARTS: [u64; 4] = [1, 2, 4, 8];

/// The states that were reached, each as a number that says all that is kept of it.
#[derive(Clone, Debug, Default)]
pub struct States(BTreeSet<u64>);

impl States {
    /// Looks at a core after so many turns, if it is time to.
    pub fn look(&mut self, turns: u64, core: &Core) {
        if turns.is_multiple_of(EVERY) {
            self.0.insert(state(core.inspect()));
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Adds another world's.
    pub fn add(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }
}

/// How many states were reached as the seeds went by.
#[derive(Debug)]
pub struct Curve {
    seeds: u64,
    done: u64,
    states: States,
    counts: Vec<(u64, usize)>,
}

impl Curve {
    /// Of so many seeds none is done.
    pub fn new(seeds: u64) -> Self {
        Self { seeds, done: 0, states: States::default(), counts: Vec::new() }
    }

    /// One more is done.
    pub fn add(&mut self, states: States) {
        self.done += 1;
        self.states.add(states);
        if PARTS.iter().any(|part| self.done == (self.seeds * part).div_ceil(8)) {
            self.counts.push((self.done, self.states.count()));
        }
    }

    /// The states after each part of the seeds, in a line.
    pub fn line(&self) -> String {
        let counts = self.counts.iter().map(|(seeds, states)| format!("{states} after {seeds} seeds"));
        format!("states: {}", counts.collect::<Vec<_>>().join(", "))
    }
}

/// Digits of different bases, as one number.
#[derive(Default)]
struct Digits(u64);

impl Digits {
    fn push(&mut self, digit: u64, base: u64) {
        self.0 = self.0 * base + digit;
    }

    /// None, one, or several.
    fn count(&mut self, count: usize) {
        self.push(count.min(2) as u64, 3);
    }

    fn flag(&mut self, is_so: bool) {
        self.push(u64::from(is_so), 2);
    }
}

/// What is kept of a state: of everything whether there is none, one, or several.
fn state(view: View<'_>) -> u64 {
    let (mut of_runs, mut of_cursors) = ([0; 5], [0; 5]);
    view.runs().for_each(|run| of_runs[stage(run.state)] += 1);
    view.cursors().for_each(|(_, _, cursor)| of_cursors[pace(&cursor)] += 1);
    let sizes = view.sizes();
    let mut digits = Digits::default();
    of_runs.into_iter().chain(of_cursors).for_each(|count| digits.count(count));
    let rest = [sizes.workers, sizes.left_behind, sizes.appends, sizes.loads, sizes.moved, sizes.undelivered];
    rest.into_iter().for_each(|count| digits.count(count));
    digits.flag(view.is_draining());
    digits.flag(view.is_closing());
    digits.flag(view.is_store_full());
    digits.0
}

/// Where a run is.
fn stage(state: &str) -> usize {
    match state {
        "queued" => 0,
        "dispatched" => 1,
        "running" => 2,
        "waiting" => 3,
        _ => 4,
    }
}

/// What keeps a connection from its stream's next event.
fn pace(cursor: &CursorView) -> usize {
    let has_all = cursor.sent == cursor.head;
    match (has_all, cursor.is_reading, cursor.is_open) {
        (true, _, _) if cursor.acked == cursor.sent => 0,
        (true, _, _) => 1,
        (false, true, _) => 2,
        (false, false, true) => 3,
        (false, false, false) => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(states: &[u64]) -> States {
        States(states.iter().copied().collect())
    }

    #[test]
    fn a_curve_counts_each_state_once() {
        let mut curve = Curve::new(4);
        [&[1, 2][..], &[2], &[3, 4, 5], &[1]].iter().for_each(|states| curve.add(reached(states)));
        assert_eq!(curve.line(), "states: 2 after 1 seeds, 2 after 2 seeds, 5 after 4 seeds");
    }

    #[test]
    fn several_are_the_same_however_many() {
        let number = |counts: &[usize]| {
            let mut digits = Digits::default();
            counts.iter().for_each(|count| digits.count(*count));
            digits.0
        };
        assert_eq!(number(&[2, 0]), number(&[9, 0]));
        assert_ne!(number(&[1, 0]), number(&[0, 1]));
    }
}
