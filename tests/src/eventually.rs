//! Waiting for what tells nobody when it has come about: it can only be asked for.

use crate::PATIENCE;
use std::fmt::Debug;
use std::thread;
use std::time::{Duration, Instant};

/// Between two questions: nothing depends on it, but that whoever is asked gets something else done, too.
const PAUSE: Duration = Duration::from_millis(5);

/// Asks again and again until there is an answer, and returns it. Else it is told what there was instead.
///
/// # Panics
/// When there is no answer in time ([`PATIENCE`]).
#[track_caller]
pub fn eventually<Answer, Instead: Debug>(
    wanted: &str,
    mut ask: impl FnMut() -> Result<Answer, Instead>,
) -> Answer {
    let began = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(instead) => {
                assert!(began.elapsed() < PATIENCE, "expected {wanted} in time, found {instead:?}");
                thread::sleep(PAUSE);
            }
        }
    }
}
