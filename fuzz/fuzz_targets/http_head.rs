//! `http_head` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| runcast_fuzz::http_head::target(data));
