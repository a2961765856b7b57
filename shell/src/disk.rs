//! Where the store's bytes lie: the few operations it needs of a disk, and the real file.
//!
//! The store is written against [`Disk`]; production brings [`FileDisk`], the simulator a disk that loses
//! power. What was written is promised to survive a loss of power only after a [`Disk::sync`] that succeeded.
//! Until then each sector may hold its old bytes, its new bytes, or neither.

mod untouched;

pub use untouched::Untouched;

use rustix::io::Errno;
use std::fmt::Debug;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// A row of bytes that can be read, written, grown and made safe.
///
/// A full disk is reported as [`io::ErrorKind::StorageFull`] or [`io::ErrorKind::QuotaExceeded`], by `write`
/// or `set_len`; it leaves what is stored as it was, up to the bytes of that write itself.
pub trait Disk: Debug + Send + Sync + 'static {
    /// Its length in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Fills `out` from `offset` on. Reading past the end is an error.
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
    /// Writes `data` at `offset`, within the length.
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Cuts off, or grows with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Returns when everything written before, and the length, is on stable storage. After an error nothing
    /// is known about what is.
    fn sync(&self) -> io::Result<()>;
    /// Writes `data` at `offset`, within the length, and returns when these bytes are on stable storage. What
    /// others have written is promised nothing by that, so it does not wait for it either. After an error
    /// other than a full disk nothing is known about what is.
    fn write_synced(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.write(offset, data)?;
        self.sync()
    }
}

/// Whether this error says that there is no room left, rather than that the disk is broken.
pub(crate) fn is_full(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether this error says that the disk has lost what was to be read, and nothing of any other place: that
/// is EIO to whoever reads a file; or the file ends before it. What else may fail, as for want of memory,
/// says nothing of what lies there.
pub(crate) fn is_lost(error: &io::Error) -> bool {
    let is_cut_off = error.kind() == io::ErrorKind::UnexpectedEof;
    is_cut_off || error.raw_os_error() == Some(Errno::IO.raw_os_error())
}

/// A file, held under a lock for as long as the value lives.
#[derive(Debug)]
pub struct FileDisk {
    file: File,
    /// The same, opened once more, for what is written and synced in one. That the system could not write
    /// something back it tells once to each that has opened the file, whoever asks first: with one, a fold's
    /// sync beside a commit could be told what the commit had to know, and that would be taken for durable.
    synced: File,
}

/// Why a file cannot be had as a disk. Each message is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// Another process holds it.
    #[error("{0} is in use by another process: stop that daemon, or give this one its own data directory")]
    Locked(String),
    /// The directory it should be in is not there.
    #[error("{0} cannot be created, its directory does not exist: create the directory or correct the path")]
    NotFound(String),
    /// It may not be read and written.
    #[error("{0} cannot be opened for writing ({1}): correct its owner, its rights or the path")]
    Unwritable(String, #[source] io::Error),
    /// No room to create it.
    #[error("{0} cannot be created, the disk is full: free some space")]
    Full(String),
    /// Anything else.
    #[error("{0} cannot be opened ({1}): check the disk and the path")]
    Io(String, #[source] io::Error),
}

impl FileDisk {
    /// Opens the file at `path`, or creates it for its owner alone, and locks it.
    ///
    /// # Errors
    /// [`DiskError`]; nothing was changed but that an empty file may have been created.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        let typed = |error| DiskError::of(path, error);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path).map_err(typed)?;
        file.try_lock().map_err(|refused| DiskError::unlocked(path, refused))?;
        if file.metadata().map_err(typed)?.len() == 0 {
            sync_directory_of(path).map_err(typed)?;
        }
        Self::of(file, path).map_err(typed)
    }

    /// Opens the file at `path` to be looked at, under a lock that others who look share. Whoever wants it
    /// for itself waits for them, so it is to be held for no longer than the look takes.
    ///
    /// # Errors
    /// [`DiskError`]; nothing was changed.
    pub fn look(path: &Path) -> Result<Self, DiskError> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.map_err(|error| DiskError::of(path, error))?;
        file.try_lock_shared().map_err(|refused| DiskError::unlocked(path, refused))?;
        Self::of(file, path).map_err(|error| DiskError::of(path, error))
    }

    fn of(file: File, path: &Path) -> io::Result<Self> {
        let synced = OpenOptions::new().read(true).write(true).open(path)?;
        let place = |file: &File| file.metadata().map(|found| (found.dev(), found.ino()));
        if place(&file)? != place(&synced)? {
            return Err(io::Error::other("another file has taken its place"));
        }
        Ok(Self { file, synced })
    }
}

/// A new file survives a loss of power only when its directory knows it durably.
pub(crate) fn sync_directory_of(path: &Path) -> io::Result<()> {
    File::open(directory_of(path))?.sync_all()
}

/// Makes a directory, and those above it, for its owner alone: what is stored is nobody else's business.
///
/// # Errors
/// If one cannot be made.
pub fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

pub(crate) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

impl DiskError {
    fn unlocked(path: &Path, refused: TryLockError) -> Self {
        match refused {
            TryLockError::WouldBlock => Self::Locked(path.display().to_string()),
            TryLockError::Error(error) => Self::of(path, error),
        }
    }

    fn of(path: &Path, error: io::Error) -> Self {
        let path = path.display().to_string();
        let kind = error.kind();
        if is_full(kind) {
            return Self::Full(path);
        }
        if matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) {
            return Self::NotFound(path);
        }
        let rights =
            [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem, io::ErrorKind::IsADirectory];
        if rights.contains(&kind) { Self::Unwritable(path, error) } else { Self::Io(path, error) }
    }
}

impl Disk for FileDisk {
    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write_synced(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if write_at_once(&self.synced, offset, data)? {
            return Ok(());
        }
        self.synced.write_all_at(data, offset)?;
        self.synced.sync_data()
    }
}

/// With `RWF_DSYNC` (pwritev2(2)): the same as `fdatasync(2)` for this range only, in one call. Whether that
/// is known here, which it is not in some sandboxes.
#[cfg(target_os = "linux")]
fn write_at_once(file: &File, mut offset: u64, mut data: &[u8]) -> io::Result<bool> {
    use rustix::io::{ReadWriteFlags, pwritev2};
    while !data.is_empty() {
        match pwritev2(file, &[io::IoSlice::new(data)], offset, ReadWriteFlags::DSYNC) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => (offset, data) = (offset + written as u64, &data[written..]),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

/// No other system has it.
#[cfg(not(target_os = "linux"))]
fn write_at_once(_: &File, _: u64, _: &[u8]) -> io::Result<bool> {
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_second_opener_is_told_that_the_file_is_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let first = FileDisk::open(&path).unwrap();
        let error = FileDisk::open(&path).unwrap_err();
        assert!(matches!(error, DiskError::Locked(_)), "{error}");
        assert!(error.to_string().contains("stop that daemon"));
        assert!(matches!(FileDisk::look(&path), Err(DiskError::Locked(_))));
        drop(first);
        FileDisk::open(&path).unwrap();
    }

    #[test]
    fn many_may_look_at_a_file_that_is_not_in_use_and_none_is_made_by_that() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        assert!(matches!(FileDisk::look(&path), Err(DiskError::NotFound(_))));
        assert!(!path.exists());
        drop(FileDisk::open(&path).unwrap());
        let looks = [FileDisk::look(&path).unwrap(), FileDisk::look(&path).unwrap()];
        assert!(matches!(FileDisk::open(&path), Err(DiskError::Locked(_))));
        drop(looks);
        FileDisk::open(&path).unwrap();
    }

    #[test]
    fn what_is_made_is_its_owners_alone() {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data/store");
        make_directory(path.parent().unwrap()).unwrap();
        FileDisk::open(&path).unwrap();
        let rights = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((rights(path.parent().unwrap()), rights(&path)), (0o700, 0o600));
    }

    #[test]
    fn a_missing_directory_and_a_directory_in_its_place_have_their_own_errors() {
        let dir = tempfile::tempdir().unwrap();
        let missing = FileDisk::open(&dir.path().join("none/store")).unwrap_err();
        assert!(matches!(missing, DiskError::NotFound(_)), "{missing}");
        let directory = FileDisk::open(dir.path()).unwrap_err();
        assert!(matches!(directory, DiskError::Unwritable(..)), "{directory}");
    }

    #[test]
    fn what_is_written_is_read_and_the_end_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let disk = FileDisk::open(&dir.path().join("store")).unwrap();
        disk.set_len(10).unwrap();
        disk.write(4, b"abc").unwrap();
        disk.sync().unwrap();
        disk.write_synced(7, b"de").unwrap();
        let mut out = [9; 5];
        disk.read(3, &mut out).unwrap();
        assert_eq!(&out, b"\0abcd");
        assert!(disk.read(8, &mut out).is_err());
        assert_eq!(disk.size().unwrap(), 10);
    }

    #[test]
    fn what_could_not_be_written_back_is_told_to_commits_too_whoever_else_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let disk = FileDisk::open(&dir.path().join("store")).unwrap();
        // A lock is of one opening of a file, as what it was told is.
        assert!(matches!(disk.synced.try_lock(), Err(TryLockError::WouldBlock)));
        disk.set_len(3).unwrap();
        disk.write_synced(0, b"abc").unwrap();
        let mut out = [0; 3];
        disk.read(0, &mut out).unwrap();
        assert_eq!(&out, b"abc");
    }

    /// The kernel's own files know no `RWF_DSYNC`; one cannot be synced, the other is always full.
    #[test]
    #[cfg(target_os = "linux")]
    fn where_one_call_cannot_do_it_a_write_is_followed_by_a_sync() {
        let open = |path| File::options().read(true).write(true).open(path).unwrap();
        let disk = |path| FileDisk { file: open(path), synced: open(path) };
        let unsynced = disk("/proc/self/coredump_filter").write_synced(0, b"0x31").unwrap_err();
        assert_eq!(unsynced.kind(), io::ErrorKind::InvalidInput, "{unsynced}");
        assert_eq!(std::fs::read_to_string("/proc/self/coredump_filter").unwrap(), "00000031\n");
        let full = disk("/dev/full").write_synced(0, b"a").unwrap_err();
        assert!(is_full(full.kind()), "{full}");
    }
}
