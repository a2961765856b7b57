//! Pictures of what was measured, as SVG: a bar for each arm, with the least and the most of its rounds; or,
//! where it is told how a figure grows, its points on logarithmic axes with the line that fits them.

use super::report::{Curve, Report};
use super::table::{middle, spread};
use crate::cli::BenchScenario;
use std::fmt::Write;
use std::path::Path;

/// Sizes, in pixels.
const WIDTH: f64 = 760.0;
const TITLE: f64 = 30.0;
const BAR: f64 = 24.0;
const BARS_FROM: f64 = 150.0;
const BARS_TO: f64 = 560.0;
const PANEL: (f64, f64) = (WIDTH / 3.0, 230.0);
/// Room around the lines of one panel: left, above, right, below.
const MARGIN: (f64, f64, f64, f64) = (50.0, 34.0, 16.0, 36.0);

/// Writes the picture of a scenario into a directory, which is made if it is not there; nothing where there
/// is nothing to be seen.
///
/// # Errors
/// When it cannot be written.
pub(super) fn write(report: &Report, directory: &Path) -> std::io::Result<()> {
    let Some(picture) = draw(report) else { return Ok(()) };
    std::fs::create_dir_all(directory)?;
    std::fs::write(directory.join(format!("{}.svg", report.scenario)), picture)
}

fn draw(report: &Report) -> Option<String> {
    let (body, height) = if report.curves.is_empty() { bars(report) } else { curves(report) };
    (!body.is_empty()).then(|| {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
             height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#1f2937\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n"
        )
    })
}

/// What there is to be seen of a scenario.
const fn headlines(scenario: BenchScenario) -> &'static [&'static str] {
    match scenario {
        BenchScenario::Live | BenchScenario::Paced => &["processor µs/event", "p99 ms"],
        BenchScenario::Replay => &["processor µs/event"],
        BenchScenario::Idle => &["resident KiB/connection"],
        BenchScenario::Storm => &["caught up s"],
        BenchScenario::Stalled | BenchScenario::Hostile => &["p99 ms"],
        BenchScenario::Restart => &["ready s (goal: at most 1)"],
        BenchScenario::Store => &["events/s"],
        BenchScenario::Curves => &[],
    }
}

/// One chart below the other, a figure each.
fn bars(report: &Report) -> (String, f64) {
    let (mut body, mut y) = (String::new(), 0.0);
    for figure in headlines(report.scenario) {
        let arms = report.arms.iter().map(|arm| (arm.name.as_str(), report.values(&arm.name, figure)));
        let arms: Vec<(&str, Vec<f64>)> = arms.filter(|(_, values)| !values.is_empty()).collect();
        let most = arms.iter().flat_map(|(_, values)| values).copied().fold(0.0, f64::max);
        if most <= 0.0 {
            continue;
        }
        text(&mut body, (8.0, y + 20.0), "start", &format!("{}: {figure}", report.scenario));
        y += TITLE;
        for (arm, values) in arms {
            bar(&mut body, y, arm, &values, (BARS_TO - BARS_FROM) / most);
            y += BAR;
        }
        y += BAR / 2.0;
    }
    (body, y)
}

/// One bar: as long as the median, with a line from the least to the most, and all three in numbers.
fn bar(body: &mut String, y: f64, arm: &str, values: &[f64], scale: f64) {
    let Some((median, least, most)) = middle(values) else { return };
    let colour = match arm {
        arm if arm.starts_with("runcast") => "#2563eb",
        arm if arm.starts_with("bare") => "#9ca3af",
        _ => "#d97706",
    };
    let (mid, at) = (y + BAR / 2.0, |value: f64| BARS_FROM + value * scale);
    text(body, (BARS_FROM - 8.0, mid + 4.0), "end", arm);
    let (top, height, width) = (y + 4.0, BAR - 8.0, median * scale);
    let _ = writeln!(
        body,
        "<rect x=\"{BARS_FROM}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height}\" fill=\"{colour}\"/>"
    );
    line(body, (at(least), mid), (at(most), mid), "#1f2937");
    text(body, (at(most) + 6.0, mid + 4.0), "start", &spread(values));
}

/// Three charts in a row, each a curve of the figure that is told first, all with the same heights.
fn curves(report: &Report) -> (String, f64) {
    let first = report.curves.first().map_or("", |curve| curve.figure.as_str());
    let curves = report.curves.iter().filter(|curve| curve.figure == first);
    let points = curves.map(|curve| (curve, points(report, curve)));
    let points: Vec<(&Curve, Vec<(f64, f64)>)> = points.filter(|(_, points)| !points.is_empty()).collect();
    let mut body = String::new();
    if points.is_empty() {
        return (body, 0.0);
    }
    text(&mut body, (8.0, 20.0), "start", &format!("{}: {first}", report.scenario));
    let all = points.iter().flat_map(|(_, points)| points).map(|point| point.1);
    let y = Axis::of(all, (PANEL.1 - MARGIN.3, MARGIN.1));
    for (index, (curve, points)) in points.iter().enumerate() {
        let corner = ((index % 3) as f64 * PANEL.0, TITLE + (index / 3) as f64 * PANEL.1);
        let exponent = report.exponent(curve);
        panel(&mut body, corner, y, &curve.with, points, exponent);
    }
    (body, TITLE + points.len().div_ceil(3) as f64 * PANEL.1)
}

/// Every round's, as far as they can lie on logarithmic axes.
fn points(report: &Report, curve: &Curve) -> Vec<(f64, f64)> {
    let points = curve
        .points
        .iter()
        .flat_map(|(at, arm)| report.values(arm, &curve.figure).into_iter().map(|value| (*at, value)));
    points.filter(|(at, value)| *at > 0.0 && *value > 0.0).collect()
}

/// A range of values on a logarithmic axis, and where it lies, in pixels.
#[derive(Clone, Copy, Debug)]
struct Axis {
    values: (f64, f64),
    pixels: (f64, f64),
}

impl Axis {
    /// Room for all of these, at least a decade.
    fn of(values: impl Iterator<Item = f64>, pixels: (f64, f64)) -> Self {
        let (least, most) =
            values.fold((f64::INFINITY, 0.0_f64), |(least, most), value| (least.min(value), most.max(value)));
        let low = 10_f64.powf(least.log10().floor());
        let high = 10_f64.powf(most.log10().ceil()).max(low * 10.0);
        Self { values: (low, high), pixels }
    }

    fn at(&self, value: f64) -> f64 {
        let part = (value / self.values.0).ln() / (self.values.1 / self.values.0).ln();
        self.pixels.0 + part * (self.pixels.1 - self.pixels.0)
    }

    /// Powers of ten.
    fn ticks(self) -> impl Iterator<Item = f64> {
        let powers = self.values.0.log10().round() as i32..=self.values.1.log10().round() as i32;
        powers.map(|power| 10_f64.powi(power))
    }
}

fn panel(
    body: &mut String,
    (left, top): (f64, f64),
    y: Axis,
    with: &str,
    points: &[(f64, f64)],
    exponent: Option<f64>,
) {
    let (right, below) = (left + PANEL.0 - MARGIN.2, top + PANEL.1 - MARGIN.3);
    let x = Axis::of(points.iter().map(|point| point.0), (left + MARGIN.0, right));
    let y = Axis { pixels: (y.pixels.0 + top, y.pixels.1 + top), ..y };
    let told = exponent.map_or("–".to_owned(), |it| format!("{it:.2}"));
    text(body, (x.pixels.0, top + 22.0), "start", &format!("~ ({with}) ^ {told}"));
    for tick in x.ticks() {
        line(body, (x.at(tick), y.pixels.0), (x.at(tick), y.pixels.1), "#e5e7eb");
        text(body, (x.at(tick), below + 16.0), "middle", &tick.to_string());
    }
    for tick in y.ticks() {
        line(body, (x.pixels.0, y.at(tick)), (x.pixels.1, y.at(tick)), "#e5e7eb");
        text(body, (x.pixels.0 - 6.0, y.at(tick) + 4.0), "end", &tick.to_string());
    }
    text(body, ((x.pixels.0 + right) / 2.0, below + 31.0), "middle", with);
    if let Some(exponent) = exponent {
        let ends = fitted(points, exponent).map(|(at, value)| (x.at(at), y.at(value)));
        line(body, ends[0], ends[1], "#2563eb");
    }
    for (at, value) in points {
        let (x, y) = (x.at(*at), y.at(*value));
        let _ = writeln!(body, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"#2563eb\"/>");
    }
}

/// Both ends of the line that fits the points, which goes through their mean.
fn fitted(points: &[(f64, f64)], exponent: f64) -> [(f64, f64); 2] {
    let mean = |pick: fn(&(f64, f64)) -> f64| {
        points.iter().map(|point| pick(point).ln()).sum::<f64>() / points.len() as f64
    };
    let (at, value) = (mean(|point| point.0), mean(|point| point.1));
    let least = points.iter().map(|point| point.0).fold(f64::INFINITY, f64::min);
    let most = points.iter().map(|point| point.0).fold(0.0, f64::max);
    [least, most].map(|it| (it, (value + exponent * (it.ln() - at)).exp()))
}

fn line(body: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64), colour: &str) {
    let _ = writeln!(
        body,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"/>"
    );
}

fn text(body: &mut String, (x, y): (f64, f64), anchor: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(body, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_median() {
        let mut report = Report::new(BenchScenario::Replay, false);
        for (arm, value) in [("runcast", 1.0), ("runcast", 2.0), ("runcast", 4.0), ("bare relay", 1.0)] {
            report.keep(arm, vec![("processor µs/event".to_owned(), value)]);
        }
        let picture = draw(&report).unwrap();
        // The whole width is 410 pixels and stands for 4.
        assert!(picture.contains("width=\"205.0\" height=\"16\" fill=\"#2563eb\""), "{picture}");
        assert!(picture.contains("2.00 [1.00–4.00]"), "{picture}");
        assert!(draw(&Report::new(BenchScenario::Replay, false)).is_none(), "there is nothing to be seen");
    }

    #[test]
    fn a_line_goes_through_what_lies_on_it() {
        let points = [(10.0, 3.0), (100.0, 30.0), (1_000.0, 300.0)];
        let [first, last] = fitted(&points, 1.0);
        assert!((first.1 - 3.0).abs() < 1e-9 && (last.1 - 300.0).abs() < 1e-9, "{first:?} {last:?}");
        let axis = Axis::of([20.0, 300.0].into_iter(), (0.0, 200.0));
        assert_eq!((axis.values, axis.at(100.0).round()), ((10.0, 1_000.0), 100.0));
        assert_eq!(axis.ticks().collect::<Vec<_>>(), [10.0, 100.0, 1_000.0]);
    }
}
