//! How much of what a worker says may wait for the disk (PROTOCOL §6 "Flow"): past its window it is not read.
//! What an earlier connection of it has left behind counts too, or a worker that comes and goes while the
//! disk is slow could fill the memory.

use crate::Core;
use crate::conn::{Role, WorkerConn};
use crate::effect::Effects;
use crate::ids::ConnId;
use crate::sometimes::Sometimes;
use crate::worker::{PUBLISH_WINDOW, WorkerKey};
use alloc::collections::BTreeMap;

/// Messages of a worker whose connection is gone.
#[derive(Debug)]
pub(crate) struct LeftBehind {
    key: WorkerKey,
    /// How many are not durable yet.
    messages: usize,
}

impl Core {
    /// A worker has said something that waits for the disk from now on.
    pub(crate) fn on_message_waits(&mut self, id: ConnId) {
        if let Some(me) = self.worker_conn(id) {
            me.unacked += 1;
        }
    }

    /// A worker's connection is gone for good.
    pub(crate) fn leave_behind(&mut self, id: ConnId, gone: WorkerConn) {
        if gone.unacked > 0 {
            self.left_behind.insert(id, LeftBehind { key: gone.key, messages: gone.unacked });
        }
    }

    /// A message is durable.
    pub(crate) fn on_message_durable(&mut self, id: ConnId, out: &mut Effects) {
        if let Some(me) = self.worker_conn(id) {
            me.unacked -= 1;
            return;
        }
        let left =
            self.left_behind.get_mut(&id).expect("what waits is counted on its connection, or after it");
        left.messages -= 1;
        if left.messages > 0 {
            return;
        }
        let key = self.left_behind.remove(&id).map(|left| left.key);
        if let Some(now) = key.and_then(|key| self.workers.get(&key)?.conn) {
            self.pace(now, out);
        }
    }

    /// Reads a connection while there is room for what it says.
    pub(crate) fn pace(&mut self, id: ConnId, out: &mut Effects) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let is_over = match &conn.role {
            Role::Worker(me) => is_window_full(me, &self.left_behind),
            Role::Http | Role::Request(_) | Role::Greeting(_) | Role::User(_) => false,
        };
        let was_read = conn.is_read();
        conn.pace(is_over, out);
        // A worker that is read again may be offered runs.
        self.queue.has_changed |= !was_read && conn.is_read();
        if is_over && was_read {
            self.seen.mark(Sometimes::WorkerNotRead);
        }
    }

    /// Whether a worker is connected and not read: it cannot be heard.
    pub(crate) fn is_unread(&self, key: &WorkerKey) -> bool {
        let conn = self.workers.get(key).and_then(|worker| self.conns.get(&worker.conn?));
        conn.is_some_and(|conn| !conn.is_read())
    }

    fn worker_conn(&mut self, id: ConnId) -> Option<&mut WorkerConn> {
        match &mut self.conns.get_mut(&id)?.role {
            Role::Worker(worker) => Some(worker),
            Role::Http | Role::Request(_) | Role::Greeting(_) | Role::User(_) => None,
        }
    }
}

/// Whether as much of a worker waits for the disk as may.
fn is_window_full(me: &WorkerConn, left_behind: &BTreeMap<ConnId, LeftBehind>) -> bool {
    let left = left_behind.values().filter(|left| left.key == me.key);
    me.unacked + left.map(|left| left.messages).sum::<usize>() >= PUBLISH_WINDOW
}
