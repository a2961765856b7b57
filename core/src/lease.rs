//! How long a worker keeps its runs without saying anything (PROTOCOL §6 "Lease").

use crate::Core;
use crate::context::RunOf;
use crate::deadlines::Timer;
use crate::effect::Effects;
use crate::planted::Bug;
use crate::sometimes::Sometimes;
use crate::wire::error::CloseCode;
use crate::worker::WorkerKey;
use alloc::vec::Vec;

impl Core {
    /// A worker lives: it keeps its runs for another lease.
    pub(crate) fn renew_lease(&mut self, key: &WorkerKey) {
        let lease = self.config.runs.lease;
        let lease = if self.planted.is(Bug::LeaseTooShort) { lease.ratio(3, 4) } else { lease };
        self.deadlines.set(Timer::Lease(key.clone()), self.now.mono + lease);
    }

    /// The store takes again: workers that it kept from coming back have the time for it.
    pub(crate) fn renew_leases(&mut self) {
        for key in self.workers.keys().cloned().collect::<Vec<_>>() {
            self.renew_lease(&key);
        }
    }

    /// A worker's lease has run out: it is dead, and its runs are lost.
    pub(crate) fn on_lease_over(&mut self, key: &WorkerKey, out: &mut Effects) {
        let Some(worker) = self.workers.get(key) else { return };
        let is_unread = self.is_unread(key);
        if is_unread {
            self.seen.mark(Sometimes::LeaseKeptUnread);
        }
        if is_unread
            || self.stood_still()
            || self.durable.is_full()
            || self.planted.is(Bug::LeaseNeverRunsOut)
        {
            return self.renew_lease(key);
        }
        let runs = worker.runs.clone();
        if let Some(conn) = worker.conn {
            self.close(conn, CloseCode::Silent, "no message within the lease", out);
        }
        for (run, user) in runs {
            let of = RunOf { user, run };
            if self.run_mut(&of).is_some_and(|run| run.worker() == Some(key)) {
                self.lose_unnamed(&of);
            }
        }
        self.forget_worker(key);
    }
}
