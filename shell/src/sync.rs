//! What the hand-over between loop and storage thread stands on: the system's threads and channels. A test
//! puts an explorer of schedules in their place.

pub(crate) use std::sync::mpsc;
pub(crate) use std::thread;
