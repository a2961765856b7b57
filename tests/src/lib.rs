//! Runcast as its users meet it: the real binary, started here, over real sockets.
//!
//! Nothing here sleeps and hopes: a test waits for a line of the log, for a message, or for the end of a
//! connection, and asks again and again for what tells nobody ([`eventually()`]). Each wait has a bound past
//! which the test fails: [`PATIENCE`], and for the end of a command ([`output`]) a longer one.

mod certificate;
mod command;
mod daemon;
mod disk;
mod ends;
mod eventually;
mod http;
mod log;
mod pair;
mod promtool;
mod socket;
mod token;
mod user;
mod worker;

pub use certificate::Certificate;
pub use command::output;
pub use daemon::{Daemon, Door, binary, runcast};
pub use disk::runcast_on_disk;
pub use ends::Ends;
pub use eventually::eventually;
pub use http::{Answer, Ask};
pub use log::Log;
pub use pair::Pair;
pub use promtool::promtool;
pub use socket::{Ended, Socket, dial, raw_request};
pub use token::{SECRET, claims, sign, token};
pub use user::User;
pub use worker::Worker;

use std::io::{self, Write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// How long a test waits for what must come, before it fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Says, past the capture of a test's output, that something is not tested here, and why.
///
/// # Panics
/// When standard error is gone.
pub fn skipped(why: &str) {
    writeln!(io::stderr(), "skipped: {why}").expect("a line can be written");
}

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a package lies in the repository")
}

/// What a command of cargo says.
pub fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = output(Command::new(cargo).args(arguments).current_dir(repository())).expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}
