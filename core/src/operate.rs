//! What an operator sees (PROTOCOL §7): workers, agents, and how much there is of everything.

use crate::Core;
use crate::agent::Breaker;
use crate::counts::Durations;
use crate::effect::{Content, Effects};
use crate::ids::{Agent, ConnId};
use crate::overview::Wanted;
use crate::time::Span;
use crate::wire::json::Object;
use crate::worker::{Worker, WorkerKey};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

impl Core {
    /// `GET /v1/workers`.
    pub(crate) fn respond_workers(&mut self, id: ConnId, out: &mut Effects) {
        let workers = self.workers.iter().map(|(key, worker)| self.describe_worker(key, worker));
        let list = Object::new().list("workers", workers).list("agents", self.describe_agents());
        self.respond(id, 200, Content::Json(list.finish()), out);
    }

    /// `GET /v1/status`, with lists if they are wanted.
    pub(crate) fn respond_status(&mut self, id: ConnId, wanted: Option<&Wanted>, out: &mut Effects) {
        let at_workers: usize = self.workers.values().map(|worker| worker.runs.len()).sum();
        let runs = Object::new()
            .raw("queued", self.queue.waiting)
            .raw("active", self.queue.active)
            .raw("at_workers", at_workers);
        let limits = Object::new()
            .raw("connections", self.config.server.connections)
            .raw("queued", self.config.runs.queued)
            .raw("active", self.config.runs.active);
        let status = Object::new()
            .str("version", env!("CARGO_PKG_VERSION"))
            .raw("ts", self.now.wall.0)
            .str("store", if self.durable.is_full() { "full" } else { "ok" })
            .raw("draining", self.is_draining())
            .raw("connections", self.conns.len())
            .raw("users", self.users.len())
            .raw("workers", self.workers.len())
            .raw("runs", runs.finish())
            .raw("undelivered", self.undelivered.listed())
            .raw("limits", limits.finish())
            .raw("delivery", self.describe_delivery().finish())
            .raw("totals", self.describe_totals().finish())
            .list("alerts", self.alerts.iter().map(|alert| self.describe_alert(alert)))
            .list("agents", self.describe_agents())
            .maybe_raw("lists", wanted.map(|wanted| self.describe_lists(wanted).finish()));
        self.respond(id, 200, Content::Json(status.finish()), out);
    }

    /// How far events are with reaching users, over all connections that there are.
    fn describe_delivery(&self) -> Object {
        let gauges = self.inspect().gauges();
        let by = |words: &[(&'static str, u64)]| {
            words.iter().fold(Object::new(), |object, (word, count)| object.raw(word, count)).finish()
        };
        Object::new()
            .raw("behind", gauges.behind)
            .raw("lagging", gauges.lagging)
            .raw("output_bytes", gauges.output_bytes)
            .raw("connections", by(&gauges.connections))
    }

    /// What has happened since the start.
    fn describe_totals(&self) -> Object {
        let counts = &self.counts;
        let ended = counts.ended.iter().fold(Object::new(), |object, (word, count)| object.raw(word, count));
        let durations = |all: &Durations| {
            let count: u64 = all.buckets.iter().sum();
            Object::new().raw("count", count).raw("sum_ms", Span(all.sum).as_millis()).finish()
        };
        Object::new()
            .raw("accepted", counts.accepted)
            .raw("started", counts.started)
            .raw("retried", counts.retried)
            .raw("ended", ended.finish())
            .raw("undelivered", counts.undelivered)
            .raw("sent", counts.sent)
            .raw("resent", counts.resent)
            .raw("acknowledged", durations(&counts.acknowledged))
            .raw("queued", durations(&counts.queued))
            .raw("ran", durations(&counts.ran))
    }

    pub(crate) fn describe_worker(&self, key: &WorkerKey, worker: &Worker) -> Object {
        let run = |(run, user): (&crate::ids::RunId, &crate::ids::User)| {
            let state = self.users.get(user).and_then(|context| context.runs.get(run));
            Object::new()
                .str("run", run.as_str())
                .str("user", user.as_str())
                .maybe_str("agent", state.map(|run| run.spec.agent.as_str()))
                .maybe_str("state", state.map(|run| run.state()))
        };
        let conn = worker.conn.and_then(|id| self.conns.get(&id));
        let idle = conn.map(|conn| self.now.mono.since(conn.last_in));
        let serves = worker.agents().map(|serves| {
            let agent = Object::new().str("agent", serves.agent.as_str());
            agent.raw("slots", serves.slots).raw("retryable", serves.retryable)
        });
        Object::new()
            .str("worker", key.name.as_str())
            .str("sub", key.sub.as_str())
            .str("state", worker.state())
            .maybe_raw("idle_ms", idle.map(Span::as_millis))
            .list("agents", serves)
            .list("runs", worker.runs.iter().map(run))
    }

    /// All agents that are configured or were ever served.
    fn describe_agents(&self) -> Vec<Object> {
        let known: BTreeSet<&Agent> = self.agents.keys().chain(self.config.agents.keys()).collect();
        let describe = |agent: &Agent| {
            let state = self.agents.get(agent);
            let breaker = state.map_or(Breaker::default(), |state| state.breaker(self.now.mono));
            Object::new()
                .str("agent", agent.as_str())
                .str("breaker", breaker.as_str())
                .maybe_raw("open_ms", self.circuit_open(agent).map(Span::as_millis))
                .raw("active", state.map_or(0, |state| state.active))
                .raw("slots", self.slots(agent))
                .raw("free", self.free_slots(agent))
        };
        known.into_iter().map(describe).collect()
    }
}
