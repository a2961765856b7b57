//! The hostile world in which Runcast proves its promises.

pub mod dice;
pub mod pipe;
pub mod schedule;
pub mod tap;
