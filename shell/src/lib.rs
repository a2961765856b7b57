//! The Runcast daemon.

pub mod auth;
pub mod cli;
pub mod config;
pub mod storage;
