//! Waiting for what tells nobody when it has come about: it can only be asked for.

use crate::PATIENCE;
use std::fmt::Debug;
use std::thread;
use std::time::Instant;

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
                thread::yield_now();
            }
        }
    }
}
