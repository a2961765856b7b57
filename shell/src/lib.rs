//! The Runcast daemon.

pub mod disk;
pub mod storage;
pub mod store;
pub mod store_thread;
