//! `fault_schedule` under libFuzzer.

#![no_main]

use std::panic::{catch_unwind, set_hook};

// As there, the store catches what redb makes of a damaged page.
libfuzzer_sys::fuzz_target!(
    init: set_hook(Box::new(|_| {})),
    |data: &[u8]| {
        if catch_unwind(|| runcast_fuzz::fault_schedule::target(data)).is_err() {
            std::process::abort();
        }
    }
);
