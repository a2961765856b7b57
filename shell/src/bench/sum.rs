//! What a scenario's rounds come to: medians with the least and the most, ratios within rounds, and exponents
//! of growth; as a table or as lines of JSON.

use super::report::{Curve, Ratio, Report};
use super::table::{align, middle, number, spread};
use crate::cli::say;
use serde_json::{Value, json};

/// More arms than these stand below each other.
const ARMS_ACROSS: usize = 9;

impl Report {
    /// Prints the table, or the lines that sum it up.
    pub(super) fn finish(&self) {
        if self.is_json {
            for line in self.sum_up() {
                say(&line.to_string());
            }
        } else {
            say(&self.table());
        }
    }

    /// The figure grows with what there is to the power of this.
    pub(super) fn exponent(&self, curve: &Curve) -> Option<f64> {
        let points = curve
            .points
            .iter()
            .flat_map(|(at, arm)| self.values(arm, &curve.figure).into_iter().map(|value| (*at, value)));
        slope(points.filter(|(at, value)| *at > 0.0 && *value > 0.0).map(|(at, value)| (at.ln(), value.ln())))
    }

    fn table(&self) -> String {
        let mut text = align(&self.rows());
        for ratio in &self.ratios {
            let Ratio { figure, over, under, goal } = ratio;
            let (ratios, rounds) = self.ratio(ratio);
            text.push_str(&format!("\n{figure}, {over} : {under} = {}", spread(&ratios)));
            if ratios.len() < rounds {
                text.push_str(&format!(", in {} of {rounds} rounds: else {under} is 0", ratios.len()));
            }
            if !goal.is_empty() {
                text.push_str(&format!(" (goal: {goal})"));
            }
        }
        for curve in &self.curves {
            let exponent = self.exponent(curve).map_or("–".to_owned(), |it| format!("{it:.2}"));
            text.push_str(&format!("\n{} ~ ({}) ^ {exponent}", curve.figure, curve.with));
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

    /// Figures below each other and arms side by side, or, where those are many, the other way.
    fn rows(&self) -> Vec<Vec<String>> {
        let (figures, arms) = (self.figures(), self.arms.iter().map(|arm| arm.name.as_str()));
        let scenario = self.scenario.to_string();
        if arms.len() > ARMS_ACROSS {
            let head = std::iter::once(scenario).chain(figures.iter().map(|it| (*it).to_owned())).collect();
            let line = |arm: &str| {
                let cells = figures.iter().map(|figure| spread(&self.values(arm, figure)));
                std::iter::once(arm.to_owned()).chain(cells).collect()
            };
            return std::iter::once(head).chain(arms.map(line)).collect();
        }
        let head = std::iter::once(scenario).chain(arms.clone().map(str::to_owned)).collect();
        let line = |figure: &str| {
            let cells = arms.clone().map(|arm| spread(&self.values(arm, figure)));
            std::iter::once(figure.to_owned()).chain(cells).collect()
        };
        std::iter::once(head).chain(figures.into_iter().map(line)).collect()
    }

    /// Each arm's figure over each other's: medians of the rounds' ratios.
    fn matrix(&self, figure: &str) -> Vec<Vec<String>> {
        let names = || self.arms.iter().map(|arm| arm.name.as_str());
        let head =
            std::iter::once(format!("{figure}, row : column")).chain(names().map(str::to_owned)).collect();
        let cell = |over: &str, under: &str| match self.ratio(&Ratio::of(figure, over, under)) {
            _ if over == under => String::new(),
            (ratios, _) => middle(&ratios).map_or("–".to_owned(), |(median, _, _)| number(median)),
        };
        let line = |over: &str| {
            std::iter::once(over.to_owned()).chain(names().map(|under| cell(over, under))).collect()
        };
        std::iter::once(head).chain(names().map(line)).collect()
    }

    /// All pairs of arms, where all are compared.
    fn pairs(&self) -> Vec<Ratio> {
        let mut all = Vec::new();
        for figure in &self.pairwise {
            for over in &self.arms {
                let others = self.arms.iter().filter(|under| under.name != over.name);
                all.extend(others.map(|under| Ratio::of(figure, &over.name, &under.name)));
            }
        }
        all
    }

    /// As lines of JSON.
    pub(super) fn sum_up(&self) -> Vec<Value> {
        let scenario = self.scenario.to_string();
        let mut lines = Vec::new();
        for arm in &self.arms {
            for figure in self.figures() {
                if let Some((median, least, most)) = middle(&self.values(&arm.name, figure)) {
                    lines.push(json!({ "scenario": scenario, "arm": arm.name, "figure": figure,
                        "rounds": arm.rounds.len(), "median": median, "least": least, "most": most }));
                }
            }
        }
        let all = self.ratios.iter().cloned().map(|it| (it, false));
        for (ratio, is_pairwise) in all.chain(self.pairs().into_iter().map(|it| (it, true))) {
            let (ratios, rounds) = self.ratio(&ratio);
            if let Some((median, least, most)) = middle(&ratios) {
                lines.push(json!({ "scenario": scenario, "figure": ratio.figure, "over": ratio.over,
                    "under": ratio.under, "rounds": ratios.len(), "of": rounds, "median": median, "least": least, "most": most,
                    "goal": ratio.goal, "pairwise": is_pairwise }));
            }
        }
        for curve in &self.curves {
            lines.push(json!({ "scenario": scenario, "figure": curve.figure, "with": curve.with,
                "exponent": self.exponent(curve), "points": curve.points }));
        }
        let notes = self.notes.iter();
        lines.extend(notes.map(|(arm, note)| json!({ "scenario": scenario, "arm": arm, "note": note })));
        lines
    }
}

/// By least squares; none where there are not two different places.
fn slope(points: impl Iterator<Item = (f64, f64)>) -> Option<f64> {
    let points: Vec<(f64, f64)> = points.collect();
    let mean =
        |pick: fn(&(f64, f64)) -> f64| points.iter().map(pick).sum::<f64>() / points.len().max(1) as f64;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let both: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let square: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    (square > 0.0).then(|| both / square)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::BenchScenario;

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
    fn what_is_compared_is_of_the_same_round() {
        let mut report = Report::new(BenchScenario::Live, false);
        for (with, without) in [(4.0, Some(2.0)), (9.0, None), (5.0, Some(0.0)), (8.0, Some(4.0))] {
            report.add("with", vec![("p99 ms", with)]);
            report.add("without", without.map(|without| ("p99 ms", without)).into_iter().collect());
        }
        report.compare("p99 ms", "with", "without", "at most 3");
        let (ratio, table) = (report.ratios[0].clone(), report.table());
        assert_eq!(report.ratio(&ratio), (vec![2.0, 2.0], 3));
        assert!(table.contains("in 2 of 3 rounds: else without is 0 (goal: at most 3)"), "{table}");
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
    fn an_exponent_is_the_slope_on_logarithms() {
        let mut report = Report::new(BenchScenario::Curves, false);
        let points: Vec<(f64, String)> = [10.0, 30.0, 100.0].map(|at| (at, format!("{at} users"))).into();
        for (at, arm) in &points {
            report.add(arm, vec![("processor µs/event", 5.0 * at.sqrt())]);
        }
        let curve = Curve { figure: "processor µs/event".into(), with: "users".into(), points };
        assert!((report.exponent(&curve).unwrap() - 0.5).abs() < 1e-9);
        let one = Curve { points: curve.points[..1].to_vec(), ..curve.clone() };
        assert_eq!(report.exponent(&one), None, "one point tells nothing");
        report.grows(curve);
        assert!(report.table().contains("\nprocessor µs/event ~ (users) ^ 0.50"), "{}", report.table());
    }
}
