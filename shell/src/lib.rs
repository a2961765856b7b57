//! The Runcast daemon.

pub mod agents;
pub mod line;
#[cfg(test)]
mod scripted;
pub mod storage;
pub mod worker;
