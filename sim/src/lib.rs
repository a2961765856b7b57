//! The hostile world in which Runcast proves its promises.

pub mod disk;
