//! The Runcast daemon.

pub mod conn;
pub mod pump;
pub mod storage;
