//! The storage thread's source once more, on shuttle's threads and channels instead of the system's.
#![allow(dead_code, unreachable_pub, reason = "it is used and public where it is itself")]
#![allow(clippy::duplicate_mod, reason = "the same source twice is what this is for")]

mod sync {
    pub(crate) use shuttle::sync::mpsc;

    pub(crate) mod thread {
        pub(crate) use shuttle::thread::*;

        /// Shuttle has no time: it may be over at any moment.
        pub(crate) fn park_timeout(_most: std::time::Duration) {
            yield_now();
        }
    }
}

#[path = "../store_thread.rs"]
pub(crate) mod store_thread;
