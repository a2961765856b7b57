//! What is so for a whole world, drawn after all else, so that seeds keep what they were.

use super::{Habit, NEVER_ACKS, Network, Plan, PublisherPlan, QuirksPlan};
use crate::dice::Dice;
use crate::faults::{self, Fault};
use crate::oracles::topics::{TOPICS, may_read};
use crate::schedule::{MS, SECOND};
use runcast_core::odd;
use runcast_core::time::Span;

impl Plan {
    /// Workers that wait for no acknowledgement, runs that have much to say, and a disk that takes longer
    /// over it than a lease.
    fn overrun(&mut self, dice: &mut Dice) {
        self.config.runs.lease = Span::secs(2);
        self.workers.iter_mut().for_each(|worker| worker.overruns = true);
        self.users.iter_mut().flat_map(|user| &mut user.devices).for_each(|device| device.deltas_max = 2_000);
        let at = dice.between(5, 15) * SECOND;
        self.faults.push((at, Fault::SlowDisk { sync: 4 * SECOND, time: 15 * SECOND }));
        self.faults.sort_by_key(|(at, _)| *at);
    }

    /// Runs with long words, for a device that takes nothing for long, or acknowledges nothing.
    fn hold_up(&mut self, dice: &mut Dice) {
        let is_deaf = dice.chance(1, 2);
        self.heal_at = self.heal_at.max(80 * SECOND);
        // Long words cost time, and few make enough of them.
        self.users.truncate(3);
        let Some(first) = self.users.first_mut() else { return };
        for device in &mut first.devices {
            device.is_bulky = true;
            device.ask_every = Some(dice.log_uniform(4 * SECOND, 20 * SECOND));
        }
        let network = Network { buffer: dice.log_uniform(1024, 4 * 1024) as usize, ..Network::good(0) };
        let device = &mut first.devices[0];
        if is_deaf {
            (device.habit, device.network) = (Habit::Deaf, network);
            // It is to be deaf for longer than the daemon waits, on one connection.
            self.faults.retain(|(_, fault)| !fault.cuts());
        } else {
            (device.habit, device.ack_every, device.window) = (Habit::Online, NEVER_ACKS, None);
        }
    }

    /// A disk that is full while devices come and go.
    fn fill_disk(&mut self, dice: &mut Dice) {
        let (at, time) = (dice.between(3, 15) * SECOND, dice.between(20, 40) * SECOND);
        // Or when most devices have not been there yet.
        let at = if dice.chance(1, 2) { dice.below(SECOND) } else { at };
        self.faults.push((at, Fault::FullDisk { time }));
        self.faults.sort_by_key(|(at, _)| *at);
        self.heal_at = self.heal_at.max(60 * SECOND);
        for device in self.users.iter_mut().flat_map(|user| &mut user.devices) {
            device.habit = Habit::Flapping;
            // What they subscribe to meanwhile, they ask for when they come back.
            if device.topics.is_empty() {
                device.topics.push("news".to_owned());
            }
        }
    }

    /// What is so for a whole seed.
    pub(super) fn with_variants(mut self, dice: &mut Dice, is_calm: bool) -> Self {
        self.rots = dice.chance(1, 4);
        self.splits = dice.chance(1, 4);
        self.repairs_fully = dice.chance(3, 4);
        for site in odd::ALL {
            self.config.odd |= if dice.chance(1, 4) { site } else { 0 };
        }
        if !is_calm && dice.chance(1, 20) {
            self.overrun(dice);
        }
        if !is_calm && dice.chance(1, 6) {
            self.loss = dice.pick(&[10, 14, 50]);
        }
        if !is_calm && self.users.len() > 1 && dice.chance(1, 6) {
            let broken = self.users.iter().skip(1).filter(|_| dice.chance(1, 3));
            self.broken = broken.map(|user| user.number).collect();
        }
        if dice.chance(2, 3) {
            self.draw_topics(dice);
        }
        if !is_calm && dice.chance(1, 3) {
            self.config.server.drain = Span::millis(dice.log_uniform(1, 30_000));
            self.faults.extend(faults::drains(dice, self.heal_at));
            self.faults.sort_by_key(|(at, _)| *at);
        }
        if dice.chance(1, 2) {
            self.config.delivery.webhook = Some("http://somewhere".to_owned());
            self.config.delivery.undelivered_after = Span::millis(dice.log_uniform(1_000, 60_000));
        }
        if dice.chance(1, 4) {
            let names: Vec<String> = self.users.iter().map(|user| user.name.clone()).collect();
            self.publishers.iter_mut().for_each(|publisher| publisher.erases.clone_from(&names));
        }
        // What is kept for a time is judged by the wall clock.
        if !self.faults.iter().any(|(_, fault)| matches!(fault, Fault::Jump { .. })) && dice.chance(1, 3) {
            self.config.store.keep = Span::millis(dice.log_uniform(1_000, 300_000));
            self.config.store.runs_per_user = dice.log_uniform(1, 100) as usize;
            self.config.runs.key_keep = Span::millis(dice.log_uniform(60_000, 600_000));
        }
        if !is_calm && dice.chance(1, 25) {
            self.hold_up(dice);
        } else if !is_calm && dice.chance(1, 20) {
            self.fill_disk(dice);
        }
        self.draw_operators(dice);
        if !is_calm && dice.chance(1, 4) {
            self.workers.iter_mut().for_each(|worker| worker.short_tokens = true);
        }
        if !is_calm && dice.chance(1, 6) {
            let time = dice.log_uniform(SECOND, 20 * SECOND);
            self.faults.push((dice.below(self.heal_at), Fault::LittleMemory { time }));
            self.faults.sort_by_key(|(at, _)| *at);
        }
        // Two clients share an address, now and then an honest one and one that is not.
        if !is_calm && dice.chance(1, 6) {
            self.config.limits.unauthenticated_per_address_per_minute = 1;
        }
        if dice.chance(2, 3) {
            self.publishers.iter_mut().for_each(|publisher| publisher.asks_ready = true);
        }
        self
    }

    /// Who came later than all the others, with chances of their own.
    pub(super) fn with_more(mut self, is_calm: bool) -> Self {
        let mut dice = Dice::new(self.seed, u64::MAX - 1);
        self.vandals = if is_calm { 0 } else { dice.below(3) as usize };
        let percent = |dice: &mut Dice, most| if dice.chance(1, 3) { dice.between(1, most) } else { 0 };
        for worker in self.workers.iter_mut().filter(|_| !is_calm) {
            worker.quirks = QuirksPlan {
                shuffles: percent(&mut dice, 20),
                skips: percent(&mut dice, 20),
                drains_every: dice.chance(1, 3).then(|| dice.log_uniform(5 * SECOND, 60 * SECOND)),
            };
        }
        if !is_calm && dice.chance(1, 3) {
            self.faults.extend(faults::rotations(&mut dice, self.heal_at));
            self.faults.sort_by_key(|(at, _)| *at);
        }
        if !is_calm && dice.chance(1, 5) {
            self.rogues = 1;
        }
        self
    }

    /// Who is sent away. After its clock has gone back nobody could make a token that is good.
    fn draw_operators(&mut self, dice: &mut Dice) {
        let jumps = self.faults.iter().any(|(_, fault)| matches!(fault, Fault::Jump { .. }));
        if jumps || !dice.chance(1, 3) {
            return;
        }
        let users = self.users.iter().map(|user| &user.name);
        let publishers = self.publishers.iter().map(|publisher| &publisher.name);
        let names: Vec<String> = users.chain(publishers).cloned().collect();
        self.publishers.iter_mut().for_each(|publisher| publisher.sends_away.clone_from(&names));
        self.users.iter_mut().for_each(|user| user.keeps_tokens = true);
    }

    /// Who reads topics, and who says something on them.
    fn draw_topics(&mut self, dice: &mut Dice) {
        if dice.chance(1, 2) {
            self.config.store.events_per_topic = dice.log_uniform(16, 1_000);
        }
        for user in &mut self.users {
            user.operates = dice.chance(1, 4);
            for device in &mut user.devices {
                if dice.chance(1, 2) {
                    continue;
                }
                for (name, _) in TOPICS {
                    let is_readable = may_read(name, user.operates);
                    if dice.chance(1, if is_readable { 2 } else { 8 }) {
                        device.topics.push(name.to_owned());
                    }
                }
            }
        }
        for index in 0..dice.between(1, 3) {
            let network = Network { bytes_per_s: 2_000_000, ..Network::draw(dice) };
            let every = dice.log_uniform(50 * MS, 5 * SECOND);
            let name = format!("press-{index}");
            self.publishers.push(PublisherPlan {
                dice: 4_000 + index,
                name,
                network,
                every,
                erases: Vec::new(),
                sends_away: Vec::new(),
                asks_ready: false,
            });
        }
    }
}
