//! The part of the daemon's configuration that plans vary, as a file keeps it.

use runcast_core::config::{AgentConfig, Config, Readers, Store, TopicConfig};
use runcast_core::ids::{Agent, Topic};
use runcast_core::time::Span;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What differs from world to world. Times in milliseconds.
#[derive(Serialize, Deserialize)]
struct Settings {
    active: usize,
    active_per_user: usize,
    queued: usize,
    queued_per_user: usize,
    events_per_user: u64,
    output: usize,
    lease: u64,
    start: u64,
    agents: Vec<String>,
    #[serde(default)]
    odd: u32,
    #[serde(default)]
    drain: Option<u64>,
    #[serde(default)]
    keep: Option<(u64, usize, u64)>,
    #[serde(default)]
    webhook: Option<(String, u64)>,
    #[serde(default)]
    attempts: Option<u64>,
    #[serde(default = "events_per_topic")]
    events_per_topic: u64,
}

/// What a file says that was written before there were topics.
fn events_per_topic() -> u64 {
    Store::default().events_per_topic
}

/// The topics of every world, besides those that are always there.
pub fn with_topics(mut config: Config) -> Config {
    for (name, read) in [("news", Readers::User), ("ops", Readers::Operate)] {
        let topic = Topic::parse(name).expect("it is a name");
        config.topics.insert(topic, TopicConfig { read: Some(read), events: None });
    }
    config
}

/// Writes what plans vary.
///
/// # Errors
/// The serializer's.
pub fn serialize<S: Serializer>(config: &Config, to: S) -> Result<S::Ok, S::Error> {
    let after = config.delivery.undelivered_after.as_millis();
    Settings {
        active: config.runs.active,
        active_per_user: config.runs.active_per_user,
        queued: config.runs.queued,
        queued_per_user: config.runs.queued_per_user,
        events_per_user: config.store.events_per_user,
        output: config.server.output,
        lease: config.runs.lease.as_millis(),
        start: config.runs.start.as_millis(),
        agents: config.agents.keys().map(|agent| agent.as_str().to_owned()).collect(),
        odd: config.odd,
        drain: Some(config.server.drain.as_millis()),
        attempts: Some(config.limits.unauthenticated_per_address_per_minute),
        webhook: config.delivery.webhook.clone().map(|url| (url, after)),
        keep: Some((
            config.store.keep.as_millis(),
            config.store.runs_per_user,
            config.runs.key_keep.as_millis(),
        )),
        events_per_topic: config.store.events_per_topic,
    }
    .serialize(to)
}

/// Reads it back; the rest is the default.
///
/// # Errors
/// The deserializer's.
pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Config, D::Error> {
    let settings = Settings::deserialize(from)?;
    let mut config = with_topics(Config::default());
    config.runs.active = settings.active;
    config.runs.active_per_user = settings.active_per_user;
    config.runs.queued = settings.queued;
    config.runs.queued_per_user = settings.queued_per_user;
    config.store.events_per_user = settings.events_per_user;
    config.server.output = settings.output;
    config.runs.lease = Span::millis(settings.lease);
    config.runs.start = Span::millis(settings.start);
    config.odd = settings.odd;
    if let Some(drain) = settings.drain {
        config.server.drain = Span::millis(drain);
    }
    if let Some(attempts) = settings.attempts {
        config.limits.unauthenticated_per_address_per_minute = attempts;
    }
    if let Some((url, after)) = settings.webhook {
        config.delivery.webhook = Some(url);
        config.delivery.undelivered_after = Span::millis(after);
    }
    if let Some((keep, runs_per_user, key_keep)) = settings.keep {
        config.store.keep = Span::millis(keep);
        config.store.runs_per_user = runs_per_user;
        config.runs.key_keep = Span::millis(key_keep);
    }
    config.store.events_per_topic = settings.events_per_topic;
    let agents = settings.agents.iter().filter_map(|agent| Agent::parse(agent));
    config.agents = agents.map(|agent| (agent, AgentConfig::default())).collect();
    Ok(config)
}

#[cfg(test)]
mod tests {
    use crate::plan::Plan;

    #[test]
    fn a_plan_is_the_same_when_it_comes_back_from_a_file() {
        for seed in 0..50 {
            let plan = Plan::draw(seed);
            let text = serde_json::to_string(&plan).unwrap();
            let back: Plan = serde_json::from_str(&text).unwrap();
            assert_eq!(format!("{plan:?}"), format!("{back:?}"), "seed {seed}");
        }
    }
}
