//! `store_recover` under libFuzzer.

#![no_main]

use std::panic::{catch_unwind, set_hook};

// libFuzzer's own hook would end the process at the panics of redb over damaged pages, which the store
// catches.
libfuzzer_sys::fuzz_target!(
    init: set_hook(Box::new(|_| {})),
    |data: &[u8]| {
        if catch_unwind(|| runcast_fuzz::store_recover::target(data)).is_err() {
            std::process::abort();
        }
    }
);
