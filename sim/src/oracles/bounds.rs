//! O13, for PROTOCOL §2.8 "Bounded": every table of the core stays within what the configuration allows, at
//! each step; what waits for the network stays under its cap; and once all is over and everybody has gone,
//! nothing is left in memory.

use super::topics::TOPICS;
use runcast_core::Sizes;
use runcast_core::config::Config;

/// Timers of one connection, one run, one worker, and the daemon's own.
const TIMERS: (usize, usize, usize, usize) = (8, 8, 1, 7);
/// Places that a connection's timers may keep: of its output, and of the acknowledgements of each stream.
const RESTING: usize = 2 + TOPICS.len();
/// Runs that workers have, at most: any of them may go back to the queue.
const SLOTS: usize = 256;
/// Messages of one worker that may be unacknowledged.
const PUBLISH_WINDOW: usize = 256;
/// Addresses, or those who make requests, of which something is known.
const QUOTAS: usize = 65_536;
/// Bytes of one event besides the message that brought it.
const ENVELOPE: usize = 4096;

/// Judges the core's tables after a step.
///
/// # Errors
/// Which table is over its limit.
pub fn judge(sizes: &Sizes, config: &Config) -> Result<(), String> {
    let Sizes { connections, routes, workers, .. } = *sizes;
    let timers = TIMERS.0 * connections + TIMERS.1 * routes + TIMERS.2 * workers + TIMERS.3;
    // Of a worker that is known, what earlier connections left behind is within its window.
    let appends = PUBLISH_WINDOW * (workers + 1 + sizes.left_behind) + 8 * routes + 8 * connections + 64;
    let checks = [
        ("connections", connections, config.server.connections),
        ("addresses", sizes.addresses, connections),
        ("queued runs", sizes.queued, config.runs.queued + SLOTS),
        ("active runs", sizes.active, SLOTS),
        ("users in the queue", sizes.turns, sizes.queued),
        ("users that are being loaded", sizes.loading, sizes.loads),
        ("timers", sizes.timers, timers),
        ("places of timers", sizes.resting, RESTING * connections),
        ("quotas", sizes.quotas, 2 * QUOTAS),
        ("undelivered runs", sizes.undelivered, config.delivery.undelivered),
        ("appends", sizes.appends, appends),
    ];
    match checks.into_iter().find(|(_, found, limit)| found > limit) {
        Some((what, found, limit)) => Err(format!("{found} {what}, at most {limit} are expected: {sizes:?}")),
        None => Ok(()),
    }
}

/// Judges the most that waits for the network on one connection, in bytes.
///
/// # Errors
/// It is too much.
pub fn output(bytes: usize, config: &Config) -> Result<(), String> {
    // A message may be longer than the cap when nothing is before it; frames have heads.
    let most = config.server.output * 3 / 2 + config.server.worker_message + ENVELOPE;
    if bytes <= most {
        return Ok(());
    }
    Err(format!("{bytes} bytes wait for one connection, at most {most} are expected"))
}

/// Judges what is left when nothing runs, nobody is connected and every lease is over.
///
/// # Errors
/// What is left.
pub fn base(sizes: &Sizes) -> Result<(), String> {
    // Quotas are forgotten when others are used.
    let (timers, undelivered, quotas) = (sizes.timers.min(TIMERS.3), sizes.undelivered, sizes.quotas);
    let nothing = Sizes { timers, undelivered, quotas, ..Sizes::default() };
    if *sizes == nothing {
        return Ok(());
    }
    Err(format!("everybody has gone, and there is still {sizes:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_over_its_limit_is_seen() {
        let config = Config::default();
        let fine =
            Sizes { connections: 3, routes: 12, queued: 2, active: 10, timers: 80, ..Sizes::default() };
        assert!(judge(&fine, &config).is_ok());
        assert!(judge(&Sizes { connections: 20_001, ..fine }, &config).is_err());
        assert!(judge(&Sizes { timers: 200, ..fine }, &config).is_err());
        assert!(judge(&Sizes { resting: 22, ..fine }, &config).is_err());
        assert!(judge(&Sizes { appends: 10_000, ..fine }, &config).is_err());
        assert!(output(2 << 20, &config).is_err());
    }

    #[test]
    fn what_is_left_when_all_have_gone_is_a_leak() {
        assert!(base(&Sizes { timers: 2, ..Sizes::default() }).is_ok());
        assert!(base(&Sizes { users: 1, ..Sizes::default() }).is_err());
        assert!(base(&Sizes { timers: 9, ..Sizes::default() }).is_err());
        assert!(base(&Sizes { resting: 1, ..Sizes::default() }).is_err());
    }
}
