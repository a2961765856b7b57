//! The topic `agents`: which workers there are, and which agents they serve (PROTOCOL §7).
//!
//! What was told is stored together with the event that told it, and compared with what is at the end of each
//! input. So the topic ends up true whatever came between: a full store, or a crash.

use crate::Core;
use crate::agent::Breaker;
use crate::ids::{Agent, Topic, User, WorkerName};
use crate::record::{Image, Record, RowKey, Table};
use crate::wire::json::Object;
use crate::worker::WorkerKey;
use alloc::collections::BTreeSet;
use alloc::format;
use serde::{Deserialize, Serialize};

/// What there is to say of a worker that has a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Presence {
    sub: User,
    worker: WorkerName,
    /// Whether its connection is gone.
    is_silent: bool,
    agents: BTreeSet<Agent>,
}

impl Core {
    /// Something has become of a worker's session.
    pub(crate) fn stir(&mut self, key: &WorkerKey) {
        self.stirred.insert(key.clone());
    }

    /// Takes in what was told before; whoever was connected then is not now.
    pub(crate) fn recover_presence(&mut self, image: &Image) {
        for (_, row) in image.rows.iter().filter(|(key, _)| key.table == Table::Presence) {
            let told: Presence = serde_json::from_slice(row).expect("a stored row is what was stored");
            let key = WorkerKey { sub: told.sub.clone(), name: told.worker.clone() };
            self.stir(&key);
            self.presence.insert(key, told);
        }
    }

    /// Tells the topic `agents` what has become of workers and of what they serve.
    pub(crate) fn tell_presence(&mut self) {
        if self.stirred.is_empty() {
            return;
        }
        for key in core::mem::take(&mut self.stirred) {
            let (told, now) = (self.presence.get(&key).cloned(), self.present(&key));
            if told == now {
                continue;
            }
            if self.durable.is_full() {
                // What cannot be stored is not told; it is compared again when it can.
                self.stirred.insert(key);
                continue;
            }
            let agents: BTreeSet<Agent> =
                [&told, &now].into_iter().flatten().flat_map(|it| it.agents.clone()).collect();
            self.tell_worker(&key, told.as_ref(), now);
            for agent in agents {
                self.tell_agent(&agent);
            }
        }
    }

    fn present(&self, key: &WorkerKey) -> Option<Presence> {
        let worker = self.workers.get(key)?;
        Some(Presence {
            sub: key.sub.clone(),
            worker: key.name.clone(),
            is_silent: worker.conn.is_none(),
            agents: worker
                .agents()
                .filter(|_| !worker.is_draining())
                .map(|serves| serves.agent.clone())
                .collect(),
        })
    }

    fn tell_worker(&mut self, key: &WorkerKey, told: Option<&Presence>, now: Option<Presence>) {
        let row = RowKey {
            table: Table::Presence,
            owner: "".into(),
            name: format!("{}/{}", key.sub, key.name).into(),
        };
        let event = match &now {
            None => Some("worker_left"),
            Some(now) if now.is_silent => {
                (!told.is_some_and(|told| told.is_silent)).then_some("worker_silent")
            }
            // What it serves may change while it is there: that is told of the agents.
            Some(_) => told.is_none_or(|told| told.is_silent).then_some("worker_joined"),
        };
        if let Some(event) = event {
            let data = Object::new()
                .str("worker", key.name.as_str())
                .str("sub", key.sub.as_str())
                .strings("agents", now.iter().flat_map(|now| &now.agents).map(Agent::as_str));
            self.tell(event, data);
        }
        match now {
            None => {
                self.presence.remove(key);
                self.durable.record(Record::Delete { key: row });
            }
            Some(now) => {
                self.durable.record(Record::Put { key: row, value: crate::record::row(&now) });
                self.presence.insert(key.clone(), now);
            }
        }
    }

    /// Tells whether any worker serves an agent, if that is news.
    fn tell_agent(&mut self, agent: &Agent) {
        let slots = self.slots(agent);
        let is_available = slots > 0;
        if !self.agents.contains_key(agent) || self.agent_mut(agent).is_available == is_available {
            return;
        }
        self.agent_mut(agent).is_available = is_available;
        self.store_agent(agent);
        let data = Object::new().str("agent", agent.as_str()).raw("slots", slots);
        self.tell(if is_available { "agent_available" } else { "agent_unavailable" }, data);
    }

    /// Tells what has become of an agent's breaker, if anything has.
    pub(crate) fn tell_breaker(&mut self, agent: &Agent, before: Breaker, after: Breaker) {
        self.alerts.stir(agent);
        let was_open = !matches!(before, Breaker::Closed { .. });
        let data = Object::new().str("agent", agent.as_str());
        match after {
            Breaker::Open { until } if before != after => {
                let left = until.since(self.now.mono).as_millis();
                self.tell("breaker_opened", data.raw("open_ms", left));
            }
            Breaker::Closed { .. } if was_open => self.tell("breaker_closed", data),
            Breaker::Open { .. } | Breaker::Closed { .. } | Breaker::HalfOpen { .. } => {}
        }
    }

    fn tell(&mut self, event: &str, data: Object) {
        let topic = Topic::parse(crate::topics::AGENTS).expect("it is a name");
        self.write_to_topic(&topic, event, &data.finish());
    }
}
