//! The folder that the agent may look at, and the way through it: never out of it, never through a symbolic
//! link.

use serde::Serialize;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::UNIX_EPOCH;

/// How deep a walk goes.
const DEPTH_MAX: usize = 128;
/// How many things a walk looks at.
const ENTRIES_MAX: u64 = 2_000_000;

/// A folder with a fence around it.
#[derive(Debug)]
pub(super) struct Root(PathBuf);

/// Something inside the fence.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Where it is for the system.
    pub(super) path: PathBuf,
    /// Where it is for the user: relative to the root, `.` for the root itself.
    pub(super) name: String,
    pub(super) is_folder: bool,
}

/// A file that a walk found. Only regular ones are told of: what else there is has no content to speak of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Found {
    /// Relative to the root.
    pub(super) path: String,
    pub(super) bytes: u64,
    /// Unix time in milliseconds; 0 when the system does not say.
    pub(super) modified_ms: u64,
}

/// What a walk came across.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Walk {
    pub(super) files: u64,
    pub(super) folders: u64,
    /// Symbolic links, sockets and the like: seen, not followed.
    pub(super) others: u64,
    /// What the system does not let this process read.
    pub(super) unreadable: u64,
    /// It ended at a limit; there is more.
    pub(super) cut_short: bool,
}

/// What a visitor is shown.
#[derive(Debug)]
pub(super) enum Step<'a> {
    /// A folder, before what is in it. Answer false to leave it out.
    Folder(&'a str),
    /// A regular file.
    File(&'a Found, &'a Path),
}

impl Root {
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        let path = fs::canonicalize(folder)?;
        fs::read_dir(&path)?;
        Ok(Self(path))
    }

    /// The place that `asked` names, relative to the root or absolute inside it.
    pub(super) fn place(&self, asked: &str) -> Result<Place, String> {
        let inside = self.inside(asked)?;
        let mut path = self.0.clone();
        let mut metadata =
            fs::symlink_metadata(&path).map_err(|error| format!("cannot look at `.`: {error}"))?;
        for part in &inside {
            path.push(part);
            metadata = match fs::symlink_metadata(&path) {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(format!("there is no `{asked}`"));
                }
                Err(error) => return Err(format!("cannot look at `{asked}`: {error}")),
            };
            if metadata.is_symlink() {
                return Err(format!("`{asked}` leads through a symbolic link, and those are not followed"));
            }
        }
        if !metadata.is_dir() && !metadata.is_file() {
            return Err(format!("`{asked}` is neither a file nor a folder"));
        }
        let name = if inside.is_empty() { ".".to_owned() } else { inside.join("/") };
        Ok(Place { path, name, is_folder: metadata.is_dir() })
    }

    /// The parts of a path below the root.
    fn inside(&self, asked: &str) -> Result<Vec<String>, String> {
        let path = Path::new(asked);
        let outside = || format!("`{asked}` is outside the folder that I may look at");
        let path = if path.is_absolute() { path.strip_prefix(&self.0).map_err(|_| outside())? } else { path };
        let mut parts: Vec<String> = Vec::new();
        for component in path.components() {
            match component {
                Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
                Component::CurDir => {}
                Component::ParentDir => {
                    parts.pop().ok_or_else(outside)?;
                }
                Component::RootDir | Component::Prefix(_) => return Err(outside()),
            }
        }
        Ok(parts)
    }

    /// Shows `visit` everything below `place` (or `place` itself, a file), folders by name and files by name.
    /// `visit` ends the walk with an error.
    pub(super) fn walk(
        &self,
        place: &Place,
        mut visit: impl FnMut(Step<'_>) -> Result<bool, String>,
    ) -> Result<Walk, String> {
        let mut walk = Walk::default();
        if !place.is_folder {
            let metadata = fs::symlink_metadata(&place.path).map_err(|error| error.to_string())?;
            walk.files = 1;
            visit(Step::File(&Found::new(place.name.clone(), &metadata), &place.path))?;
            return Ok(walk);
        }
        let mut folders = vec![(place.path.clone(), place.name.clone(), 0)];
        while let Some((path, name, depth)) = folders.pop() {
            let Ok(names) = names_in(&path) else {
                walk.unreadable += 1;
                continue;
            };
            let mut below = Vec::new();
            for part in names {
                if walk.files + walk.folders + walk.others >= ENTRIES_MAX {
                    walk.cut_short = true;
                    return Ok(walk);
                }
                let path = path.join(&part);
                let name = join(&name, &part.to_string_lossy());
                let Ok(metadata) = fs::symlink_metadata(&path) else {
                    walk.unreadable += 1;
                    continue;
                };
                if metadata.is_file() {
                    walk.files += 1;
                    visit(Step::File(&Found::new(name, &metadata), &path))?;
                } else if metadata.is_dir() {
                    walk.folders += 1;
                    walk.cut_short |= depth == DEPTH_MAX;
                    if depth < DEPTH_MAX && visit(Step::Folder(&name))? {
                        below.push((path, name, depth + 1));
                    }
                } else {
                    walk.others += 1;
                }
            }
            folders.extend(below.into_iter().rev());
        }
        Ok(walk)
    }
}

impl Found {
    fn new(path: String, metadata: &Metadata) -> Self {
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified_ms = modified.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        Self { path, bytes: metadata.len(), modified_ms }
    }
}

fn names_in(folder: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    let mut names =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

fn join(folder: &str, part: &str) -> String {
    if folder == "." { part.to_owned() } else { format!("{folder}/{part}") }
}
