//! What a daemon writes to its log, line by line, to be waited for and looked through.

use crate::PATIENCE;
use serde_json::Value;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// The lines of all processes of one daemon so far.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<(Mutex<Vec<String>>, Condvar)>);

impl Log {
    /// One line more.
    pub(crate) fn add(&self, line: String) {
        let (lines, added) = &*self.0;
        lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        added.notify_all();
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the `n`th line with this message, and returns its fields.
    pub fn nth(&self, n: usize, message: &str) -> Value {
        let fields = |line: &String| Some(serde_json::from_str::<Value>(line).ok()?["fields"].take());
        let find = |lines: &[String]| {
            let mut found = lines.iter().filter_map(fields).filter(|fields| fields["message"] == message);
            found.nth(n - 1)
        };
        let (lines, added) = &*self.0;
        let lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        let (lines, _) = added
            .wait_timeout_while(lines, PATIENCE, |lines| find(lines).is_none())
            .unwrap_or_else(PoisonError::into_inner);
        find(&lines).unwrap_or_else(|| panic!("the log has not said {message:?} {n} times"))
    }
}
