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
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Time for which a moved position may wait for others before a round begins.
const ROUND_AFTER: Span = Span::millis(50);
/// In a round so many users' positions are stored together,
const USERS_AT_ONCE: usize = 64;
/// and the next so much later.
const NEXT_AFTER: Span = Span::millis(1);

/// Users with positions that are not stored, whoever has moved first first.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    users: VecDeque<User>,
    /// How many of them this round has still to store. Whoever moves meanwhile waits for the next.
    round: usize,
}

impl Moved {
    /// How many users that are.
    pub(crate) fn len(&self) -> usize {
        self.users.len()
    }

    /// Some users whose turn it is.
    fn take(&mut self, most: usize) -> Vec<User> {
        if self.round == 0 {
            self.round = self.users.len();
        }
        let count = most.min(self.round);
        self.round -= count;
        self.users.drain(..count).collect()
    }
}

impl Core {
    /// A device's position has moved: it is stored soon.
    pub(crate) fn store_soon(&mut self, user: &User, device: &Device, is_eager: bool) {
        let context = self.users.get_mut(user).expect("a context in use is in memory");
        // Else the user waits for a turn already.
        let is_first = context.unstored.is_empty();
        if !context.unstored.contains_key(device) {
            context.unstored.or_insert(device.clone(), ());
        }
        if is_first {
            self.moved.users.push_back(user.clone());
        }
        if is_first || is_eager {
            let soon = self.now.mono + if is_eager { Span::ZERO } else { ROUND_AFTER };
            self.deadlines.set_earlier(Timer::Positions, soon);
        }
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
        if self.moved.round > 0 {
            self.seen.mark(Sometimes::RoundGoesOn);
            self.deadlines.set(Timer::Positions, self.now.mono + NEXT_AFTER);
        } else if self.moved.len() > 0 {
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
        for device in core::mem::take(&mut context.unstored).keys() {
            if self.planted.is(Bug::PositionNotPersisted) {
                continue;
            }
            let Some(position) = context.devices.get_mut(device) else { continue };
            position.known_from.get_or_insert(self.durable.next());
            let key = device_key(user, device);
            // There may be hundreds, of as many devices: to look for each among the others takes long.
            self.durable.record_another(Record::Put { key, value: row(position) });
        }
        self.leave_delivered(user);
        self.leave_memory(user);
    }
}
