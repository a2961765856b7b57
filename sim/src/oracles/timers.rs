//! O15, for PROTOCOL §3–§6: what the daemon does because time has gone by it does not before that time:
//! heartbeats, withdrawn offers, time-outs, and the closes for silence, for no `hello`, for taking nothing.
//! That no timer spins is seen by the loop (`daemon.rs`).

use crate::told::Told;
use crate::watch::{Cause, Line};
use runcast_core::config::Config;
use runcast_core::time::{Mono, Span};
use runcast_core::wire::error::CloseCode;
use std::collections::BTreeMap;

/// Turns in a row after which a deadline may still be in the past: each handles all that is due.
pub const SPINS_MAX: u32 = 8;

/// When each run was last offered, and the time for it.
#[derive(Debug, Default)]
pub struct Offers(BTreeMap<String, (Mono, Span)>);

/// Judges a message that is sent because of time.
///
/// # Errors
/// It is too early.
pub fn sent(
    line: &Line,
    now: Mono,
    config: &Config,
    cause: &Cause,
    told: &Told<'_>,
    offers: &mut Offers,
) -> Result<(), String> {
    let (waited, least, what) = match told {
        Told::Heartbeat => (now.since(line.said), config.server.heartbeat, "a heartbeat after"),
        Told::Withdraw(run) if *cause == Cause::Timer => {
            let Some((offered, _)) = offers.0.remove(*run) else { return Ok(()) };
            (now.since(offered), config.runs.start, "an offer is withdrawn after")
        }
        Told::Cancel(run, "timeout") => {
            let Some((offered, time)) = offers.0.get(*run) else { return Ok(()) };
            (now.since(*offered), *time, "a run's time is up after")
        }
        Told::Offer(run, ms) => {
            offers.0.insert((*run).to_owned(), (now, Span(ms.saturating_mul(1_000))));
            return Ok(());
        }
        Told::Welcome
        | Told::Event(..)
        | Told::Topics
        | Told::Refreshed
        | Told::Withdraw(_)
        | Told::Cancel(..)
        | Told::TimeoutSoon(_)
        | Told::Error
        | Told::Other => return Ok(()),
    };
    early(waited, least, what)
}

/// Judges a close that comes because of time.
///
/// # Errors
/// It is too early.
pub fn closed(line: &Line, now: Mono, config: &Config, code: CloseCode) -> Result<(), String> {
    let silence = config.server.heartbeat.ratio(5, 2);
    let (any, text) = (now.since(line.heard.0), now.since(line.heard.1));
    if code == CloseCode::Silent {
        // A worker is dead when it says nothing for its lease, whatever its pongs.
        return early(text, config.runs.lease, "closed as silent after").or(early(
            any,
            silence,
            "closed after",
        ));
    }
    if code == CloseCode::NoHello {
        return early(now.since(line.opened), config.server.hello_timeout, "closed without hello after");
    }
    if code == CloseCode::TakesNothing {
        return early(now.since(line.moved), config.server.stuck_after, "closed as stuck after");
    }
    Ok(())
}

fn early(waited: Span, least: Span, what: &str) -> Result<(), String> {
    if waited >= least {
        return Ok(());
    }
    Err(format!("{what} {} ms, and not {} ms", waited.as_millis(), least.as_millis()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_is_withdrawn_in_time_and_a_run_has_all_of_its_own() {
        let (config, line) = (Config::default(), Line::at(Mono(0)));
        let mut offers = Offers::default();
        let mut at = |ms: u64, cause: Cause, told: &Told<'_>| {
            sent(&line, Mono(ms * 1_000), &config, &cause, told, &mut offers)
        };
        at(0, Cause::Other, &Told::Offer("r", 7_000)).unwrap();
        assert!(at(6_999, Cause::Timer, &Told::Cancel("r", "timeout")).is_err());
        assert!(at(6_999, Cause::Timer, &Told::Cancel("r", "user")).is_ok());
        assert!(at(7_000, Cause::Timer, &Told::Cancel("r", "timeout")).is_ok());
        assert!(at(4_999, Cause::Timer, &Told::Withdraw("r")).is_err());
        assert!(at(9_999, Cause::Timer, &Told::Heartbeat).is_err());
        assert!(at(10_000, Cause::Timer, &Told::Heartbeat).is_ok());
    }

    #[test]
    fn nobody_is_closed_for_silence_or_delay_before_its_time() {
        let (config, line) = (Config::default(), Line::at(Mono(0)));
        let at = |ms: u64, code| closed(&line, Mono(ms * 1_000), &config, code).is_ok();
        assert!(!at(14_999, CloseCode::Silent) && at(15_000, CloseCode::Silent));
        assert!(!at(9_999, CloseCode::NoHello) && at(10_000, CloseCode::NoHello));
        assert!(!at(29_999, CloseCode::TakesNothing) && at(30_000, CloseCode::TakesNothing));
        assert!(at(0, CloseCode::Replaced));
    }
}
