//! The Runcast daemon.

pub mod agents;
pub mod auth;
pub mod cli;
pub mod client;
pub mod config;
pub mod line;
#[cfg(test)]
mod scripted;
pub mod storage;
pub mod worker;
