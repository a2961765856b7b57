//! Processes that a test starts by itself.

use std::process::Child;

/// A process that ends with the test.
#[derive(Debug)]
pub struct Ends(pub Child);

impl Drop for Ends {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing to do about another failure here.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
