//! What a seed means: the whole cast of a world and all that goes wrong, drawn before it begins.
//!
//! A plan is data: whoever is left out of it takes nobody else's chances along, so it can be shrunk, written
//! to a file and played again.

mod variants;

use crate::bugs;
use crate::dice::Dice;
use crate::faults::{self, Fault};
use crate::pipe::ZONES;
use crate::play::Which;
use crate::schedule::{MS, Micros, SECOND};
use crate::settings;
use runcast_core::config::Config;
use runcast_core::planted::Planted;
use runcast_core::time::Span;
use serde::{Deserialize, Serialize};

/// A world before it begins.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// In which world it is run.
    #[serde(default)]
    pub world: Which,
    /// Where all chance comes from.
    pub seed: u64,
    /// The daemon's.
    #[serde(with = "settings")]
    pub config: Config,
    /// Who asks and watches.
    pub users: Vec<UserPlan>,
    /// Who executes.
    pub workers: Vec<WorkerPlan>,
    /// How many hostile clients there are.
    pub hostile: usize,
    /// How many of them mean no good in how they speak.
    #[serde(default)]
    pub vandals: usize,
    /// How many workers are broken.
    #[serde(default)]
    pub rogues: usize,
    /// Who says something on topics.
    #[serde(default)]
    pub publishers: Vec<PublisherPlan>,
    /// What goes wrong, and when.
    pub faults: Vec<(Micros, Fault)>,
    /// When everything is healed, and nobody asks for runs any more.
    pub heal_at: Micros,
    /// Of 100 pieces of traffic so many are lost on their way, and sent again later.
    #[serde(default)]
    pub loss: u64,
    /// The numbers of the users who are not healed.
    #[serde(default)]
    pub broken: Vec<usize>,
    /// Whether the storage thread commits what waits in pieces.
    #[serde(default)]
    pub splits: bool,
    /// Whether the store finds its free pages after a crash by reading all of its file.
    #[serde(default)]
    pub repairs_fully: bool,
    /// Whether the disk rots after all is over.
    #[serde(default)]
    pub rots: bool,
    /// The bug that the daemon has, if it has one.
    #[serde(default, with = "bugs")]
    pub planted: Planted,
}

/// A user.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UserPlan {
    /// Its number, by which the oracles know it.
    pub number: usize,
    /// As the token names it.
    pub name: String,
    /// Its devices.
    pub devices: Vec<DevicePlan>,
    /// Whether its tokens let it read what is for operators.
    #[serde(default)]
    pub operates: bool,
    /// Whether its tokens say when they were made, and are used more than once.
    #[serde(default)]
    pub keeps_tokens: bool,
}

/// The application of such a device does not work before all is healed.
pub const NEVER_ACKS: u64 = u64::MAX;

/// How a device's connection lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Habit {
    /// Always there.
    Online,
    /// Comes and goes every few seconds.
    Flapping,
    /// Is away for minutes.
    Away,
    /// There, but now and then does not read for a while.
    Stuck,
    /// The same for longer than the daemon has patience, and says all the while that it is there.
    Deaf,
}

/// A device.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DevicePlan {
    /// Names its chances.
    pub dice: u64,
    /// Its name; a viewer has none.
    pub name: Option<String>,
    /// How it comes and goes.
    pub habit: Habit,
    /// It acknowledges after so many events (or half a second); never, if they are [`NEVER_ACKS`].
    pub ack_every: u64,
    /// The window it asks for.
    pub window: Option<u64>,
    /// Its network.
    pub network: Network,
    /// The mean time between two requests; `None` if it only watches.
    pub ask_every: Option<Micros>,
    /// The most deltas of a run that it asks for.
    pub deltas_max: u64,
    /// Its runs have long words.
    #[serde(default)]
    pub is_bulky: bool,
    /// The topics that it reads at first.
    #[serde(default)]
    pub topics: Vec<String>,
}

/// A publisher.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PublisherPlan {
    /// Names its chances.
    pub dice: u64,
    /// Its name.
    pub name: String,
    /// Its network.
    pub network: Network,
    /// The mean time between two publications.
    pub every: Micros,
    /// The users whom it has erased now and then, as an operator.
    #[serde(default)]
    pub erases: Vec<String>,
    /// The users whom it has sent away now and then, or their tokens revoked.
    #[serde(default)]
    pub sends_away: Vec<String>,
    /// Whether it asks now and then whether the daemon is ready.
    #[serde(default)]
    pub asks_ready: bool,
}

/// What a client's connections are like.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Network {
    /// Its zone.
    pub zone: usize,
    /// Time one way.
    pub latency: Micros,
    /// Bytes a second towards it.
    pub bytes_per_s: u64,
    /// Bytes that may be under way.
    pub buffer: usize,
    /// Whether bytes come and go a few at a time.
    pub tiny: bool,
}

/// A worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkerPlan {
    /// Names its chances.
    pub dice: u64,
    /// Its name.
    pub name: String,
    /// The agents it serves, and how many runs of each.
    pub agents: Vec<(String, u64)>,
    /// Its network.
    pub network: Network,
    /// The mean time until its process crashes.
    pub crash_every: Option<Micros>,
    /// It sends on when as much is unacknowledged as it was told.
    #[serde(default)]
    pub overruns: bool,
    /// When its machine is gone for good, nobody knowing.
    pub dies_at: Option<Micros>,
    /// The mean time until it loses its connection, and how long it stays away then.
    pub flap_every: Option<(Micros, Micros)>,
    /// Some of its tokens expire soon.
    #[serde(default)]
    pub short_tokens: bool,
    /// Of 100 offers it declines so many …
    pub declines: u64,
    /// … and does not answer so many.
    pub ignores: u64,
    /// Of 100 messages it repeats so many.
    pub repeats: u64,
    /// Of 100 runs it hangs in so many.
    pub hangs: u64,
    /// Of 100 cancels it ignores so many.
    pub stubborn: u64,
    /// What else is odd about it.
    #[serde(default)]
    pub quirks: QuirksPlan,
}

/// What is odd about a worker, and is drawn after all else.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct QuirksPlan {
    /// Of 100 bursts of messages it sends so many out of order …
    pub shuffles: u64,
    /// … and leaves a message out of so many.
    pub skips: u64,
    /// The mean time until it wants no more runs.
    pub drains_every: Option<Micros>,
}

impl Network {
    /// A good one.
    pub fn good(zone: usize) -> Self {
        Self { zone, latency: 5 * MS, bytes_per_s: 2_000_000, buffer: 64 * 1024, tiny: false }
    }

    /// Whether only faults can keep something from getting through in time.
    pub fn is_good(&self) -> bool {
        let per_round_trip = self.buffer as u64 * SECOND / (2 * self.latency).max(1);
        self.bytes_per_s.min(per_round_trip) >= 500_000 && !self.tiny
    }

    fn draw(dice: &mut Dice) -> Self {
        let slow = dice.chance(1, 12);
        Self {
            zone: dice.below(ZONES as u64) as usize,
            latency: dice.log_uniform(200, 80 * MS),
            bytes_per_s: if slow { dice.log_uniform(100, 10_000) } else { 2_000_000 },
            buffer: dice.log_uniform(1024, 256 * 1024) as usize,
            tiny: dice.chance(1, 5),
        }
    }
}

impl DevicePlan {
    /// A device that is always there and only watches.
    pub fn watching(name: &str) -> Self {
        Self {
            dice: 1_000,
            name: Some(name.to_owned()),
            habit: Habit::Online,
            ack_every: 1,
            window: None,
            network: Network::good(0),
            ask_every: None,
            deltas_max: 20,
            is_bulky: false,
            topics: Vec::new(),
        }
    }

    fn draw(dice: &mut Dice, at: (usize, usize), ask_every: Option<Micros>, deltas_max: u64) -> Self {
        let (user, index) = at;
        let viewer = index > 0 && dice.chance(1, 8);
        Self {
            dice: 1_000 + (user * 10 + index) as u64,
            name: (!viewer).then(|| format!("device-{index}")),
            habit: dice.pick(&[
                Habit::Online,
                Habit::Online,
                Habit::Online,
                Habit::Flapping,
                Habit::Away,
                Habit::Stuck,
            ]),
            ack_every: if dice.chance(1, 15) { NEVER_ACKS } else { dice.pick(&[1, 1, 8, 48]) },
            window: dice.chance(1, 2).then(|| dice.log_uniform(1, 1024)),
            network: Network::draw(dice),
            ask_every,
            deltas_max,
            is_bulky: false,
            topics: Vec::new(),
        }
    }
}

impl WorkerPlan {
    /// A worker that does all it should.
    pub fn good(name: &str, agents: &[(&str, u64)]) -> Self {
        Self {
            dice: 2_000,
            name: name.to_owned(),
            agents: agents.iter().map(|(agent, slots)| ((*agent).to_owned(), *slots)).collect(),
            network: Network::good(2),
            crash_every: None,
            overruns: false,
            dies_at: None,
            flap_every: None,
            short_tokens: false,
            declines: 0,
            ignores: 0,
            repeats: 0,
            hangs: 0,
            stubborn: 0,
            quirks: QuirksPlan::default(),
        }
    }

    fn draw(dice: &mut Dice, index: usize, agents: &[&str], is_calm: bool) -> Self {
        // The first serves all, so that no agent is without a worker for good.
        let count = if index == 0 { agents.len() } else { dice.between(1, agents.len() as u64) as usize };
        let served: Vec<_> =
            (0..count).map(|n| (agents[(index + n) % agents.len()], dice.between(1, 8))).collect();
        let good = Self { dice: 2_000 + index as u64, ..Self::good(&format!("worker-{index}"), &served) };
        let network = Network { bytes_per_s: 2_000_000, ..Network::draw(dice) };
        if is_calm {
            return Self { network, ..good };
        }
        let percent = |dice: &mut Dice, most| if dice.chance(1, 3) { dice.between(1, most) } else { 0 };
        Self {
            network,
            crash_every: dice.chance(1, 4).then(|| dice.log_uniform(5 * SECOND, 40 * SECOND)),
            overruns: dice.chance(1, 6),
            dies_at: (index > 0 && dice.chance(1, 5)).then(|| dice.log_uniform(5 * SECOND, 60 * SECOND)),
            flap_every: dice.chance(1, 3).then(|| {
                (dice.log_uniform(2 * SECOND, 30 * SECOND), dice.log_uniform(100 * MS, 30 * SECOND))
            }),
            declines: percent(dice, 30),
            ignores: percent(dice, 10),
            repeats: percent(dice, 10),
            hangs: percent(dice, 10),
            stubborn: percent(dice, 50),
            ..good
        }
    }
}

/// The agents of every world.
pub const AGENTS: [&str; 3] = ["research", "write", "check"];

/// Whether runs of an agent may be executed again.
pub fn is_retryable(agent: &str) -> bool {
    agent == "check"
}

impl Plan {
    /// A world of nobody, in which nothing goes wrong; for scenarios to fill.
    pub fn empty(seed: u64) -> Self {
        Self {
            world: Which::default(),
            seed,
            config: settings::with_topics(Config::default()),
            users: Vec::new(),
            workers: Vec::new(),
            hostile: 0,
            vandals: 0,
            rogues: 0,
            publishers: Vec::new(),
            faults: Vec::new(),
            heal_at: 0,
            loss: 0,
            broken: Vec::new(),
            splits: false,
            repairs_fully: false,
            rots: false,
            planted: Planted::default(),
        }
    }

    /// The networks of all who have a place in the plan.
    pub fn networks(&mut self) -> impl Iterator<Item = &mut Network> {
        let devices = self.users.iter_mut().flat_map(|user| &mut user.devices);
        let devices = devices.map(|device| &mut device.network);
        let workers = self.workers.iter_mut().map(|worker| &mut worker.network);
        let publishers = self.publishers.iter_mut().map(|publisher| &mut publisher.network);
        devices.chain(workers).chain(publishers)
    }

    /// What a seed means in this world.
    pub fn draw_for(world: Which, seed: u64) -> Self {
        Self { world, ..Self::draw(seed) }
    }

    /// The world of a seed.
    pub fn draw(seed: u64) -> Self {
        let mut dice = Dice::new(seed, u64::MAX);
        let is_calm = dice.chance(1, 10);
        let heal_at = dice.log_uniform(8 * SECOND, 60 * SECOND);
        // What small worlds do not show, big ones may; but they cost ten times as much.
        let users_max = if dice.chance(1, 6) { 50 } else { 12 };
        let users = dice.log_uniform(1, users_max) as usize;
        let deltas_max = dice.log_uniform(3, 2000);
        let all_ask_every = dice.log_uniform(150 * MS, 3 * SECOND);
        let users =
            (0..users).map(|user| draw_user(&mut dice, user, users, all_ask_every, deltas_max)).collect();
        let workers = dice.between(1, 5) as usize;
        let workers =
            (0..workers).map(|index| WorkerPlan::draw(&mut dice, index, &AGENTS, is_calm)).collect();
        let hostile = if is_calm { 0 } else { dice.below(4) as usize };
        let faults = if is_calm { Vec::new() } else { faults::draw(&mut dice, heal_at) };
        let config = draw_config(&mut dice);
        let plan = Self { seed, config, users, workers, hostile, faults, heal_at, ..Self::empty(seed) };
        plan.with_variants(&mut dice, is_calm).with_more(is_calm)
    }
}

/// The first user is the most active, the second half as much, and so on.
fn draw_user(dice: &mut Dice, user: usize, users: usize, all_ask_every: Micros, deltas_max: u64) -> UserPlan {
    let shares: f64 = (1..=users).map(|rank| 1.0 / rank as f64).sum();
    let devices = dice.between(1, 4) as usize;
    let every = (all_ask_every as f64 * shares * (user + 1) as f64 * devices as f64) as Micros;
    let name = if user % 7 == 3 { format!("Zoë {user:03} ({user})") } else { format!("user-{user:03}") };
    let devices =
        (0..devices).map(|index| DevicePlan::draw(dice, (user, index), Some(every), deltas_max)).collect();
    UserPlan { number: user, name, devices, operates: false, keeps_tokens: false }
}

fn draw_config(dice: &mut Dice) -> Config {
    let mut config = settings::with_topics(Config::default());
    if dice.chance(1, 3) {
        config.runs.active = dice.between(1, 20) as usize;
        config.runs.active_per_user = dice.between(1, config.runs.active as u64) as usize;
    }
    if dice.chance(1, 4) {
        config.runs.queued = dice.log_uniform(2, 200) as usize;
        config.runs.queued_per_user = dice.between(1, config.runs.queued as u64) as usize;
    }
    if dice.chance(1, 4) {
        config.store.events_per_user = dice.log_uniform(100, 5_000);
    }
    if dice.chance(1, 4) {
        config.server.output = dice.log_uniform(8 * 1024, 256 * 1024) as usize;
    }
    if dice.chance(1, 4) {
        config.runs.lease = Span::secs(dice.between(3, 15));
        config.runs.start = Span::secs(dice.between(1, 5));
    }
    for agent in AGENTS {
        if dice.chance(1, 2)
            && let Some(agent) = runcast_core::ids::Agent::parse(agent)
        {
            config.agents.insert(agent, runcast_core::config::AgentConfig::default());
        }
    }
    config
}
