//! Values that are good each by itself and wrong together.

use super::problem::{Origin, Problem, Problems};
use super::table::{self, SETTINGS};
use super::{Settings, units};

/// Pairs of which the first must be at most the second, and why.
const AT_MOST: &[(&str, &str, &str)] = &[
    ("server.connections_per_user", "server.connections", "one user cannot have more than all together"),
    (
        "server.connections_per_address",
        "server.connections",
        "one address cannot have more than all together",
    ),
    ("server.message", "server.worker_message", "what a user asks must fit into an event"),
    ("server.worker_message", "store.bytes_per_user", "an event must fit into its user's stream"),
    ("store.events_per_run", "store.events_per_user", "a run must fit into its user's stream"),
    ("delivery.window", "store.events_per_user", "what waits for acknowledgement would be trimmed"),
    ("delivery.undelivered_after", "store.keep", "what ended would be forgotten before it is listed"),
    ("delivery.window", "store.events_per_topic", "what waits for acknowledgement would be trimmed"),
    ("delivery.first_notice", "delivery.backlog_every", "the first notice cannot come after the second"),
    ("runs.active_per_user", "runs.active", "one user cannot have more than all together"),
    ("runs.queued_per_user", "runs.queued", "one user cannot have more than all together"),
    ("runs.timeout", "runs.timeout_max", "the default cannot be over the maximum"),
];

/// All contradictions.
pub(crate) fn find(settings: &Settings) -> Problems {
    let mut found: Vec<Problem> = AT_MOST.iter().filter_map(|rule| over(settings, *rule)).collect();
    found.extend(agents_over_maximum(settings));
    if settings.dev && !settings.listen.ip().is_loopback() {
        found.push(Problem::new(
            settings.origin("server.listen").clone(),
            format!("server.listen: with --dev expected a loopback address, found {}", settings.listen),
            "listen on 127.0.0.1, or leave out --dev and configure keys",
        ));
    }
    Problems(found)
}

fn over(settings: &Settings, (small, large, why): (&str, &str, &str)) -> Option<Problem> {
    let (a, b) = (table::find(SETTINGS, small).ok()?, table::find(SETTINGS, large).ok()?);
    if a.amount(settings)? <= b.amount(settings)? {
        return None;
    }
    let [a, b] = [a, b].map(|key| key.show(settings).unwrap_or_default().replace('"', ""));
    let reason = format!("{small} ({a}) is over {large} ({b}): {why}");
    Some(Problem::new(
        set_by_someone(settings, small, large),
        reason,
        format!("lower {small} or raise {large}"),
    ))
}

fn agents_over_maximum(settings: &Settings) -> impl Iterator<Item = Problem> {
    let most = settings.core.runs.timeout_max;
    settings.core.agents.iter().filter_map(move |(name, agent)| {
        let timeout = agent.timeout.filter(|timeout| *timeout > most)?;
        let [timeout, most] = [timeout, most].map(units::show_duration);
        let key = format!("agents.{name}.timeout");
        let reason = format!("{key} ({timeout}) is over runs.timeout_max ({most})");
        Some(Problem::new(settings.origin(&key).clone(), reason, "lower it or raise runs.timeout_max"))
    })
}

/// Where to look: at the first of the two that is not a default.
fn set_by_someone(settings: &Settings, first: &str, second: &str) -> Origin {
    match settings.origin(first) {
        Origin::Default => settings.origin(second).clone(),
        set @ (Origin::File(..) | Origin::Environment(_) | Origin::Flag(_)) => set.clone(),
    }
}
