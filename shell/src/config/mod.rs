//! The configuration: where each value comes from, what it may be, and what contradicts what (DESIGN §6).

pub mod units;
