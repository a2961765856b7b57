//! Nonsense for the parts of Runcast that read what strangers send: each module is a fuzz target, a plain
//! function over bytes that panics when something is wrong.
//!
//! `cargo test -p runcast-fuzz` replays `seeds/` through them on stable Rust; libFuzzer grows inputs for them
//! through the thin programs under `fuzz_targets/` (README.md says how).

pub mod choices;
pub mod conn_bytes;
pub mod core_inputs;
pub mod fault_schedule;
pub mod http_head;
mod memory;
mod outside;
mod pipe;
pub mod store_recover;
pub mod wire_decode;

/// A fuzz target.
pub type Target = fn(&[u8]);

/// All targets, by name.
pub const TARGETS: [(&str, Target); 6] = [
    ("wire_decode", wire_decode::target),
    ("core_inputs", core_inputs::target),
    ("conn_bytes", conn_bytes::target),
    ("http_head", http_head::target),
    ("store_recover", store_recover::target),
    ("fault_schedule", fault_schedule::target),
];
