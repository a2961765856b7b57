//! The hostile world in which Runcast proves its promises.

pub mod actors;
pub mod daemon;
pub mod dice;
pub mod disk;
pub mod faults;
pub mod keys;
pub mod link;
pub mod model;
pub mod oracles;
pub mod pipe;
pub mod plan;
pub mod said;
pub mod schedule;
pub mod storage;
pub mod swarm;
pub mod tap;
pub mod trace;
pub mod world;
