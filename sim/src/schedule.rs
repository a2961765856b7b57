//! Virtual time: a queue of events, in the order of their time and, within one instant, of their making.

use crate::pipe::{PipeId, Way};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

/// A point of virtual time, or a length of it, in microseconds. A world begins at 0.
pub type Micros = u64;

/// One millisecond.
pub const MS: Micros = 1_000;
/// One second.
pub const SECOND: Micros = 1_000_000;

/// What will happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A client's call reaches the daemon's machine.
    Call(PipeId),
    /// Bytes reach the far end of a pipe.
    Arrive(PipeId, Way),
    /// News of room in the receiver's buffer reaches the sender.
    Room(PipeId, Way),
    /// The daemon takes a turn of its loop.
    Turn,
    /// The storage thread has done a job.
    Stored,
    /// A timer of an actor.
    Actor(usize),
    /// A fault of the plan begins.
    Fault(usize),
    /// A fault that lasts ends.
    Mend(usize),
    /// A daemon that goes down is told again.
    Hurry,
    /// The daemon starts again.
    Boot,
    /// The oracles that watch time look around.
    Look,
}

/// The queue and the clock, shared by everything in one world.
#[derive(Clone, Debug, Default)]
pub struct Schedule(Rc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    now: Rc<Cell<Micros>>,
    made: Cell<u64>,
    taken: Cell<u64>,
    events: RefCell<BTreeMap<(Micros, u64), Event>>,
}

impl Schedule {
    /// The present.
    pub fn now(&self) -> Micros {
        self.0.now.get()
    }

    /// Another queue by the same clock.
    pub fn beside(&self) -> Self {
        Self(Rc::new(Inner { now: self.0.now.clone(), ..Inner::default() }))
    }

    /// Turns the clock, where somebody else tells the time.
    pub fn set(&self, now: Micros) {
        self.0.now.set(now);
    }

    /// How many events have happened.
    pub fn taken(&self) -> u64 {
        self.0.taken.get()
    }

    /// Lets something happen at a time; at once if that has passed.
    pub fn at(&self, time: Micros, event: Event) {
        let made = self.0.made.get();
        self.0.made.set(made + 1);
        self.0.events.borrow_mut().insert((time.max(self.now()), made), event);
    }

    /// Lets something happen later.
    pub fn after(&self, delay: Micros, event: Event) {
        self.at(self.now().saturating_add(delay), event);
    }

    /// When the next event is due.
    pub fn next(&self) -> Option<Micros> {
        self.0.events.borrow().first_key_value().map(|((time, _), _)| *time)
    }

    /// Takes the next event, and moves the clock to it.
    pub fn pop(&self) -> Option<Event> {
        let ((time, _), event) = self.0.events.borrow_mut().pop_first()?;
        self.0.now.set(time.max(self.now()));
        self.0.taken.set(self.0.taken.get() + 1);
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_the_order_of_time_and_then_of_making() {
        let schedule = Schedule::default();
        schedule.at(20, Event::Turn);
        schedule.at(10, Event::Boot);
        schedule.at(10, Event::Look);
        assert_eq!(schedule.pop(), Some(Event::Boot));
        assert_eq!(schedule.now(), 10);
        schedule.at(3, Event::Stored);
        assert_eq!(schedule.pop(), Some(Event::Look));
        assert_eq!(schedule.pop(), Some(Event::Stored));
        assert_eq!(schedule.now(), 10, "the past is not gone back to");
        assert_eq!(schedule.pop(), Some(Event::Turn));
        assert_eq!(schedule.pop(), None);
    }
}
