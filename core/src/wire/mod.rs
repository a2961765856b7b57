//! The protocol's messages (PROTOCOL.md): read into types, written from facts.

pub mod call;
pub mod error;
pub mod event;
pub(crate) mod joined;
pub mod json;
pub mod query;
pub mod topic;
pub mod user;
pub mod worker;
