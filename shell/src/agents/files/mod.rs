//! `files`: answers questions in plain English about the files of one folder, by really looking: it
//! understands the question by rules (`question.rs`), uses tools on real files (`tools.rs`), and says what it
//! found.
//!
//! It stays below its root, follows no symbolic link, reads only regular files, and has a limit on
//! everything. It counts and compares all files, hidden ones too, as `find -type f` would; only searches in
//! contents leave out `.git`, `target` and `node_modules` (unless asked to begin inside), and the answer says
//! so.
//!
//! Its input is the question, a string or `{"text": …}`. The output is an object with `text`, the answer, and
//! the facts in it (`path`, `bytes`, `files`, `lines`, …).

mod answer;
mod format;
mod question;
mod root;
#[cfg(test)]
mod tests;
mod tools;
mod words;

use crate::worker::{Agent, AgentError, Ask, Out, Output};
use answer::Answer;
use root::Root;
use serde_json::Value;
use std::io;
use std::path::Path;

/// The longest question, in bytes.
const QUESTION_MAX: usize = 4 << 10;

/// The agent.
#[derive(Debug)]
pub struct Files(Root);

impl Files {
    /// An agent for what is below `folder`.
    ///
    /// # Errors
    /// When it is no folder that can be read.
    pub fn new(folder: &Path) -> io::Result<Self> {
        Ok(Self(Root::new(folder)?))
    }
}

impl Agent for Files {
    fn name(&self) -> &str {
        "files"
    }

    fn slots(&self) -> usize {
        4
    }

    fn retryable(&self) -> bool {
        true
    }

    fn timeout_ms(&self) -> Option<u64> {
        Some(120_000)
    }

    fn run(&self, ask: &Ask, out: &mut Out) -> Result<Output, AgentError> {
        let text = ask.input.as_str().or_else(|| ask.input.get("text").and_then(Value::as_str));
        let bad =
            |why: &str| AgentError::failed("bad_input", format!("expected a question, a string: {why}"));
        let text = text.map(str::trim).ok_or_else(|| bad("found neither a string nor {\"text\": …}"))?;
        if text.is_empty() || text.len() > QUESTION_MAX {
            return Err(bad(&format!("it has {} bytes, and 1 to {QUESTION_MAX} are taken", text.len())));
        }
        let question = question::understand(text, &|name| self.0.place(name).is_ok());
        let facts = Answer::new(&self.0, out).give(&question)?;
        Ok(Output { output: facts, usage: None })
    }
}
