//! The hostile world in which Runcast proves its promises.

pub mod actors;
pub mod bugs;
pub mod carrier;
pub mod daemon;
pub mod dice;
pub mod disk;
pub mod faults;
pub mod hosts;
pub mod keys;
pub mod link;
pub mod model;
pub mod oracles;
pub mod pipe;
pub mod plan;
pub mod play;
pub mod said;
pub mod schedule;
pub mod settings;
pub mod shrink;
pub mod sometimes;
pub mod storage;
pub mod swarm;
pub mod tap;
pub mod trace;
pub mod watch;
pub mod world;
