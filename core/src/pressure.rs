//! The memory budget (`store.memory`). How much is in use the shell tells; what follows is decided here: near
//! the budget no new runs and no pages of old events, so that what is live goes on.

use crate::Core;
use crate::effect::Effects;
use crate::ids::ConnId;
use crate::sometimes::Sometimes;
use crate::wire::error::{Code, Refusal};
use alloc::collections::BTreeSet;
use alloc::format;

/// Of the budget, the share in percent at which it is short, and below which it is so no longer.
const SHORT: [u64; 2] = [95, 90];
/// When to try again, in milliseconds.
const RETRY_MS: u64 = 5_000;

/// How much memory is in use, and who waits for there to be less.
#[derive(Debug, Default)]
pub(crate) struct Pressure {
    /// As the shell has last told, in bytes.
    pub(crate) used: u64,
    is_short: bool,
    /// Connections that are behind and are not read the next page.
    shed: BTreeSet<ConnId>,
}

impl Pressure {
    /// A page of old events may have to wait: whether it must.
    pub(crate) fn sheds(&mut self, id: ConnId) -> bool {
        if self.is_short {
            self.shed.insert(id);
        }
        self.is_short
    }

    /// Whether a connection waits for there to be more memory.
    pub(crate) fn is_shed(&self, id: ConnId) -> bool {
        self.shed.contains(&id)
    }

    /// How many wait for that.
    pub(crate) fn shed(&self) -> usize {
        self.shed.len()
    }

    /// A connection is over.
    pub(crate) fn forget(&mut self, id: ConnId) {
        self.shed.remove(&id);
    }
}

impl Core {
    /// The shell tells how much memory is in use.
    pub(crate) fn on_memory(&mut self, used: u64, out: &mut Effects) {
        let was_short = self.pressure.is_short;
        let share = SHORT[usize::from(was_short)];
        self.pressure.used = used;
        self.pressure.is_short = used.saturating_mul(100) >= self.config.store.memory.saturating_mul(share);
        if self.pressure.is_short && !was_short {
            self.seen.mark(Sometimes::MemoryShort);
        }
        if was_short && !self.pressure.is_short {
            for id in core::mem::take(&mut self.pressure.shed) {
                self.seen.mark(Sometimes::PageShed);
                self.deliver(id, out);
            }
        }
    }

    /// Refuses what would need more memory, when there is little left.
    pub(crate) fn check_memory(&self) -> Result<(), Refusal> {
        if !self.pressure.is_short {
            return Ok(());
        }
        let (used, budget) = (self.pressure.used >> 20, self.config.store.memory >> 20);
        let message = format!("{used} MiB of the daemon's {budget} MiB of memory are in use");
        Err(Refusal::new(Code::Overloaded, message, "try again later, or raise store.memory").retry(RETRY_MS))
    }
}
