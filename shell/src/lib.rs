//! The Runcast daemon.

pub mod conn;
pub mod mio_loop;
pub mod pump;
pub mod storage;
