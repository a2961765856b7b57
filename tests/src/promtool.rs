//! Prometheus' own tool, where it is installed.

use crate::skipped;
use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};

/// Runs `promtool` with this as its input, and returns all that it says; none if it is not installed.
///
/// # Panics
/// If it fails.
pub fn promtool(words: &[&str], input: &str) -> Option<String> {
    let mut command = Command::new("promtool");
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            skipped("promtool is not installed");
            return None;
        }
        Err(error) => panic!("promtool does not start: {error}"),
    };
    let mut stdin = child.stdin.take().expect("its input is piped");
    stdin.write_all(input.as_bytes()).expect("it reads its input");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let said =
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(output.status.success(), "promtool {words:?}: {said}");
    Some(said)
}
