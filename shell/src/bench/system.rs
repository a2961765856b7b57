//! What the system tells of a process, and what it allows this one.

use super::BenchError;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;
use std::path::Path;

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    /// Processor time of all its threads, user and system, in microseconds.
    pub(super) cpu: u64,
    /// Resident memory, in bytes.
    pub(super) resident: u64,
}

/// Reads what the process `pid` has used. Processor time comes in nanoseconds where the kernel tells those of
/// each thread, otherwise in steps of its clock (10 ms).
///
/// # Errors
/// When the process is gone, or this system has no `/proc`.
pub(super) fn usage(pid: u32) -> Result<Usage, BenchError> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).map_err(|error| BenchError::Proc(path.clone(), error))?;
    let usage = read_stat(&stat).ok_or(BenchError::Stat(path))?;
    // The steps leave out what was begun since the last, the threads those that have ended: neither tells too
    // much.
    let threads = threads_cpu(Path::new(&format!("/proc/{pid}/task"))).unwrap_or(0);
    Ok(Usage { cpu: usage.cpu.max(threads), ..usage })
}

/// What all threads in this directory have used, in microseconds; none where the kernel does not tell it.
fn threads_cpu(tasks: &Path) -> Option<u64> {
    let mut nanos = 0;
    for task in fs::read_dir(tasks).ok()? {
        let schedstat = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        nanos += schedstat.split(' ').next()?.parse::<u64>().ok()?;
    }
    Some(nanos / 1_000)
}

/// The fields of proc(5): 14 and 15 are ticks of processor time, 24 pages of resident memory. The second is
/// the program's name in brackets, which may hold anything.
fn read_stat(stat: &str) -> Option<Usage> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let ticks = field(14)? + field(15)?;
    let cpu = ticks.saturating_mul(1_000_000) / rustix::param::clock_ticks_per_second();
    Some(Usage { cpu, resident: field(24)? * rustix::param::page_size() as u64 })
}

/// Lets this process, and those it starts, open as many files as the system allows, which must be enough.
///
/// # Errors
/// [`BenchError::Files`] when the hard limit is below `wanted`.
pub(super) fn open_files(wanted: usize) -> Result<(), BenchError> {
    let limit = getrlimit(Resource::Nofile);
    let (soft, hard) = (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
    let wanted = wanted as u64;
    if hard < wanted {
        return Err(BenchError::Files { wanted, hard });
    }
    if soft < wanted {
        let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
        setrlimit(Resource::Nofile, raised).map_err(|_| BenchError::Files { wanted, hard: soft })?;
    }
    Ok(())
}

/// Whether files in this directory lie in memory: then nothing that is measured there tells of a disk.
pub(super) fn is_in_memory(directory: &Path) -> bool {
    const TMPFS: i128 = 0x0102_1994;
    rustix::fs::statfs(directory).is_ok_and(|it| i128::from(it.f_type) == TMPFS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_have_any_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 0 5 0 0 0 120 30 0 0 20 0 2 0 9 4096 3 18446744073709551615";
        let usage = read_stat(stat).unwrap();
        assert_eq!(usage.cpu, 150 * 1_000_000 / rustix::param::clock_ticks_per_second());
        assert_eq!(usage.resident, 3 * rustix::param::page_size() as u64);
        assert!(read_stat("7 (a) S 1").is_none());
    }

    #[test]
    fn the_time_of_all_threads_is_summed_where_it_is_told() {
        let tasks = tempfile::tempdir().unwrap();
        for (thread, schedstat) in [("7", "2500000 31 4\n"), ("8", "500999 0 1\n")] {
            fs::create_dir(tasks.path().join(thread)).unwrap();
            fs::write(tasks.path().join(thread).join("schedstat"), schedstat).unwrap();
        }
        assert_eq!(threads_cpu(tasks.path()), Some(3_000));
        fs::create_dir(tasks.path().join("9")).unwrap();
        assert_eq!(threads_cpu(tasks.path()), None);
    }

    #[test]
    fn this_process_has_used_something() {
        assert!(usage(std::process::id()).unwrap().resident > 0);
        assert!(
            matches!(open_files(usize::MAX), Err(BenchError::Files { .. })) || cfg!(not(target_os = "linux"))
        );
    }
}
