//! Commands that are run to their end.

use std::process::{Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

/// How long one may take. Some measure for a while, on a machine that does other things besides.
const COMMAND_PATIENCE: Duration = Duration::from_secs(600);

/// Runs a command that is given no input to its end, and returns what it has said. None if its program is
/// not installed.
///
/// # Panics
/// When it does not end in time: it is killed then.
pub fn output(command: &mut Command) -> Option<Output> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().ok()?;
    let id = child.id().to_string();
    let (tell, told) = channel();
    thread::spawn(move || tell.send(child.wait_with_output()));
    let Ok(output) = told.recv_timeout(COMMAND_PATIENCE) else {
        // It may end in this moment by itself; there is nothing to do about another failure here.
        let _ = Command::new("kill").args(["-KILL", &id]).status();
        panic!("{command:?} does not end");
    };
    Some(output.expect("what it says can be read"))
}
