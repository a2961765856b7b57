//! The storage thread: on a real file, and under an explorer of schedules.

mod explored;
mod on_disk;
mod under_shuttle;
