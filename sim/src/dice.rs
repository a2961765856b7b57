//! All chance in the simulator: one ChaCha8 stream per owner, each derived from the seed and the owner's
//! name, so that one actor's choices do not move another's.

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

/// A stream of choices.
#[derive(Debug)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// The choices of `owner` (any number that names it) in the world of `seed`.
    pub fn new(seed: u64, owner: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&owner.to_le_bytes());
        Self(ChaCha8Rng::from_seed(key))
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0.random()
    }

    /// 32 bytes, for whoever needs a seed of its own.
    pub fn seed(&mut self) -> [u8; 32] {
        self.0.random()
    }

    /// `0..end`; 0 when that is empty.
    pub fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.0.random_range(0..end) }
    }

    /// `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0.random_range(low..=high)
    }

    /// True in `n` of `of` cases.
    pub fn chance(&mut self, n: u64, of: u64) -> bool {
        self.below(of) < n
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// `low..=high`, every order of magnitude as likely as the next. `low` is at least 1.
    pub fn log_uniform(&mut self, low: u64, high: u64) -> u64 {
        let (from, to) = ((low as f64).ln(), (high as f64).ln());
        let at: f64 = self.0.random();
        ((from + at * (to - from)).exp().round() as u64).clamp(low, high)
    }

    /// How long until something that happens every `mean` on average; at most eight times as long.
    pub fn exponential(&mut self, mean: u64) -> u64 {
        let at: f64 = self.0.random();
        ((-(1.0 - at).ln() * mean as f64) as u64).clamp(1, mean.saturating_mul(8).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_owner_in_the_same_seed_chooses_the_same() {
        let draw = |seed, owner| {
            let mut dice = Dice::new(seed, owner);
            (0..50).map(|_| dice.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1, 2), draw(1, 2));
        assert_ne!(draw(1, 2), draw(1, 3));
        assert_ne!(draw(1, 2), draw(2, 2));
    }

    #[test]
    fn ranges_hold() {
        let mut dice = Dice::new(7, 7);
        for _ in 0..1000 {
            assert!((3..=2000).contains(&dice.log_uniform(3, 2000)));
            assert!((1..=800).contains(&dice.exponential(100)));
        }
        assert_eq!(dice.below(0), 0);
    }
}
