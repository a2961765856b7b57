//! The Runcast daemon.

pub mod conn;
pub mod disk;
pub mod mio_loop;
pub mod pump;
pub mod storage;
pub mod store;
pub mod store_thread;
