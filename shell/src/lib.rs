//! The Runcast daemon.

pub mod storage;
