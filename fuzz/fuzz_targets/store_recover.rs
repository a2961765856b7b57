//! `store_recover` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| runcast_fuzz::store_recover::target(data));
