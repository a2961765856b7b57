//! SIGINT and SIGTERM: nothing more is begun, and whatever waits gives up, so that children and directories
//! go as they do at a round's end. Who cannot wait for that sends a second one.

use super::BenchError;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

/// A signal has come. Signals are the process's, and so is this.
static HAS_COME: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);
/// What a shell tells of a process that SIGINT has ended.
const INTERRUPTED: i32 = 130;
/// How soon who waits looks whether a signal has come.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Lines of a child that wait to be taken.
const LINES: usize = 1_024;

/// From here on signals do not end the process at once, but for the second.
///
/// # Errors
/// When the system does not let them be caught.
pub(super) fn hear() -> io::Result<()> {
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, INTERRUPTED, Arc::clone(&HAS_COME))?;
        flag::register(signal, Arc::clone(&HAS_COME))?;
    }
    Ok(())
}

pub(super) fn is_wanted() -> bool {
    HAS_COME.load(Ordering::Relaxed)
}

/// Goes on, if nobody wants it to stop.
///
/// # Errors
/// [`BenchError::Stopped`].
pub(super) fn check() -> Result<(), BenchError> {
    if is_wanted() { Err(BenchError::Stopped) } else { Ok(()) }
}

/// What a child says, line by line.
#[derive(Debug)]
pub(super) struct Lines(Receiver<String>);

impl Lines {
    /// Reads this pipe to its end.
    pub(super) fn of(pipe: impl Read + Send + 'static) -> Self {
        let (tell, told) = sync_channel(LINES);
        thread::spawn(move || {
            // To its end even if nobody listens, so that a child never waits for its log.
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let _ = tell.send(line);
            }
        });
        Self(told)
    }

    /// The next one, or none when there will be no more, or none was said in time.
    ///
    /// # Errors
    /// [`BenchError::Stopped`] when a signal comes meanwhile.
    pub(super) fn next(&self, until: Option<Instant>) -> Result<Option<String>, BenchError> {
        loop {
            check()?;
            match self.0.recv_timeout(LOOK_EVERY) {
                Ok(line) => return Ok(Some(line)),
                // Whoever has ended may have had the same signal.
                Err(RecvTimeoutError::Disconnected) => return check().map(|()| None),
                Err(RecvTimeoutError::Timeout) if until.is_some_and(|until| Instant::now() >= until) => {
                    return Ok(None);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}
