//! Makes a failing plan small: leaves out faults and actors, and tames those that stay, as long as the same
//! oracle still fails. What is left is the story of the bug.

use crate::oracles::Violation;
use crate::plan::{Habit, Network, Plan, WorkerPlan};
use crate::play;
use crate::schedule::{Micros, SECOND};
use crate::swarm::judge;
use crate::trace::Show;
use serde::{Deserialize, Serialize};

/// A plan that fails, or failed once, as a file keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    /// Why it is kept: what it found, and what that would have done to a user.
    pub why: String,
    /// The oracle that failed.
    pub oracle: String,
    /// The world.
    pub plan: Plan,
}

/// One way to make a plan smaller. `None` if there is nothing left of that kind.
type Step<'a> = Box<dyn Fn(&Plan) -> Option<Plan> + 'a>;

/// How the shrinking goes.
#[derive(Debug)]
pub struct Shrink {
    plan: Plan,
    violation: Violation,
    /// Worlds that may still be run.
    left: usize,
}

impl Shrink {
    /// Runs the plan of a seed that is to fail; at most so many worlds are tried.
    ///
    /// # Errors
    /// It does not fail.
    pub fn new(plan: Plan, tries: usize) -> Result<Self, String> {
        match judge(&mut *play::world(plan.clone(), Show::Hash), Micros::MAX) {
            Ok(_) => Err(format!("seed {} breaks no promise: there is nothing to shrink", plan.seed)),
            Err(violation) => Ok(Self { plan, violation, left: tries }),
        }
    }

    /// Goes on until nothing can be left out, or the tries are used up. `tell` hears of each step.
    pub fn finish(mut self, tell: &mut dyn FnMut(&str)) -> Kept {
        loop {
            let before = self.left;
            self.truncate(tell);
            self.thin("faults", tell, &|plan| plan.faults.len(), &|plan, from, to| {
                drop(plan.faults.drain(from..to));
            });
            self.thin("users", tell, &|plan| plan.users.len(), &|plan, from, to| {
                drop(plan.users.drain(from..to));
            });
            self.thin("workers", tell, &|plan| plan.workers.len(), &|plan, from, to| {
                drop(plan.workers.drain(from..to));
            });
            self.thin("hostile", tell, &|plan| plan.hostile, &|plan, from, to| plan.hostile -= to - from);
            self.thin("vandals", tell, &|plan| plan.vandals, &|plan, from, to| plan.vandals -= to - from);
            self.thin("rogues", tell, &|plan| plan.rogues, &|plan, from, to| plan.rogues -= to - from);
            let made_smaller = self.thin_devices(tell) | self.tame(tell);
            if !made_smaller || self.left == 0 || self.left == before {
                break;
            }
        }
        let Violation { oracle, what, .. } = &self.violation;
        Kept { why: format!("{oracle}: {what}"), oracle: (*oracle).to_owned(), plan: self.plan }
    }

    /// Whether the plan still fails in the same way; then it is the new one.
    fn accept(&mut self, plan: Plan) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        let patience = 2 * self.violation.at + 60 * SECOND;
        match judge(&mut *play::world(plan.clone(), Show::Hash), patience) {
            Err(violation) if violation.oracle == self.violation.oracle => {
                (self.plan, self.violation) = (plan, violation);
                true
            }
            Err(_) | Ok(_) => false,
        }
    }

    /// What comes after the failure need not be planned.
    fn truncate(&mut self, tell: &mut dyn FnMut(&str)) {
        let at: Micros = self.violation.at;
        let mut plan = self.plan.clone();
        plan.faults.retain(|(begins, _)| *begins < at);
        if plan.faults.len() < self.plan.faults.len() && self.accept(plan) {
            tell(&format!("{} faults are left", self.plan.faults.len()));
        }
    }

    /// Leaves out halves of a list, then quarters, down to single ones.
    fn thin(
        &mut self,
        what: &str,
        tell: &mut dyn FnMut(&str),
        length: &dyn Fn(&Plan) -> usize,
        cut: &dyn Fn(&mut Plan, usize, usize),
    ) {
        let mut size = length(&self.plan).div_ceil(2);
        while size > 0 && self.left > 0 {
            let mut from = 0;
            while from < length(&self.plan) && self.left > 0 {
                let mut plan = self.plan.clone();
                let to = (from + size).min(length(&plan));
                cut(&mut plan, from, to);
                if self.accept(plan) {
                    tell(&format!("{} {what} are left", length(&self.plan)));
                } else {
                    from += size;
                }
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
    }

    fn thin_devices(&mut self, tell: &mut dyn FnMut(&str)) -> bool {
        let mut smaller = false;
        for user in 0..self.plan.users.len() {
            let mut device = 0;
            while device < self.plan.users[user].devices.len() && self.plan.users[user].devices.len() > 1 {
                let mut plan = self.plan.clone();
                plan.users[user].devices.remove(device);
                if self.accept(plan) {
                    tell(&format!("{} devices of {}", device, self.plan.users[user].name));
                    smaller = true;
                } else {
                    device += 1;
                }
            }
        }
        smaller
    }

    /// Makes those who stay as well-behaved as the failure allows.
    fn tame(&mut self, tell: &mut dyn FnMut(&str)) -> bool {
        let steps: [(&str, Step<'_>); 4] = [
            ("all workers are good", Box::new(good_workers)),
            ("all networks are good", Box::new(good_networks)),
            ("all devices are online", Box::new(online)),
            ("only the first device of a user asks", Box::new(few_ask)),
        ];
        let mut tamed = false;
        for (what, step) in steps {
            if let Some(plan) = step(&self.plan)
                && self.accept(plan)
            {
                tell(what);
                tamed = true;
            }
        }
        tamed
    }
}

/// The plan after a change, if it is one.
fn changed(plan: &Plan, change: impl Fn(&mut Plan)) -> Option<Plan> {
    let mut other = plan.clone();
    change(&mut other);
    (format!("{other:?}") != format!("{plan:?}")).then_some(other)
}

fn good_workers(plan: &Plan) -> Option<Plan> {
    changed(plan, |plan| {
        for worker in &mut plan.workers {
            let WorkerPlan { dice, name, agents, network, .. } = worker.clone();
            *worker = WorkerPlan { dice, agents, network, ..WorkerPlan::good(&name, &[]) };
        }
    })
}

fn good_networks(plan: &Plan) -> Option<Plan> {
    changed(plan, |plan| {
        let devices = plan.users.iter_mut().flat_map(|user| user.devices.iter_mut());
        let networks = devices.map(|device| &mut device.network);
        for network in networks.chain(plan.workers.iter_mut().map(|worker| &mut worker.network)) {
            *network = Network::good(network.zone);
        }
    })
}

fn online(plan: &Plan) -> Option<Plan> {
    changed(plan, |plan| {
        for device in plan.users.iter_mut().flat_map(|user| user.devices.iter_mut()) {
            device.habit = Habit::Online;
        }
    })
}

fn few_ask(plan: &Plan) -> Option<Plan> {
    changed(plan, |plan| {
        for device in plan.users.iter_mut().flat_map(|user| user.devices.iter_mut().skip(1)) {
            device.ask_every = None;
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{DevicePlan, UserPlan};

    /// A world in which one of many devices asks, with no worker to answer: it never comes to rest.
    #[test]
    fn what_has_no_part_in_a_failure_is_left_out() {
        let mut plan = Plan::empty(1);
        plan.heal_at = 10 * SECOND;
        for number in 0..5 {
            let asks = if number == 3 { Some(SECOND) } else { None };
            let device = DevicePlan { ask_every: asks, ..DevicePlan::watching("d") };
            plan.users.push(UserPlan {
                number,
                name: format!("user-{number}"),
                devices: vec![device],
                operates: false,
                keeps_tokens: false,
            });
        }
        plan.config.agents = Plan::draw(1).config.agents;
        let agents = crate::plan::AGENTS.iter().filter_map(|agent| runcast_core::ids::Agent::parse(agent));
        plan.config.agents = agents.map(|agent| (agent, Default::default())).collect();
        let kept = Shrink::new(plan, 40).unwrap().finish(&mut |_| {});
        assert_eq!(kept.plan.users.iter().map(|user| user.number).collect::<Vec<_>>(), [3]);
        assert_eq!(kept.oracle, "O5");
    }
}
