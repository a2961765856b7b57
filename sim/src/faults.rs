//! What goes wrong: a list that is drawn from the seed before the run.

use crate::dice::Dice;
use crate::pipe::{Way, ZONES};
use crate::schedule::{MS, Micros, SECOND};
use serde::{Deserialize, Serialize};

/// One thing that goes wrong. Those with a `time` last so long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// A connection breaks; `pick` says which of the open ones.
    Reset {
        /// Modulo the number of open connections.
        pick: u64,
    },
    /// A connection swallows everything.
    Hole {
        /// Modulo the number of open connections.
        pick: u64,
        /// How long.
        time: Micros,
    },
    /// A zone is cut off, in one direction or both.
    Partition {
        /// Which.
        zone: usize,
        /// In which directions.
        ways: Vec<Way>,
        /// How long.
        time: Micros,
    },
    /// Every way is longer.
    Slowness {
        /// So many times.
        factor: u64,
        /// How long.
        time: Micros,
    },
    /// All connections break.
    DropAll,
    /// SIGKILL; the daemon is started again after this.
    Kill {
        /// How long it is down.
        time: Micros,
    },
    /// SIGKILL, or a loss of power, as soon as the store does this.
    Ambush {
        /// In the middle of what.
        during: Moment,
        /// How long it is down.
        time: Micros,
        /// Whether it is the power that goes.
        #[serde(default)]
        power: bool,
    },
    /// The machine loses its power.
    PowerLoss {
        /// How long it is down.
        time: Micros,
    },
    /// The daemon crashes exactly between its next commit and its hearing of it.
    CrashAtCommit {
        /// How long it is down.
        time: Micros,
        /// Whether it is the power that goes.
        power: bool,
    },
    /// The machine loses its power and its disk: it comes back with an empty one.
    NewDisk {
        /// How long it is down.
        time: Micros,
    },
    /// SIGTERM: the daemon goes down when it likes, and is started again after this.
    Drain {
        /// How long it is down.
        time: Micros,
        /// A second one comes after so long, if one comes.
        hurry: Option<Micros>,
    },
    /// The process stands still.
    Stall {
        /// How long.
        time: Micros,
    },
    /// Syncs take this long on average.
    SlowDisk {
        /// The mean.
        sync: Micros,
        /// How long.
        time: Micros,
    },
    /// The disk takes nothing new.
    FullDisk {
        /// How long.
        time: Micros,
    },
    /// Little memory is left.
    LittleMemory {
        /// How long.
        time: Micros,
    },
    /// Syncs fail, until the process has been started again.
    BrokenDisk {
        /// How long it is down.
        time: Micros,
    },
    /// Tokens are signed with a new key from now on, and the one of before is good for a while.
    RotateKeys {
        /// How long.
        time: Micros,
    },
    /// The wall clock jumps, in milliseconds.
    Jump {
        /// By how much.
        by: i64,
    },
}

/// What a crash waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Moment {
    /// Between append and appended.
    Commit,
    /// Folding.
    Fold,
}

impl Fault {
    /// Whether connections end by it.
    pub fn cuts(&self) -> bool {
        match self {
            Self::Reset { .. }
            | Self::Hole { .. }
            | Self::Partition { .. }
            | Self::DropAll
            | Self::Kill { .. }
            | Self::Ambush { .. }
            | Self::PowerLoss { .. }
            | Self::CrashAtCommit { .. }
            | Self::NewDisk { .. }
            | Self::Drain { .. }
            | Self::Stall { .. }
            | Self::BrokenDisk { .. } => true,
            Self::Slowness { .. }
            | Self::SlowDisk { .. }
            | Self::FullDisk { .. }
            | Self::LittleMemory { .. }
            | Self::RotateKeys { .. }
            | Self::Jump { .. } => false,
        }
    }

    /// How long it lasts, if it lasts.
    pub fn time(&self) -> Option<Micros> {
        match self {
            Self::Hole { time, .. }
            | Self::Partition { time, .. }
            | Self::Slowness { time, .. }
            | Self::Stall { time }
            | Self::SlowDisk { time, .. }
            | Self::LittleMemory { time }
            | Self::RotateKeys { time }
            | Self::FullDisk { time } => Some(*time),
            Self::Reset { .. }
            | Self::DropAll
            | Self::Kill { .. }
            | Self::Ambush { .. }
            | Self::PowerLoss { .. }
            | Self::CrashAtCommit { .. }
            | Self::NewDisk { .. }
            | Self::BrokenDisk { .. }
            | Self::Drain { .. }
            | Self::Jump { .. } => None,
        }
    }
}

/// Draws one fault of a family.
type Draw = fn(&mut Dice) -> Fault;

/// Draws what goes wrong before `until`. A family is on in half of the seeds.
pub fn draw(dice: &mut Dice, until: Micros) -> Vec<(Micros, Fault)> {
    let mut faults = Vec::new();
    let families: [(Micros, Draw); 12] = [
        (20, |dice| Fault::Reset { pick: dice.any() }),
        (40, |dice| Fault::Hole { pick: dice.any(), time: dice.log_uniform(SECOND, 60 * SECOND) }),
        (12, partition),
        (30, |dice| Fault::Slowness {
            factor: dice.between(2, 10),
            time: dice.log_uniform(SECOND, 20 * SECOND),
        }),
        (30, |_| Fault::DropAll),
        (25, |dice| Fault::Kill { time: dice.log_uniform(50 * MS, 5 * SECOND) }),
        (60, |dice| Fault::Ambush {
            during: if dice.chance(1, 2) { Moment::Commit } else { Moment::Fold },
            time: dice.log_uniform(50 * MS, 5 * SECOND),
            power: dice.chance(1, 2),
        }),
        (40, |dice| Fault::PowerLoss { time: dice.log_uniform(500 * MS, 20 * SECOND) }),
        (20, |dice| Fault::CrashAtCommit {
            time: dice.log_uniform(MS, 5 * SECOND),
            power: dice.chance(1, 2),
        }),
        (60, |dice| Fault::Stall { time: dice.log_uniform(100 * MS, 20 * SECOND) }),
        (40, disk),
        (60, |dice| {
            let by = dice.log_uniform(1_000, 3_600_000) as i64;
            Fault::Jump { by: if dice.chance(1, 2) { by } else { -by } }
        }),
    ];
    for (every, family) in families {
        if dice.chance(1, 2) {
            let mut at = dice.exponential(every * SECOND);
            while at < until {
                faults.push((at, family(dice)));
                at += dice.exponential(every * SECOND);
            }
        }
    }
    if dice.chance(1, 20) {
        let at = dice.below(until);
        faults.extend(
            (0..3).map(|n| (at + n * 700 * MS, Fault::Kill { time: dice.log_uniform(MS, 600 * MS) })),
        );
    }
    if dice.chance(1, 20) {
        faults.push((dice.below(until), Fault::NewDisk { time: dice.log_uniform(500 * MS, 5 * SECOND) }));
    }
    faults.sort_by_key(|(at, _)| *at);
    faults
}

/// Draws when the daemon is told to go down: drawn after all else, so that seeds keep what they were.
pub fn drains(dice: &mut Dice, until: Micros) -> Vec<(Micros, Fault)> {
    let mut faults = Vec::new();
    let mut at = dice.exponential(30 * SECOND);
    while at < until {
        let time = dice.log_uniform(50 * MS, 5 * SECOND);
        let hurry = dice.chance(1, 4).then(|| dice.log_uniform(MS, 10 * SECOND));
        faults.push((at, Fault::Drain { time, hurry }));
        at += dice.exponential(30 * SECOND);
    }
    faults
}

/// Draws when keys are replaced: drawn with chances of its own.
pub fn rotations(dice: &mut Dice, until: Micros) -> Vec<(Micros, Fault)> {
    let mut faults = Vec::new();
    let mut at = dice.exponential(20 * SECOND);
    while at < until {
        faults.push((at, Fault::RotateKeys { time: dice.log_uniform(MS, 30 * SECOND) }));
        at += dice.exponential(20 * SECOND);
    }
    faults
}

fn partition(dice: &mut Dice) -> Fault {
    let ways = match dice.below(4) {
        0 => vec![Way::Up],
        1 => vec![Way::Down],
        _ => Way::BOTH.to_vec(),
    };
    let longest = if dice.chance(1, 10) { 120 * SECOND } else { 8 * SECOND };
    Fault::Partition {
        zone: dice.below(ZONES as u64) as usize,
        ways,
        time: dice.log_uniform(10 * MS, longest),
    }
}

fn disk(dice: &mut Dice) -> Fault {
    match dice.below(4) {
        0 => Fault::FullDisk { time: dice.log_uniform(SECOND, 30 * SECOND) },
        1 => Fault::BrokenDisk { time: dice.log_uniform(100 * MS, 5 * SECOND) },
        _ => Fault::SlowDisk {
            sync: dice.log_uniform(20 * MS, 4 * SECOND),
            time: dice.log_uniform(SECOND, 15 * SECOND),
        },
    }
}
