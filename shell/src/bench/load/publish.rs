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
}

impl Load {
    /// Publishes what the flow says, and waits until devices have all of it or, where none is there, until the
    /// other side has it.
    ///
    /// # Errors
    /// When a connection is lost, or nothing happens for long.
    pub(super) fn publish(&mut self, flow: &Flow, events: &mut Events) -> Result<(), String> {
        let is_target = |run: &usize| !flow.to_marked || self.users[self.runs.all[*run].user].has_marked;
        let targets: Vec<usize> = (0..self.runs.all.len()).filter(is_target).collect();
        if targets.is_empty() {
            return Err("no run to publish to".into());
        }
        let mut course = Course { flow, targets, next: 0 };
        let begun = Instant::now();
        let end = flow.ms.map(|ms| begun + Duration::from_millis(ms));
        let most = flow.events.unwrap_or(u64::MAX);
        let expected = flow.rate.zip(flow.ms).map_or(most, |(rate, ms)| most.min(rate * ms / 1_000));
        while self.count.published < most && end.is_none_or(|end| Instant::now() < end) {
            let due = flow.rate.map_or(u64::MAX, |rate| {
                u64::try_from(begun.elapsed().as_micros() * u128::from(rate) / 1_000_000).unwrap_or(u64::MAX)
            });
            self.publish_upto(due.min(most), &mut course)?;
            let wait = if flow.rate.is_some() { Duration::from_millis(1) } else { WAIT };
            self.turn(events, wait)?;
            self.tell("published", self.count.published, expected);
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
            if !self.runs.publish(run, &mut self.workers, course.flow.bytes, self.count.now())? {
                full += 1;
                continue;
            }
            full = 0;
            self.count.published += 1;
            let user = &mut self.users[self.runs.all[run].user];
            user.published += 1;
            self.count.missing += user.devices;
        }
        if full > 0 && due != u64::MAX {
            self.count.held += 1;
        }
        self.workers.iter_mut().try_for_each(|worker| worker.peer.flush())
    }

    /// Waits until the other side has all that was published: it has acknowledged it, or, where it acknowledges
    /// nothing, at least it has left this process.
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
