//! O23 by comparison, for PROTOCOL §2.8: the same user in the same world, alone and among devices that do not
//! read, read slowly or mean no good.

use runcast_sim::plan::{DevicePlan, Habit, Network, Plan, UserPlan, WorkerPlan};
use runcast_sim::schedule::{MS, SECOND};
use runcast_sim::trace::Show;
use runcast_sim::world::World;

/// What more work of the loop and the disk may cost: some turns and commits.
const COST_MS: u64 = 30;

/// A good user, who asks often.
fn alone(seed: u64) -> Plan {
    let mut plan = Plan::empty(seed);
    plan.heal_at = 60 * SECOND;
    plan.config.runs.active_per_user = 2;
    let device = DevicePlan { ask_every: Some(500 * MS), ..DevicePlan::watching("good") };
    plan.users.push(UserPlan {
        number: 0,
        name: "good".into(),
        devices: vec![device],
        operates: false,
        keeps_tokens: false,
    });
    plan.workers.push(WorkerPlan::good("w", &[("research", 9), ("write", 9), ("check", 9)]));
    plan
}

/// The same among others.
fn among_others(seed: u64) -> Plan {
    let mut plan = alone(seed);
    for number in 1..3 {
        let slow = Network { bytes_per_s: 300, buffer: 4096, ..Network::good(0) };
        let device = |dice, name: &str, habit, network| DevicePlan {
            dice,
            habit,
            network,
            window: Some(1024),
            ask_every: Some(2 * SECOND),
            deltas_max: 100,
            ..DevicePlan::watching(name)
        };
        let first = 2_000 + 10 * number as u64;
        let devices = vec![
            device(first, "stuck", Habit::Stuck, Network::good(1)),
            device(first + 1, "slow", Habit::Online, slow),
            device(first + 2, "flapping", Habit::Flapping, Network { tiny: true, ..slow }),
        ];
        plan.users.push(UserPlan {
            number,
            name: format!("bad-{number}"),
            devices,
            operates: false,
            keeps_tokens: false,
        });
    }
    plan.hostile = 3;
    plan
}

fn slowest_ms(plan: Plan) -> u64 {
    let mut world = World::new(plan, Show::Hash);
    world.step_through(15 * SECOND).expect("all promises are kept meanwhile");
    let device = world.device(0, 0);
    assert!(device.position() > 100, "it was busy: {}", device.position());
    device.slowest_ms()
}

#[test]
fn nobody_is_slower_for_the_sake_of_those_who_do_not_read() {
    let (alone, among) = (slowest_ms(alone(1)), slowest_ms(among_others(1)));
    assert!(among <= alone + COST_MS, "{alone} ms alone, {among} ms among others");
}
