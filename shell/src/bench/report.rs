//! What was measured, as lines of JSON while it runs, and as a table at its end: medians, and in brackets
//! the least and the most.

use super::child::progress;
use super::stage::Measured;
use crate::cli::{BenchScenario, say};
use serde_json::{Map, Value, json};

/// What was measured of one arm in one round: the figure's name, with its unit, and its value.
pub(super) type Figures = Vec<(&'static str, f64)>;

/// Bytes of a mebibyte.
pub(super) const MIB: f64 = 1_048_576.0;

/// One scenario's measurements.
#[derive(Debug)]
pub(super) struct Report {
    scenario: BenchScenario,
    is_json: bool,
    /// Arms in the order in which they came, with their rounds.
    arms: Vec<(String, Vec<Figures>)>,
    ratios: Vec<Ratio>,
    /// Figures in which every arm is compared with every other.
    pairwise: Vec<&'static str>,
    /// What is to be known of an arm, besides its figures.
    notes: Vec<(String, String)>,
}

/// One arm's figure over another's, round by round.
#[derive(Clone, Debug)]
struct Ratio {
    figure: &'static str,
    over: String,
    under: String,
    goal: &'static str,
}

impl Ratio {
    /// Without a goal.
    fn of(figure: &'static str, over: &str, under: &str) -> Self {
        Self { figure, over: over.to_owned(), under: under.to_owned(), goal: "" }
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
            notes: Vec::new(),
        }
    }

    /// Keeps what was measured of this arm in one more round.
    pub(super) fn add(&mut self, arm: &str, figures: Figures) {
        let index = self.arms.iter().position(|(name, _)| name == arm).unwrap_or(self.arms.len());
        if index == self.arms.len() {
            self.arms.push((arm.to_owned(), Vec::new()));
        }
        let round = self.arms[index].1.len() + 1;
        if self.is_json {
            let mut line = Map::new();
            line.insert("scenario".into(), json!(self.scenario.to_string()));
            line.insert("arm".into(), json!(arm));
            line.insert("round".into(), json!(round));
            line.extend(figures.iter().map(|(name, value)| ((*name).to_owned(), json!(value))));
            say(&Value::Object(line).to_string());
        }
        let words: Vec<String> =
            figures.iter().map(|(name, value)| format!("{name} {}", number(*value))).collect();
        progress(&format!("{} {arm}, round {round}: {}\n", self.scenario, words.join(" · ")));
        self.arms[index].1.push(figures);
    }

    /// Says at the end how one arm's figure compares with another's, and what is wanted.
    pub(super) fn compare(&mut self, figure: &'static str, over: &str, under: &str, goal: &'static str) {
        self.ratios.push(Ratio { figure, over: over.to_owned(), under: under.to_owned(), goal });
    }

    /// Says at the end how every arm compares with every other.
    pub(super) fn compare_all(&mut self, figure: &'static str) {
        self.pairwise.push(figure);
    }

    /// Says at the end what is to be known of an arm, whether it has figures or not.
    pub(super) fn note(&mut self, arm: &str, note: &str) {
        progress(&format!("{} {arm}: {note}\n", self.scenario));
        self.notes.push((arm.to_owned(), note.to_owned()));
    }

    /// Prints the table, or the lines that sum it up.
    pub(super) fn finish(self) {
        if self.is_json {
            for line in self.sum_up() {
                say(&line.to_string());
            }
        } else {
            say(&self.table());
        }
    }

    fn values(&self, arm: &str, figure: &str) -> Vec<f64> {
        let rounds = self.arms.iter().filter(|(name, _)| name == arm).flat_map(|(_, rounds)| rounds);
        rounds.filter_map(|it| it.iter().find(|(name, _)| *name == figure)).map(|(_, value)| *value).collect()
    }

    /// Round by round, one over the other.
    fn ratio(&self, ratio: &Ratio) -> Vec<f64> {
        let over = self.values(&ratio.over, ratio.figure);
        let under = self.values(&ratio.under, ratio.figure);
        over.iter().zip(under).filter(|(_, under)| *under > 0.0).map(|(over, under)| over / under).collect()
    }

    fn figures(&self) -> Vec<&'static str> {
        let mut names = Vec::new();
        for (name, _) in self.arms.iter().flat_map(|(_, rounds)| rounds).flatten() {
            if !names.contains(name) {
                names.push(name);
            }
        }
        names
    }

    fn table(&self) -> String {
        let mut rows = vec![vec![self.scenario.to_string()]];
        rows[0].extend(self.arms.iter().map(|(arm, _)| arm.clone()));
        for figure in self.figures() {
            let cells = self.arms.iter().map(|(arm, _)| spread(&self.values(arm, figure)));
            rows.push(std::iter::once(figure.to_owned()).chain(cells).collect());
        }
        let mut text = align(&rows);
        for ratio in &self.ratios {
            let (over, under, figure) = (&ratio.over, &ratio.under, ratio.figure);
            let spread = spread(&self.ratio(ratio));
            let goal = if ratio.goal.is_empty() { String::new() } else { format!(" (goal: {})", ratio.goal) };
            text.push_str(&format!("\n{figure}, {over} : {under} = {spread}{goal}"));
        }
        for figure in &self.pairwise {
            text.push_str(&format!("\n\n{}", align(&self.matrix(figure))));
        }
        if !self.notes.is_empty() {
            text.push('\n');
        }
        for (arm, note) in &self.notes {
            text.push_str(&format!("\n{arm}: {note}"));
        }
        text.push('\n');
        text
    }

    /// Each arm's figure over each other's: medians of the rounds' ratios.
    fn matrix(&self, figure: &'static str) -> Vec<Vec<String>> {
        let mut rows = vec![vec![format!("{figure}, row : column")]];
        rows[0].extend(self.arms.iter().map(|(arm, _)| arm.clone()));
        for (over, _) in &self.arms {
            let cells =
                self.arms.iter().map(|(under, _)| match self.ratio(&Ratio::of(figure, over, under)) {
                    _ if over == under => String::new(),
                    ratio => middle(&ratio).map_or("–".to_owned(), |(median, _, _)| number(median)),
                });
            rows.push(std::iter::once(over.clone()).chain(cells).collect());
        }
        rows
    }

    /// Every ratio that is told: those with a goal, and all pairs where all are compared.
    fn all_ratios(&self) -> Vec<Ratio> {
        let mut all = self.ratios.clone();
        for figure in &self.pairwise {
            for (over, _) in &self.arms {
                let others = self.arms.iter().filter(|(under, _)| under != over);
                all.extend(others.map(|(under, _)| Ratio::of(figure, over, under)));
            }
        }
        all
    }

    fn sum_up(&self) -> Vec<Value> {
        let mut lines = Vec::new();
        for (arm, rounds) in &self.arms {
            for figure in self.figures() {
                if let Some((median, least, most)) = middle(&self.values(arm, figure)) {
                    lines.push(json!({ "scenario": self.scenario.to_string(), "arm": arm, "figure": figure,
                        "rounds": rounds.len(), "median": median, "least": least, "most": most }));
                }
            }
        }
        for ratio in &self.all_ratios() {
            if let Some((median, least, most)) = middle(&self.ratio(ratio)) {
                lines.push(json!({ "scenario": self.scenario.to_string(), "figure": ratio.figure,
                    "over": ratio.over, "under": ratio.under, "median": median, "least": least, "most": most,
                    "goal": ratio.goal }));
            }
        }
        let notes = self.notes.iter();
        lines.extend(
            notes.map(
                |(arm, note)| json!({ "scenario": self.scenario.to_string(), "arm": arm, "note": note }),
            ),
        );
        lines
    }
}

/// The figures that every arm has in which events flow.
pub(super) fn flow(measured: Measured) -> Figures {
    let Measured { tally, cpu, resident, told } = measured;
    let per_event = |amount: u64| amount as f64 / tally.delivered.max(1) as f64;
    let seconds = tally.elapsed.max(1) as f64 / 1e6;
    let mut figures = vec![
        ("published", tally.published as f64),
        ("delivered", tally.delivered as f64),
        ("delivered/s", tally.delivered as f64 / seconds),
        ("processor µs/event", per_event(cpu)),
        ("wire bytes/event", per_event(tally.wire_bytes)),
        ("resident MiB", resident as f64 / MIB),
    ];
    if let Some(latency) = tally.latency {
        let parts = [("p50 ms", latency.p50), ("p99 ms", latency.p99), ("p99.9 ms", latency.p999)];
        figures.extend(parts.map(|(name, micros)| (name, micros as f64 / 1e3)));
        figures.push(("longest ms", latency.max as f64 / 1e3));
    }
    figures.extend(told);
    figures
}

/// The median, the least and the most.
fn middle(values: &[f64]) -> Option<(f64, f64, f64)> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (least, most) = (*sorted.first()?, *sorted.last()?);
    let half = sorted.len() / 2;
    let median = if sorted.len() % 2 == 1 { sorted[half] } else { (sorted[half - 1] + sorted[half]) / 2.0 };
    Some((median, least, most))
}

fn spread(values: &[f64]) -> String {
    match middle(values) {
        None => "–".to_owned(),
        Some((median, _, _)) if values.len() == 1 => number(median),
        Some((median, least, most)) => format!("{} [{}–{}]", number(median), number(least), number(most)),
    }
}

/// Three digits, or all before the point.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        it if it >= 99.95 => format!("{value:.0}"),
        it if it >= 9.995 => format!("{value:.1}"),
        it if it >= 0.9995 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Columns as wide as their widest cell.
fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_of_the_same_round() {
        let mut report = Report::new(BenchScenario::Stalled, false);
        for (with, without) in [(11.0, 10.0), (30.0, 20.0), (5.0, 5.0)] {
            report.add("with", vec![("p99 ms", with)]);
            report.add("without", vec![("p99 ms", without)]);
        }
        report.compare("p99 ms", "with", "without", "at most 1.10");
        let table = report.table();
        assert!(table.contains("p99 ms   11.0 [5.00–30.0]  10.0 [5.00–20.0]"), "{table}");
        assert!(table.contains("p99 ms, with : without = 1.10 [1.00–1.50] (goal: at most 1.10)"), "{table}");
        assert_eq!(report.sum_up().len(), 3);
    }

    #[test]
    fn every_arm_is_compared_with_every_other() {
        let mut report = Report::new(BenchScenario::Live, false);
        for (arm, value) in [("one", 2.0), ("two", 8.0), ("none", 0.0)] {
            report.add(arm, vec![("p99 ms", value)]);
        }
        report.compare_all("p99 ms");
        report.note("three", "skipped: it is not installed");
        let table = report.table();
        assert!(
            table.contains("\none                         0.250  –\ntwo                   4.00         –\n"),
            "{table}"
        );
        assert!(table.ends_with("\nthree: skipped: it is not installed\n"), "{table}");
        let lines = report.sum_up();
        assert!(lines.iter().any(|line| line["over"] == "two" && line["median"] == 4.0), "{lines:?}");
        assert!(lines.iter().any(|line| line["arm"] == "three" && line["note"].is_string()), "{lines:?}");
    }

    #[test]
    fn numbers_have_three_digits() {
        let numbers = [0.0, 0.04567, 0.99951, 1.0, 9.994, 12.34, 99.94, 1234.5].map(number);
        assert_eq!(numbers, ["0", "0.046", "1.00", "1.00", "9.99", "12.3", "99.9", "1234"]);
    }
}
