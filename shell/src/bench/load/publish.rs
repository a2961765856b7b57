//! Publishing: the workers say as much as is due, or as fast as windows allow, and it is waited for.

use super::super::order::Flow;
use super::worker::WINDOW;
use super::{Load, PATIENCE, Patience, WAIT};
use mio::Events;
use std::time::{Duration, Instant};

/// How far a flow is.
#[derive(Debug)]
struct Course<'a> {
    flow: &'a Flow,
    /// The runs that it goes to, in turn, and which is next.
    targets: Vec<usize>,
    next: usize,
    /// When it began, in microseconds of the load generator's clock.
    begun: u64,
    /// Events that were due when it was last tried to publish: the rest of them was held back since.
    tried: u64,
}

impl Course<'_> {
    /// How many events it has, and how many of them are due at `now`, where it has a rate.
    fn due(&self, now: u64) -> (u64, u64) {
        let events = self.flow.events.unwrap_or(u64::MAX);
        let Some(rate) = self.flow.rate else { return (events, events) };
        let all = self.flow.ms.map_or(events, |ms| events.min(rate * ms / 1_000));
        (all, all.min((now - self.begun).saturating_mul(rate) / 1_000_000))
    }

    /// The time from which the latency of the event with this number, counted from zero, counts. An event
    /// that was held back has waited since it was due: what holds the workers back must not hide what it
    /// costs.
    fn stamp(&self, number: u64, now: u64) -> u64 {
        let since_begun = |rate: u64| (number + 1) * 1_000_000 / rate.max(1);
        let rate = self.flow.rate.filter(|_| number < self.tried);
        rate.map_or(now, |rate| self.begun + since_begun(rate))
    }
}

impl Load {
    /// Publishes what the flow says, and waits until devices have all of it or, where none is there, until
    /// the other side has it.
    ///
    /// # Errors
    /// When a connection is lost, or nothing happens for long.
    pub(super) fn publish(&mut self, flow: &Flow, events: &mut Events) -> Result<(), String> {
        let is_target = |run: &usize| !flow.to_marked || self.users[self.runs.all[*run].user].has_marked;
        let targets: Vec<usize> = (0..self.runs.all.len()).filter(is_target).collect();
        if targets.is_empty() {
            return Err("no run to publish to".into());
        }
        let mut course = Course { flow, targets, next: 0, begun: self.count.now(), tried: 0 };
        self.count.held = flow.rate.map(|_| 0);
        // What is due under a rate is sent, however long that takes.
        let end = flow.ms.filter(|_| flow.rate.is_none());
        let end = end.map(|ms| Instant::now() + Duration::from_millis(ms));
        let wait = if flow.rate.is_some() { Duration::from_millis(1) } else { WAIT };
        let mut patience = Patience::new();
        loop {
            let (all, due) = course.due(self.count.now());
            let done = self.count.published;
            if done >= all || end.is_some_and(|end| Instant::now() >= end) {
                break;
            }
            if patience.is_over(done) {
                return Err(format!("published: {done}, and no more for {} s", PATIENCE.as_secs()));
            }
            self.publish_upto(due, &mut course)?;
            self.turn(events, wait)?;
            self.tell("published", self.count.published, all);
        }
        if flow.is_watched { self.settle(events) } else { self.wait_for_acks(events) }
    }

    /// Publishes, all targets in turn, as far as windows allow.
    fn publish_upto(&mut self, due: u64, course: &mut Course<'_>) -> Result<(), String> {
        let (mut full, is_bare) = (0, self.secret.is_none() && course.flow.is_watched);
        let open = self.workers.len() * WINDOW * self.devices.len() / self.users.len();
        // Not all of the others acknowledge anything: as much is under way as a daemon would let be.
        let most = if is_bare { open as u64 } else { u64::MAX };
        while self.count.published < due && full < course.targets.len() && self.count.missing < most {
            let run = course.targets[course.next % course.targets.len()];
            course.next += 1;
            let at = course.stamp(self.count.published, self.count.now());
            if !self.runs.publish(run, &mut self.workers, course.flow.bytes, at)? {
                full += 1;
                continue;
            }
            full = 0;
            self.count.published += 1;
            let user = &mut self.users[self.runs.all[run].user];
            user.published += 1;
            self.count.missing += user.devices;
        }
        if let Some(held) = &mut self.count.held {
            *held += due.saturating_sub(self.count.published.max(course.tried));
            course.tried = due;
        }
        self.workers.iter_mut().try_for_each(|worker| worker.peer.flush())
    }

    /// Waits until the other side has all that was published: it has acknowledged it, or, where it
    /// acknowledges nothing, at least it has left this process.
    fn wait_for_acks(&mut self, events: &mut Events) -> Result<(), String> {
        let mut patience = Patience::new();
        loop {
            let under_way = self.workers.iter_mut().map(|worker| worker.under_way() as u64).sum::<u64>();
            if under_way == 0 {
                return Ok(());
            }
            if patience.is_over(under_way) {
                let seconds = PATIENCE.as_secs();
                return Err(format!("workers: {under_way} under way, and as many for {seconds} s"));
            }
            self.turn(events, WAIT)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_due_is_due_at_the_end_and_what_was_held_counts_from_when_it_was_due() {
        let flow = Flow {
            rate: Some(1_000),
            events: None,
            ms: Some(2_000),
            bytes: 300,
            to_marked: false,
            is_watched: true,
        };
        let mut course = Course { flow: &flow, targets: vec![0], next: 0, begun: 500, tried: 0 };
        assert_eq!(course.due(500), (2_000, 0));
        assert_eq!(course.due(500 + 1_000_000), (2_000, 1_000));
        assert_eq!(course.due(500 + 9_000_000), (2_000, 2_000));
        course.tried = 3;
        assert_eq!(course.stamp(2, 77_777), 500 + 3_000, "held back since then");
        assert_eq!(course.stamp(3, 77_777), 77_777);
    }
}
