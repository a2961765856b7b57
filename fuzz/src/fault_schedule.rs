//! Bytes as faults for five simulated seconds of a small world without topics, publishers or a webhook: world
//! 1's oracles are asked, and once all is healed it must come to rest.

use crate::choices::Choices;
use runcast_sim::faults::Fault;
use runcast_sim::pipe::{Way, ZONES};
use runcast_sim::plan::{AGENTS, DevicePlan, Habit, Network, Plan, UserPlan, WorkerPlan};
use runcast_sim::schedule::{MS, Micros, SECOND};
use runcast_sim::trace::Show;
use runcast_sim::world::World;

/// How long things go wrong.
const FAULTS_UNTIL: Micros = 5 * SECOND;
/// Faults, at most.
const FAULTS: usize = 40;

/// The first byte is the seed of everything but the faults, the second changes the cast; then come faults:
/// when, what, and how much.
pub fn target(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut plan = plan(choices.byte(), choices.byte());
    while !choices.is_empty() && plan.faults.len() < FAULTS {
        let at = u64::from(choices.byte()) * FAULTS_UNTIL / 256;
        plan.faults.push((at, fault(&mut choices)));
    }
    plan.faults.sort_by_key(|(at, _)| *at);
    let faults = plan.faults.clone();
    if let Err(violation) = World::new(plan, Show::Hash).finish() {
        panic!("{violation}, after {faults:?}");
    }
}

fn plan(seed: u8, cast: u8) -> Plan {
    let mut plan = Plan::empty(seed.into());
    plan.heal_at = FAULTS_UNTIL;
    let device = |name: &str, zone, ask_every| DevicePlan {
        network: Network { tiny: cast & 1 != 0, ..Network::good(zone) },
        ask_every,
        deltas_max: 30,
        ack_every: if cast & 2 != 0 { 8 } else { 1 },
        ..DevicePlan::watching(name)
    };
    let mut phone = device("phone", 1, None);
    if cast & 4 != 0 {
        phone.habit = Habit::Flapping;
    }
    let laptop = device("laptop", 0, Some(700 * MS));
    plan.users.push(UserPlan {
        name: "alice".to_owned(),
        number: 0,
        devices: vec![laptop, phone],
        operates: false,
        keeps_tokens: false,
    });
    plan.users.push(UserPlan {
        name: "bob".to_owned(),
        number: 1,
        devices: vec![device("desk", 0, Some(900 * MS))],
        operates: false,
        keeps_tokens: false,
    });
    let agents: Vec<(&str, u64)> = AGENTS.iter().map(|agent| (*agent, 2)).collect();
    plan.workers.push(WorkerPlan::good("first", &agents));
    if cast & 8 != 0 {
        plan.workers
            .push(WorkerPlan { crash_every: Some(2 * SECOND), ..WorkerPlan::good("second", &agents) });
    }
    if cast & 16 != 0 {
        plan.config.store.events_per_user = 100;
    }
    if cast & 32 != 0 {
        plan.config.runs.active = 1;
        plan.config.runs.active_per_user = 1;
    }
    plan.hostile = usize::from(cast >> 7);
    plan
}

fn fault(choices: &mut Choices<'_>) -> Fault {
    let kind = choices.below(13);
    let pick = u64::from(choices.byte());
    // From 16 ms to 4 seconds.
    let time = (pick + 1) * 16 * MS;
    match kind {
        0 => Fault::Reset { pick },
        1 => Fault::Hole { pick, time },
        2 | 3 => {
            let ways = [vec![Way::Up], vec![Way::Down], Way::BOTH.to_vec()];
            let zone = pick as usize % ZONES;
            Fault::Partition { zone, ways: ways[pick as usize / 4 % 3].clone(), time }
        }
        4 => Fault::Slowness { factor: 2 + pick % 9, time },
        5 => Fault::DropAll,
        6 | 7 => Fault::Kill { time: time / 4 },
        8 => Fault::PowerLoss { time },
        9 => Fault::Stall { time },
        10 => Fault::SlowDisk { sync: time / 4, time },
        11 => Fault::FullDisk { time },
        _ if pick & 1 == 0 => Fault::BrokenDisk { time: time / 4 },
        _ => Fault::Jump { by: (pick as i64 - 128) * 30_000 },
    }
}
