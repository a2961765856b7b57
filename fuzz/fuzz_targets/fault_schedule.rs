//! `fault_schedule` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| runcast_fuzz::fault_schedule::target(data));
