//! Timers by their names, and by the places that they have in time.

use crate::lookup::{Hashed, Secret};
use crate::time::Mono;
use alloc::collections::BTreeSet;
use core::hash::Hash;

/// A place in time, and the name of the timer that has it.
pub(super) type Place<N> = (Mono, N);

/// Timers that have names of one kind.
#[derive(Debug)]
pub(super) struct Table<N> {
    by_time: BTreeSet<Place<N>>,
    by_name: Hashed<N, Slot>,
    /// How many of them are at rest.
    resting: usize,
    /// The first place may be one whose timer is not for then.
    is_stale: bool,
    /// The first place, or one after it, unless that is stale; none if nobody has looked yet.
    front: Option<Mono>,
}

/// When a timer fires, and where it is found.
#[derive(Debug)]
struct Slot {
    /// None while it is not set.
    at: Option<Mono>,
    /// Never after that.
    place: Mono,
}

impl<N> Table<N> {
    /// None. Their names are hashed with this secret.
    pub(super) const fn new(secret: Secret) -> Self {
        Self {
            by_time: BTreeSet::new(),
            by_name: Hashed::new(secret),
            resting: 0,
            is_stale: false,
            front: None,
        }
    }
}

impl<N: Ord + Hash + Clone> Table<N> {
    /// Sets a timer, or moves it if `moves` says so of the time that it is set for.
    pub(super) fn set(&mut self, name: N, at: Mono, moves: impl FnOnce(Mono) -> bool) {
        let Some(slot) = self.by_name.get_mut(&name) else {
            self.by_name.insert(name.clone(), Slot { at: Some(at), place: at });
            self.by_time.insert((at, name));
            return;
        };
        if slot.at.is_some_and(|old| !moves(old)) {
            return;
        }
        self.resting -= usize::from(slot.at.replace(at).is_none());
        if at >= slot.place {
            let place = slot.place;
            return self.touch(place);
        }
        let before = (core::mem::replace(&mut slot.place, at), name);
        assert!(self.by_time.remove(&before), "each timer has its place");
        self.by_time.insert((at, before.1));
    }

    /// Takes a timer back. One that is not set is no error.
    pub(super) fn clear(&mut self, name: N) {
        if let Some(slot) = self.by_name.remove(&name) {
            self.resting -= usize::from(slot.at.is_none());
            assert!(self.by_time.remove(&(slot.place, name)), "each timer has its place");
            self.touch(slot.place);
        }
    }

    /// Takes a timer back that keeps its place until that comes up.
    pub(super) fn rest(&mut self, name: &N) {
        if let Some(slot) = self.by_name.get_mut(name) {
            self.resting += usize::from(slot.at.take().is_some());
            let place = slot.place;
            self.touch(place);
        }
    }

    /// Something has become of the timer in this place. Nearly always that is not the first.
    fn touch(&mut self, place: Mono) {
        self.is_stale |= self.front.is_none_or(|front| place <= front);
    }

    /// Makes the first place that of the next timer to fire.
    pub(super) fn tidy(&mut self) {
        if !core::mem::take(&mut self.is_stale) {
            return;
        }
        while let Some((place, name)) = self.by_time.first() {
            self.front = Some(*place);
            let slot = self.by_name.get_mut(name).expect("each place is a timer's");
            if slot.at == Some(*place) {
                return;
            }
            let Some((_, name)) = self.by_time.pop_first() else { return };
            match slot.at {
                Some(at) => {
                    slot.place = at;
                    self.by_time.insert((at, name));
                }
                None => {
                    self.by_name.remove(&name);
                    self.resting -= 1;
                }
            }
        }
        self.front = None;
    }

    /// The next timer to fire, once all is [tidy](Self::tidy).
    pub(super) fn first(&self) -> Option<&Place<N>> {
        debug_assert!(!self.is_stale, "tidied at the end of each input");
        self.by_time.first()
    }

    /// Takes that one out.
    pub(super) fn pop(&mut self) -> Option<N> {
        let (_, name) = self.by_time.pop_first()?;
        self.by_name.remove(&name);
        self.is_stale = true;
        Some(name)
    }

    /// How many have a place, those at rest too.
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// How many keep a place without being set.
    pub(super) const fn resting(&self) -> usize {
        self.resting
    }
}
