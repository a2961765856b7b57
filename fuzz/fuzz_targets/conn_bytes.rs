//! `conn_bytes` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| runcast_fuzz::conn_bytes::target(data));
