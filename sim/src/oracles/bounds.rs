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
/// Agents that are known because they were served; those that are configured come on top.
const AGENTS: usize = 1_000;
/// Topics that are always there.
const TOPICS_OWN: usize = 3;
/// Alerts of the daemon as a whole; each agent may have one.
const ALERTS: usize = 6;
/// Ends of runs, and searches, that are remembered for operators.
const REMEMBERED: usize = 200 + 64;
/// Bytes of one event besides the message that brought it.
const ENVELOPE: usize = 4096;

/// Judges the core's tables after a step; `tells_nothing` is whether the topic `agents` may lag behind.
///
/// # Errors
/// Which table is over its limit.
pub fn judge(sizes: &Sizes, config: &Config, tells_nothing: bool) -> Result<(), String> {
    let Sizes { connections, routes, workers, held, queued, loads, .. } = *sizes;
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
        ("runs that workers have", held, SLOTS),
        ("workers", workers, connections + held),
        ("agents", sizes.agents, AGENTS + config.agents.len()),
        ("topics", sizes.topics, TOPICS_OWN + config.topics.len()),
        ("alerts", sizes.alerts, ALERTS + sizes.agents),
        ("connections that wait for a user", sizes.waiting, connections),
        ("users whose tokens are revoked", sizes.revoked, config.limits.revoked),
        ("connections that wait for memory", sizes.shed, connections),
        ("ends and searches", sizes.remembered, REMEMBERED),
        ("things left by an input", sizes.gathered, 0),
    ];
    // What waits for the store keeps in memory what it is about, and is bounded by the appends.
    let users = connections + routes + sizes.moved + loads + sizes.erasing;
    let is_still = sizes.appends == 0;
    let at_rest = [
        ("users", sizes.users, users, is_still),
        ("routes", routes, queued + held, is_still && loads == 0),
        ("workers that have left something behind", sizes.left_behind, 0, is_still),
        ("things to show", sizes.reveals, 0, is_still),
        ("workers that were told of", sizes.presence, workers, !tells_nothing),
    ];
    let at_rest = at_rest.into_iter().filter(|(.., is_so)| *is_so);
    let at_rest = at_rest.map(|(what, found, limit, _)| (what, found, limit));
    match checks.into_iter().chain(at_rest).find(|(_, found, limit)| found > limit) {
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
    // Quotas are forgotten when others are used; the others are what operators are told and have said, and
    // what the daemon has learnt of agents and topics.
    let Sizes { undelivered, quotas, agents, topics, alerts, revoked, remembered, .. } = *sizes;
    let timers = sizes.timers.min(TIMERS.3);
    let known = Sizes { agents, topics, alerts, revoked, remembered, ..Sizes::default() };
    let nothing = Sizes { timers, undelivered, quotas, ..known };
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
        let fine = Sizes { connections: 3, routes: 12, queued: 2, active: 10, held: 10, ..Sizes::default() };
        let fine = Sizes { timers: 80, workers: 2, presence: 2, users: 15, ..fine };
        let is_fine = |sizes| judge(&sizes, &config, false).is_ok();
        assert!(is_fine(fine));
        assert!(!is_fine(Sizes { connections: 20_001, ..fine }));
        assert!(!is_fine(Sizes { timers: 200, ..fine }));
        assert!(!is_fine(Sizes { resting: 22, ..fine }));
        assert!(!is_fine(Sizes { appends: 10_000, ..fine }));
        assert!(!is_fine(Sizes { waiting: 4, ..fine }));
        assert!(!is_fine(Sizes { gathered: 1, ..fine }));
        let many = Sizes { presence: 3, ..fine };
        assert!(!is_fine(many) && judge(&many, &config, true).is_ok(), "a full store is told nothing");
        assert!(output(2 << 20, &config).is_err());
    }

    #[test]
    fn what_nothing_keeps_in_memory_is_gone_when_all_is_durable() {
        let config = Config::default();
        let kept = [
            Sizes { users: 1, ..Sizes::default() },
            Sizes { routes: 1, ..Sizes::default() },
            Sizes { left_behind: 1, ..Sizes::default() },
            Sizes { reveals: 1, ..Sizes::default() },
        ];
        for sizes in kept {
            assert!(judge(&sizes, &config, false).is_err(), "{sizes:?}");
            assert!(judge(&Sizes { appends: 1, ..sizes }, &config, false).is_ok(), "{sizes:?}");
        }
    }

    #[test]
    fn what_is_left_when_all_have_gone_is_a_leak() {
        assert!(base(&Sizes { timers: 2, ..Sizes::default() }).is_ok());
        assert!(base(&Sizes { users: 1, ..Sizes::default() }).is_err());
        assert!(base(&Sizes { timers: 9, ..Sizes::default() }).is_err());
        assert!(base(&Sizes { resting: 1, ..Sizes::default() }).is_err());
    }
}
