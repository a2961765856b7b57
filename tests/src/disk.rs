//! Disks of the tests' own: small ones, and ones that cannot be written to, mounted where only the process
//! under test sees them.

use crate::{Daemon, binary, output};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Mounts, and goes on as what it is told to.
const SCRIPT: &str = "mount -t tmpfs -o \"$1\" small \"$0\" && shift && exec \"$@\"";

/// What runs a program, given as arguments, with a disk in memory mounted at `data`. `options` are mount's,
/// like `size=2m`. None where nothing may be mounted.
pub(crate) fn mounting(data: &Path, options: &str) -> Option<Command> {
    fs::create_dir_all(data).expect("a directory to mount at");
    let command = || {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", SCRIPT]).arg(data).arg(options);
        command
    };
    let tried = command().arg("true").stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success()).then(command)
}

/// Runs a command of the binary to its end with such a disk: its exit code and all it says. None where
/// nothing may be mounted.
pub fn runcast_on_disk(data: &Path, options: &str, words: &[&str]) -> Option<(i32, String)> {
    let output = output(mounting(data, options)?.arg(binary()).args(words)).expect("the command starts");
    Some(all_said(&output))
}

/// The exit code of a command that was not killed, and both its outputs.
fn all_said(output: &Output) -> (i32, String) {
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.code().expect("no signal ends it"), String::from_utf8(said).expect("UTF-8"))
}

impl Daemon {
    /// Runs a command of the binary to its end where the daemon's disk can be seen: its exit code and all it
    /// says.
    pub fn runcast_beside(&self, words: &[&OsStr]) -> (i32, String) {
        let mut command = Command::new("nsenter");
        command.args(["--user", "--mount", "--preserve-credentials", "--target", &self.id().to_string()]);
        let output = output(command.arg(binary()).args(words).env_remove("RUNCAST_TOKEN"));
        all_said(&output.expect("the command starts"))
    }

    /// Fills its disk to the last byte. Removing the file that is returned ends that.
    pub fn fill_disk(&self) -> PathBuf {
        // The daemon's own view of the file system.
        let seen = format!("/proc/{}/root{}", self.id(), self.data().join("filler").display());
        let (mut file, mut chunk) = (File::create(&seen).expect("a file on its disk"), &[0x5a; 65_536][..]);
        while !chunk.is_empty() {
            match file.write(chunk) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => chunk = &chunk[..chunk.len() / 2],
                Err(error) => panic!("the disk cannot be filled: {error}"),
            }
        }
        seen.into()
    }
}
