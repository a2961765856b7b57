//! A process that ends with whoever has started it.

use super::BenchError;
use super::system::{self, Usage};
use std::io;
use std::process::{Child, Command};

/// A running process. It is killed when this is dropped.
#[derive(Debug)]
pub(super) struct Process(pub(super) Child);

impl Process {
    /// Starts it.
    ///
    /// # Errors
    /// When it does not start.
    pub(super) fn spawn(command: &mut Command) -> io::Result<Self> {
        command.spawn().map(Self)
    }

    /// What it has used so far.
    ///
    /// # Errors
    /// When the system does not tell.
    pub(super) fn usage(&self) -> Result<Usage, BenchError> {
        system::usage(self.0.id())
    }

    /// Kills it with SIGKILL, wherever it is.
    pub(super) fn kill(&mut self) {
        // It may have ended by itself; there is nothing to do about another failure here.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
