//! Positions of devices on their way into the store: some time after they have moved, since a device moves
//! often, and a few users' at a time, since thousands may have moved: nobody's events wait until all their
//! rows are written.

use crate::Core;
use crate::context::device_key;
use crate::deadlines::Timer;
use crate::durable::RETRY;
use crate::ids::{Device, User};
use crate::odd;
use crate::planted::Bug;
use crate::record::{Record, row};
use crate::sometimes::Sometimes;
use crate::time::Span;
use alloc::collections::BTreeSet;

/// Time for which a moved position may wait for others before a round begins.
const ROUND_AFTER: Span = Span::millis(50);
/// In a round so many users' positions are stored together,
const USERS_AT_ONCE: usize = 64;
/// and the next so much later.
const NEXT_AFTER: Span = Span::millis(1);

/// Users with positions that are not stored.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    /// Those whose turn it is. Nobody comes to them before all of them are stored, so that everybody has a
    /// turn.
    round: BTreeSet<User>,
    /// Those of the round after that.
    next: BTreeSet<User>,
}

impl Moved {
    /// How many users that are.
    pub(crate) fn len(&self) -> usize {
        self.round.len() + self.next.len()
    }

    /// Some users whose turn it is.
    fn take(&mut self, most: usize) -> impl Iterator<Item = User> + use<> {
        if self.round.is_empty() {
            core::mem::swap(&mut self.round, &mut self.next);
        }
        let rest = self.round.iter().nth(most).cloned();
        let rest = rest.map(|first| self.round.split_off(&first)).unwrap_or_default();
        core::mem::replace(&mut self.round, rest).into_iter()
    }
}

impl Core {
    /// A device's position has moved: it is stored soon.
    pub(crate) fn store_soon(&mut self, user: &User, device: &Device, is_eager: bool) {
        let context = self.users.get_mut(user).expect("a context in use is in memory");
        context.unstored.insert(device.clone());
        self.moved.next.insert(user.clone());
        let soon = self.now.mono + if is_eager { Span::ZERO } else { ROUND_AFTER };
        self.deadlines.set_earlier(Timer::Positions, soon);
    }

    /// Stores positions of some users.
    pub(crate) fn store_some_positions(&mut self) {
        if self.durable.is_full() {
            // One row a device, later: what waits for a full store must not grow with the acknowledgements.
            self.seen.mark(Sometimes::PositionsWait);
            return self.deadlines.set(Timer::Positions, self.now.mono + RETRY);
        }
        let most = if self.is_odd(odd::SHORT_ROUND) { 1 } else { USERS_AT_ONCE };
        for user in self.moved.take(most) {
            self.store_positions_of(&user);
        }
        if !self.moved.round.is_empty() {
            self.seen.mark(Sometimes::RoundGoesOn);
            self.deadlines.set(Timer::Positions, self.now.mono + NEXT_AFTER);
        } else if !self.moved.next.is_empty() {
            self.deadlines.set(Timer::Positions, self.now.mono + ROUND_AFTER);
        }
    }

    /// Stores all positions that have moved.
    pub(crate) fn store_positions(&mut self) {
        while self.moved.len() > 0 {
            for user in self.moved.take(usize::MAX) {
                self.store_positions_of(&user);
            }
        }
    }

    fn store_positions_of(&mut self, user: &User) {
        let Some(context) = self.users.get_mut(user) else { return };
        for device in core::mem::take(&mut context.unstored) {
            if self.planted.is(Bug::PositionNotPersisted) {
                continue;
            }
            let Some(position) = context.devices.get_mut(&device) else { continue };
            position.known_from.get_or_insert(self.durable.next());
            let key = device_key(user, &device);
            // There may be hundreds, of as many devices: to look for each among the others takes long.
            self.durable.record_another(Record::Put { key, value: row(position) });
        }
        self.leave_delivered(user);
        self.leave_memory(user);
    }
}
