//! Odd choices: legal ones that a healthy daemon hardly ever makes, made by chance where the configuration's
//! mask says so. The simulator sees the paths behind them; nothing else sets the mask, and without it nothing
//! is ever drawn.

use crate::Core;

/// As if a window had room for one event only.
pub const NARROW: u32 = 1;
/// A stream keeps nothing in memory that is durable: whoever is behind reads from the store.
pub const EVICT: u32 = 2;
/// A page from the store has one event.
pub const SHORT_PAGE: u32 = 4;
/// Positions are stored at once.
pub const EAGER: u32 = 8;
/// Positions of one user are stored at a time.
pub const SHORT_ROUND: u32 = 16;
/// Events are sent again in a later turn if anything else was caused in this one.
pub const LATE_RETRY: u32 = 32;
/// All of them.
pub const ALL: [u32; 6] = [NARROW, EVICT, SHORT_PAGE, EAGER, SHORT_ROUND, LATE_RETRY];

impl Core {
    /// Whether to choose oddly here, this time: in a quarter of the chances of a site that is on.
    pub(crate) fn is_odd(&mut self, site: u32) -> bool {
        self.config.odd & site != 0 && self.random().is_multiple_of(4)
    }
}
