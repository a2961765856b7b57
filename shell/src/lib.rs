//! The Runcast daemon.

pub mod line;
#[cfg(test)]
mod scripted;
pub mod storage;
pub mod worker;
