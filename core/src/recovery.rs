//! The core as it comes up on what the store knows: contexts, runs, workers' leases, the queue in its old
//! order.

use crate::Core;
use crate::agent::{AgentState, agent_of};
use crate::context::{Context, RunOf};
use crate::deadlines::Timer;
use crate::effect::Effects;
use crate::ids::{RunId, User};
use crate::record::{Image, RowKey, Table};
use crate::run::{Phase, Rows, Run};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use bytes::Bytes;

impl Core {
    /// Takes in all that is alive. Nothing is shown to anyone: there is no connection yet.
    pub(crate) fn recover(&mut self, image: &Image, out: &mut Effects) {
        let (open, now) = (self.config.breaker.open, self.now);
        let agents = image.rows.iter().filter_map(|(key, row)| Some((agent_of(key)?, row)));
        self.agents = agents.map(|(agent, row)| (agent, AgentState::from_row(row, open, now))).collect();
        self.recover_topics(image);
        self.recover_presence(image);
        self.recover_alerts(image);
        let mut by_owner: BTreeMap<&str, Vec<&(RowKey, Bytes)>> = BTreeMap::new();
        for row in image.rows.iter().filter(|(key, _)| !key.owner.is_empty()) {
            by_owner.entry(&row.0.owner).or_default().push(row);
        }
        let mut queued: Vec<(u64, RunOf)> = Vec::new();
        for (owner, rows) in by_owner {
            self.recover_user(owner, &rows, &mut queued);
        }
        queued.sort_by_key(|(ordinal, _)| *ordinal);
        for (_, of) in queued {
            self.enqueue(&of);
        }
        // A breaker may be open still: what waits for it has nobody else to wake it.
        self.on_dispatch_again();
        self.watch_ages();
        self.recover_undelivered(image);
        self.recover_revoked(image);
        self.recover_erasing(image, out);
        self.settle(out);
    }

    fn recover_user(&mut self, owner: &str, rows: &[&(RowKey, Bytes)], queued: &mut Vec<(u64, RunOf)>) {
        let user = User::parse(owner).expect("a stored owner is a user");
        let own: Vec<(RowKey, Bytes)> =
            rows.iter().filter(|(key, _)| key.table.is_context()).map(|row| (*row).clone()).collect();
        let mut context = Context::from_rows(&user, &own).expect("a run's user has a stream");
        let find = |table: Table, name: &str| {
            rows.iter().find(|(key, _)| key.table == table && &*key.name == name).map(|(_, value)| value)
        };
        for (key, spec) in rows.iter().filter(|(key, _)| key.table == Table::RunSpec) {
            let id = RunId::parse(&key.name).expect("a stored run's id is one");
            let state = find(Table::RunState, &key.name).expect("a run's two rows are stored together");
            let is_its = |other: &RowKey| {
                let rest = other.name.strip_prefix(&*key.name);
                other.table == Table::RunCommand && rest.is_some_and(|rest| rest.starts_with('/'))
            };
            let commands = rows.iter().filter(|(key, _)| is_its(key)).map(|(_, row)| row.as_ref()).collect();
            let rows = Rows {
                spec,
                state,
                tools: find(Table::RunTools, &key.name).map(AsRef::as_ref),
                questions: find(Table::RunQuestions, &key.name).map(AsRef::as_ref),
                commands,
            };
            let (run, extent) = Run::from_rows(&rows, self.now);
            context.stream.reach(extent);
            self.last_ordinal = self.last_ordinal.max(run.ordinal);
            if let Some(key) = &run.spec.key {
                context.keys.insert(key.clone(), id.clone());
            }
            self.routes.insert(id.clone(), user.clone());
            context.runs.insert(id, Box::new(run));
        }
        let ids: Vec<RunId> = context.runs.keys().cloned().collect();
        self.users.insert(user.clone(), Box::new(context));
        for run in ids {
            self.recover_run(RunOf { user: user.clone(), run }, queued);
        }
    }

    /// A queued run waits again; a started one is with its worker, whose lease begins anew.
    fn recover_run(&mut self, of: RunOf, queued: &mut Vec<(u64, RunOf)>) {
        let Some(run) = self.run_mut(&of) else { return };
        let (phase, thread, ordinal) = (run.phase.clone(), run.spec.thread.clone(), run.ordinal);
        let agent = run.spec.agent.clone();
        let (is_waiting, is_running) = (run.is_waiting(), matches!(phase, Phase::Running(_)));
        let worker = match phase {
            Phase::Queued { .. } => return queued.push((ordinal, of)),
            Phase::Running(worker) => worker,
            Phase::Cancelling(worker, _) => {
                let by = self.now.mono + self.config.runs.cancel_grace;
                self.deadlines.set(Timer::Grace(of.run.clone()), by);
                worker
            }
            Phase::Offered(_) | Phase::Starting(_) | Phase::Ended | Phase::Gone => {
                unreachable!("only what is durable is stored")
            }
        };
        let context = self.users.get_mut(&of.user).expect("it was just made");
        assert!(context.busy.insert(thread, of.run.clone()).is_none(), "a thread's runs go one at a time");
        self.recall_worker(&worker, &of, &agent);
        if is_waiting {
            let context = self.users.get_mut(&of.user).expect("it was just made");
            context.paused += 1;
            return self.watch_questions(&of);
        }
        self.count(&of);
        if is_running {
            self.watch_time(&of);
        } else {
            self.watch_working(&of);
        }
    }
}
