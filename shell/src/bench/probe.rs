//! Somebody who asks the daemon for a sign of life every few milliseconds, while much else happens.

use super::BenchError;
use super::report::Figures;
use crate::auth::{Secret, sign};
use crate::line::{Heard, Line, Lost};
use runcast_core::input::Claims;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Between two pings.
const EVERY: Duration = Duration::from_millis(5);

/// A thread with a connection of its own. It ends when this is dropped or stopped.
#[derive(Debug)]
pub(super) struct Probe {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Result<Duration, Lost>>,
}

impl Probe {
    /// Connects to this daemon, whose secret is in this file, and begins to ask.
    ///
    /// # Errors
    /// When it is not let in.
    pub(super) fn start((at, secret): (SocketAddr, PathBuf)) -> Result<Self, BenchError> {
        let secret = Secret::new(&std::fs::read(secret)?);
        let claims = Claims { sub: "probe".to_owned(), exp: u64::from(u32::MAX), ..Claims::default() };
        let mut line = Line::new()?;
        let lost = |lost: Lost| BenchError::Load(format!("the probe: {lost}"));
        line.open(&format!("ws://{at}").into(), "/ws", &sign(&claims, &secret, None)).map_err(lost)?;
        line.send(r#"{"type":"hello","ack":false}"#.to_owned()).map_err(lost)?;
        line.next(Some(Instant::now() + Duration::from_secs(10))).map_err(lost)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let told = is_over.clone();
        Ok(Self { is_over, thread: thread::spawn(move || ask(&mut line, &told)) })
    }

    /// Ends it: the longest that an answer took.
    ///
    /// # Errors
    /// When its connection was lost.
    pub(super) fn stop(self) -> Result<Figures, BenchError> {
        self.is_over.store(true, Ordering::Relaxed);
        let longest = self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let longest = longest.map_err(|lost| BenchError::Load(format!("the probe: {lost}")))?;
        Ok(vec![("longest pong ms", longest.as_secs_f64() * 1e3)])
    }
}

fn ask(line: &mut Line, is_over: &AtomicBool) -> Result<Duration, Lost> {
    let mut longest = Duration::ZERO;
    while !is_over.load(Ordering::Relaxed) {
        let asked = Instant::now();
        line.send(r#"{"type":"ping"}"#.to_owned())?;
        loop {
            match line.next(Some(asked + Duration::from_secs(60)))? {
                Heard::Text(text) if text.contains("\"pong\"") => break,
                Heard::Text(_) | Heard::Alive | Heard::Rung => {}
                Heard::Late => return Err(Lost::Broken("no pong for a minute".into())),
            }
        }
        longest = longest.max(asked.elapsed());
        thread::sleep(EVERY);
    }
    Ok(longest)
}
