//! The Runcast daemon.

pub mod cli;
pub mod config;
pub mod storage;
