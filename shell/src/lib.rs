//! The Runcast daemon.

<<<<<<< HEAD
=======
#[cfg(test)]
mod scripted;

pub mod agents;
>>>>>>> 6e20f3860782129d0aa5ae7a06b258da52b33d4a
pub mod auth;
pub mod cli;
pub mod config;
pub mod conn;
<<<<<<< HEAD
pub mod disk;
=======
pub mod daemon;
pub mod disk;
pub mod line;
>>>>>>> 6e20f3860782129d0aa5ae7a06b258da52b33d4a
pub mod mio_loop;
pub mod pump;
pub mod storage;
pub mod store;
pub mod store_thread;
pub mod worker;
