//! The Runcast daemon: everything but the state machine, which is `runcast-core`.

#[cfg(test)]
mod ram;
#[cfg(test)]
mod scripted;

pub mod agents;
pub mod ask;
pub mod auth;
mod bench;
pub mod cli;
pub mod client;
pub mod config;
pub mod conn;
pub mod daemon;
pub mod disk;
pub mod line;
mod log;
pub mod metrics;
pub mod mio_loop;
pub mod place;
pub mod preflight;
pub mod pump;
pub mod reload;
mod stderr;
pub mod storage;
pub mod store;
pub mod store_thread;
#[cfg(test)]
mod store_thread_tests;
pub mod supervisor;
mod sync;
pub mod tls;
pub mod webhook;
pub mod worker;
