//! Lines of the log on their way to standard error, written by a thread of their own: whoever reads them, a
//! pipe or a terminal, may stand still and holds up nobody.
//!
//! They wait in memory up to a limit. Beyond it they are dropped and counted, and when there is room again a
//! line says how many they were.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait, in bytes. As many may be with the one who writes.
const WAITING_BYTES: usize = 1 << 20;
/// How long the process stays at its end for whoever has yet to read.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where lines are put. At the end they are [finished](Finish), so that nothing is lost.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Lines that nobody writes yet.
    waiting: Vec<u8>,
    /// Lines for which there was no room, and which were not told of.
    dropped: u64,
    /// Some are being written.
    is_writing: bool,
    /// No more come.
    is_over: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    /// Begins to write what is put here to `below`. `tell` is told how many were dropped, when there is room
    /// again; it may write a line.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(
        below: impl Write + Send + 'static,
        tell: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Self> {
        let lines = Self::default();
        let shared = Arc::clone(&lines.0);
        thread::Builder::new().name("log".into()).spawn(move || serve(&shared, below, tell))?;
        Ok(lines)
    }

    /// No more lines come: waits until all are written, or for a second at most.
    fn finish(&self) {
        let mut state = self.0.state();
        state.is_over = true;
        self.0.changed.notify_all();
        let is_behind = |state: &mut State| state.is_writing || !state.waiting.is_empty();
        let waited = self.0.changed.wait_timeout_while(state, PATIENCE, is_behind);
        // What nobody reads in time is lost, and there is nobody to tell.
        drop(waited);
    }
}

/// Finishes with lines when it is dropped, in a panic too.
#[derive(Debug)]
pub(crate) struct Finish(pub(crate) Lines);

impl Drop for Finish {
    fn drop(&mut self) {
        self.0.finish();
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

impl Write for &Lines {
    /// Takes a whole line, or drops it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.0.state();
        if state.waiting.len() + line.len() > WAITING_BYTES {
            state.dropped += 1;
        } else {
            state.waiting.extend_from_slice(line);
            self.0.changed.notify_all();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes what waits, all of it at once, until no more come.
fn serve(shared: &Shared, mut below: impl Write, tell: impl Fn(u64)) {
    let mut batch = Vec::new();
    loop {
        let is_idle = |state: &mut State| state.waiting.is_empty() && !state.is_over;
        let waited = shared.changed.wait_while(shared.state(), is_idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        if state.waiting.is_empty() {
            return;
        }
        state.is_writing = true;
        std::mem::swap(&mut state.waiting, &mut batch);
        let dropped = std::mem::take(&mut state.dropped);
        drop(state);
        // Where nobody can read there is nobody to tell.
        let _unread = below.write_all(&batch).and_then(|()| below.flush());
        batch.clear();
        batch.shrink_to(WAITING_BYTES / 16);
        if dropped > 0 {
            tell(dropped);
        }
        shared.state().is_writing = false;
        shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// Takes what is written when it is allowed to.
    struct Slow(Receiver<()>, Sender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            self.1.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_wait_up_to_a_limit_and_what_was_dropped_is_told_when_there_is_room() {
        let ((allow, allowed), (wrote, written), (told, dropped)) = (channel(), channel(), channel());
        let tell = move |count| told.send(count).unwrap();
        let lines = Lines::start(Slow(allowed, wrote), tell).unwrap();
        let line = [b'x'; 1024];
        // The first may be with the writer by then, or wait with the others.
        (&lines).write_all(&line).unwrap();
        for _ in 0..2_000 {
            (&lines).write_all(&line).unwrap();
        }
        (0..3).for_each(|_| allow.send(()).unwrap());
        let count = dropped.recv().unwrap();
        lines.finish();
        let kept: usize = written.try_iter().map(|batch| batch.len() / 1024).sum();
        assert_eq!(kept as u64 + count, 2_001);
        assert!((1_024..=2 * 1_024).contains(&kept), "{kept}");
    }

    #[test]
    fn the_end_waits_for_what_is_written_and_not_for_ever() {
        let ((allow, allowed), (wrote, written)) = (channel(), channel());
        let lines = Lines::start(Slow(allowed, wrote), |_| ()).unwrap();
        (&lines).write_all(b"last words\n").unwrap();
        lines.finish();
        assert_eq!(written.try_iter().count(), 0, "nobody has read");
        allow.send(()).unwrap();
        lines.finish();
        assert_eq!(written.try_iter().collect::<Vec<_>>(), [b"last words\n"]);
    }
}
