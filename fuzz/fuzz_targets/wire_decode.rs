//! `wire_decode` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| runcast_fuzz::wire_decode::target(data));
