//! The secret of `--dev`: made at the first start, kept in the data directory.

use super::{Secret, read_secret};
use crate::config::{Origin, Problem};
use rand::TryRng;
use rand::rngs::SysRng;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The `kid` of tokens signed with the secret of `--dev`.
pub const DEV_KID: &str = "dev";

/// Where the secret of `--dev` is kept.
pub fn dev_secret_file(data: &Path) -> PathBuf {
    data.join("dev-secret")
}

/// The secret of `--dev` in this data directory, made now if there is none.
///
/// The directory must exist, and be locked by the caller: of two that make it at once one would be forgotten.
///
/// # Errors
/// It cannot be read or made, or what is there is no secret.
pub fn dev_secret(data: &Path) -> Result<Secret, Problem> {
    let path = dev_secret_file(data);
    if let Some(secret) = read_dev_secret(data)? {
        return Ok(secret);
    }
    make(&path).map_err(|error| {
        let reason = format!("cannot be made: {error}");
        Problem::new(Origin::File(path.clone(), None), reason, "give a data directory that can be written to")
    })?;
    read_secret(&path, &Origin::File(path.clone(), None))
}

/// The secret of `--dev` in this data directory, if there is one.
///
/// # Errors
/// It cannot be read, or is no secret.
pub fn read_dev_secret(data: &Path) -> Result<Option<Secret>, Problem> {
    let path = dev_secret_file(data);
    match fs::symlink_metadata(&path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Ok(_) | Err(_) => read_secret(&path, &Origin::File(path.clone(), None)).map(Some),
    }
}

/// Writes a new secret beside its place and moves it there whole.
fn make(path: &Path) -> io::Result<()> {
    let mut random = [0; 32];
    SysRng.try_fill_bytes(&mut random).map_err(io::Error::other)?;
    let hex = random.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    let beside = path.with_extension("new");
    let _ = fs::remove_file(&beside);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    writeln!(file, "{hex}")?;
    file.sync_all()?;
    fs::rename(&beside, path)
}
