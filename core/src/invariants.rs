//! What must be true after every input. Cheap enough to stay on in release builds; the whole walk is for the
//! simulator and the fuzzers.

use crate::Core;
use crate::commands::COMMANDS_MAX;
use crate::conn::Role;
use crate::questions::OPEN_MAX;
use crate::run::Phase;

impl Core {
    /// Checked after every input.
    pub(crate) fn assert_cheap(&self) {
        assert!(self.users.len() >= self.queue.turns.len(), "whoever waits is in memory");
    }

    /// Walks everything: counts agree with what they count, and bounds hold.
    ///
    /// # Panics
    /// If anything does not.
    pub fn assert_invariants(&self) {
        let waiting: usize = self.users.values().map(|context| context.waiting.len()).sum();
        assert_eq!(waiting, self.queue.waiting, "queued runs are counted");
        let runs = self.users.values().flat_map(|context| context.runs.values());
        let promised = runs.filter(|run| run.is_promised);
        assert_eq!(promised.clone().count(), self.queue.promised, "promised slots are counted");
        let of_agents: usize = self.agents.values().map(|agent| agent.promised).sum();
        assert_eq!(of_agents, self.queue.promised, "promised slots are counted by agent");
        for run in promised {
            assert_eq!(run.phase, Phase::Queued { is_durable: false }, "a slot is promised until then");
        }
        let active: usize = self.users.values().map(|context| context.active()).sum();
        assert_eq!(active, self.queue.active, "active runs are counted");
        let of_agents: usize = self.agents.values().map(|agent| agent.active).sum();
        assert_eq!(of_agents, active, "each agent's active runs are counted");
        for worker in self.workers.values() {
            assert_eq!(worker.counted(), worker.runs.len(), "a worker's runs are counted");
        }
        for (user, context) in self.users.iter() {
            let is_in_turn = self.queue.turns.contains(user);
            assert_eq!(is_in_turn, !context.waiting.is_empty(), "whoever waits has a turn: {user:?}");
            assert!(context.stream.head() <= context.stream.last(), "durable is written");
            // Devices that are connected are kept beyond the limit, and forgotten when the next one comes.
            let devices = self.config.store.devices_per_user + self.config.server.connections_per_user;
            assert!(context.devices.len() <= devices, "devices are bounded");
            assert!(context.unstored.len() <= context.devices.len(), "what is to be stored is a device's");
            assert!(context.keys.len() <= context.runs.len(), "a run has one key at most");
            let held = context.runs.values().filter(|run| run.worker().is_some()).count();
            assert_eq!(context.busy.len(), held, "a thread is busy while its run is at a worker");
            assert!(context.conns.keys().all(|id| self.conns.contains_key(id)), "connections are there");
            for (id, run) in &context.runs {
                let events = self.config.store.events_per_run;
                assert!(run.questions.is_bounded(events), "questions are bounded: {id:?}");
                // Two cancels always go, one from its user and one for its time, and so does that a question
                // has expired.
                let commands = COMMANDS_MAX + OPEN_MAX + 2;
                assert!(run.commands.open() <= commands, "commands are bounded: {id:?}");
                assert!(run.tools.used.len() as u64 <= events, "tools are bounded: {id:?}");
                assert_eq!(self.routes.get(id), Some(user), "a run has a route");
                if let Some(worker) = run.worker() {
                    let session = self.workers.get(worker).expect("a run's worker has a session");
                    assert_eq!(session.runs.get(id), Some(user), "a worker knows its runs");
                }
                assert_eq!(context.waiting.contains(id), run.is_queued(), "a queued run waits: {id:?}");
            }
        }
        for (topic, state) in &self.topics {
            assert!(state.stream.head() <= state.stream.last(), "durable is written");
            for id in &state.readers {
                let is_its = matches!(&self.conns[id].role, Role::User(me) if me.topics.contains_key(topic));
                assert!(is_its, "whoever reads {topic:?} knows that");
            }
        }
        for conn in self.conns.values() {
            let (messages, _) = conn.inbox();
            assert!(messages <= 2 * 64, "an inbox is bounded");
            if let Role::User(me) = &conn.role {
                for cursor in me.topics.values().chain([&me.cursor]) {
                    let (events, _) = cursor.unacked();
                    assert!(events <= cursor.window(), "a window holds");
                    assert!(cursor.is_counted(), "bytes of a window are counted");
                }
                for topic in me.topics.keys() {
                    let is_read = self.topics[topic].readers.contains(&conn.id);
                    assert!(is_read, "a topic knows who reads it: {topic:?}");
                }
            }
        }
    }
}
