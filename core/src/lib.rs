#![no_std]
//! The state machine of Runcast.

extern crate alloc;

pub mod config;
pub mod effect;
pub mod ids;
pub mod input;
pub mod record;
pub mod time;
pub mod wire;

use config::Config;
use effect::Effects;
use input::Input;
use record::Image;
use time::{Mono, Now};

/// The state machine.
#[derive(Debug)]
pub struct Core {}

impl Core {
    /// Opens the core on what the store knows.
    pub fn open(_config: Config, _seed: [u8; 32], _image: Image, _now: Now, _out: &mut Effects) -> Self {
        Self {}
    }

    /// Handles one input.
    pub fn handle(&mut self, _now: Now, _input: Input<'_>, _out: &mut Effects) {}

    /// When to come back.
    pub fn deadline(&self) -> Option<Mono> {
        None
    }
}
