//! The protocol's messages.

pub mod error;
