//! What was measured, as lines of JSON while it runs, and summed up at its end ([`sum`](super::sum)).

use super::child::progress;
use super::stage::Measured;
use super::table::number;
use crate::cli::{BenchScenario, say};
use serde_json::{Map, Value, json};

/// What was measured of one arm in one round: the figure's name, with its unit, and its value.
pub(super) type Figures = Vec<(&'static str, f64)>;

/// Bytes of a mebibyte.
pub(super) const MIB: f64 = 1_048_576.0;

/// One scenario's measurements.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) scenario: BenchScenario,
    pub(super) is_json: bool,
    /// In the order in which they came.
    pub(super) arms: Vec<Arm>,
    pub(super) ratios: Vec<Ratio>,
    /// Figures in which every arm is compared with every other.
    pub(super) pairwise: Vec<String>,
    pub(super) curves: Vec<Curve>,
    /// What is to be known of an arm, besides its figures.
    pub(super) notes: Vec<(String, String)>,
}

/// One thing that is measured beside others.
#[derive(Debug)]
pub(super) struct Arm {
    pub(super) name: String,
    /// The figures of each round.
    pub(super) rounds: Vec<Vec<(String, f64)>>,
}

/// One arm's figure over another's, round by round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ratio {
    pub(super) figure: String,
    pub(super) over: String,
    pub(super) under: String,
    /// In words; empty when none is set.
    pub(super) goal: String,
}

/// How a figure grows with something.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Curve {
    pub(super) figure: String,
    /// With what, as a name in the plural.
    pub(super) with: String,
    /// How much of it there is, and the arm that was measured there.
    pub(super) points: Vec<(f64, String)>,
}

impl Ratio {
    /// Without a goal.
    pub(super) fn of(figure: &str, over: &str, under: &str) -> Self {
        let (figure, over, under) = (figure.to_owned(), over.to_owned(), under.to_owned());
        Self { figure, over, under, goal: String::new() }
    }
}

impl Report {
    pub(super) const fn new(scenario: BenchScenario, is_json: bool) -> Self {
        Self {
            scenario,
            is_json,
            arms: Vec::new(),
            ratios: Vec::new(),
            pairwise: Vec::new(),
            curves: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Keeps what was measured of this arm in one more round, and says it.
    pub(super) fn add(&mut self, arm: &str, figures: Figures) {
        let figures: Vec<_> = figures.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let words: Vec<String> =
            figures.iter().map(|(name, value)| format!("{name} {}", number(*value))).collect();
        let mut line = Map::new();
        line.extend(figures.iter().map(|(name, value)| (name.clone(), json!(value))));
        let round = self.keep(arm, figures);
        if self.is_json {
            line.insert("scenario".into(), json!(self.scenario.to_string()));
            line.insert("arm".into(), json!(arm));
            line.insert("round".into(), json!(round));
            say(&Value::Object(line).to_string());
        }
        progress(&format!("{} {arm}, round {round}: {}\n", self.scenario, words.join(" · ")));
    }

    /// Keeps one more round of an arm, and tells its number.
    pub(super) fn keep(&mut self, arm: &str, figures: Vec<(String, f64)>) -> usize {
        let index = self.arms.iter().position(|it| it.name == arm).unwrap_or(self.arms.len());
        if index == self.arms.len() {
            self.arms.push(Arm { name: arm.to_owned(), rounds: Vec::new() });
        }
        self.arms[index].rounds.push(figures);
        self.arms[index].rounds.len()
    }

    /// Says at the end how one arm's figure compares with another's, and what is wanted.
    pub(super) fn compare(&mut self, figure: &str, over: &str, under: &str, goal: &str) {
        self.ratios.push(Ratio { goal: goal.to_owned(), ..Ratio::of(figure, over, under) });
    }

    /// Says at the end how every arm compares with every other.
    pub(super) fn compare_all(&mut self, figure: &str) {
        self.pairwise.push(figure.to_owned());
    }

    /// Says at the end how a figure grows.
    pub(super) fn grows(&mut self, curve: Curve) {
        self.curves.push(curve);
    }

    /// Says at the end what is to be known of an arm, whether it has figures or not.
    pub(super) fn note(&mut self, arm: &str, note: &str) {
        progress(&format!("{} {arm}: {note}\n", self.scenario));
        self.notes.push((arm.to_owned(), note.to_owned()));
    }

    /// Of each round that has it.
    pub(super) fn values(&self, arm: &str, figure: &str) -> Vec<f64> {
        self.rounds(arm).filter_map(|round| value(round, figure)).collect()
    }

    fn rounds(&self, arm: &str) -> impl Iterator<Item = &Vec<(String, f64)>> {
        self.arms.iter().filter(move |it| it.name == arm).flat_map(|it| &it.rounds)
    }

    /// Round by round, one arm's figure over another's, and in how many rounds both have it. Where the lower
    /// one is nothing there is no ratio.
    pub(super) fn ratio(&self, ratio: &Ratio) -> (Vec<f64>, usize) {
        let value = |round| value(round, &ratio.figure);
        let pairs = self.rounds(&ratio.over).zip(self.rounds(&ratio.under));
        let pairs: Vec<_> = pairs.filter_map(|(over, under)| value(over).zip(value(under))).collect();
        let ratios = pairs.iter().filter(|(_, under)| *under > 0.0).map(|(over, under)| over / under);
        (ratios.collect(), pairs.len())
    }

    /// The names of all figures.
    pub(super) fn figures(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for (name, _) in self.arms.iter().flat_map(|arm| &arm.rounds).flatten() {
            if !names.contains(&name.as_str()) {
                names.push(name.as_str());
            }
        }
        names
    }
}

fn value(round: &[(String, f64)], figure: &str) -> Option<f64> {
    round.iter().find(|(name, _)| name == figure).map(|(_, value)| *value)
}

/// The figures that every arm has in which events flow.
pub(super) fn flow(measured: Measured) -> Figures {
    let load = measured.load_share();
    let Measured { tally, cpu, resident, told, .. } = measured;
    let per_event = |amount: u64| amount as f64 / tally.delivered.max(1) as f64;
    let seconds = tally.elapsed.max(1) as f64 / 1e6;
    let mut figures = vec![
        ("published", tally.published as f64),
        ("delivered", tally.delivered as f64),
        ("delivered/s", tally.delivered as f64 / seconds),
        ("processor µs/event", per_event(cpu)),
        ("wire bytes/event", per_event(tally.wire_bytes)),
        ("resident MiB", resident as f64 / MIB),
        load,
        ("redelivered", tally.redelivered as f64),
    ];
    figures.extend(tally.held.map(|held| ("held", held as f64)));
    if let Some(latency) = tally.latency {
        let parts = [("p50 ms", latency.p50), ("p99 ms", latency.p99), ("p99.9 ms", latency.p999)];
        figures.extend(parts.map(|(name, micros)| (name, micros as f64 / 1e3)));
        figures.push(("longest ms", latency.max as f64 / 1e3));
    }
    figures.extend(told);
    figures
}
