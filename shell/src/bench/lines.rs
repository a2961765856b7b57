//! Measurements of an earlier run, read again from the lines of JSON that it printed.

use super::report::{Curve, Ratio, Report};
use crate::cli::BenchScenario;
use clap::ValueEnum;
use serde_json::Value;

/// The scenarios of these lines, in their order. Medians and the like are left out, since they are counted
/// anew.
///
/// # Errors
/// With the number of the first line that no `runcast bench --json` has printed.
pub(super) fn read(text: &str, is_json: bool) -> Result<Vec<Report>, String> {
    let mut reports: Vec<Report> = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        take(&mut reports, line, is_json).ok_or_else(|| {
            format!("line {}: expected one of `runcast bench --json`, found {line:?}", index + 1)
        })?;
    }
    Ok(reports)
}

fn take(reports: &mut Vec<Report>, line: &str, is_json: bool) -> Option<()> {
    let line: Value = serde_json::from_str(line).ok()?;
    let text = |name: &str| line[name].as_str().map(str::to_owned);
    let scenario = BenchScenario::from_str(line["scenario"].as_str()?, false).ok()?;
    let index = reports.iter().position(|it| it.scenario == scenario).unwrap_or(reports.len());
    if index == reports.len() {
        reports.push(Report::new(scenario, is_json));
    }
    let report = &mut reports[index];
    if line["round"].is_u64() {
        let figures = line.as_object()?.iter().filter(|(name, _)| *name != "round");
        let figures = figures.filter_map(|(name, value)| Some((name.clone(), value.as_f64()?)));
        report.keep(line["arm"].as_str()?, figures.collect());
    } else if let Some(note) = text("note") {
        report.notes.push((text("arm")?, note));
    } else if let Some(with) = text("with") {
        let points = serde_json::from_value(line["points"].clone()).ok()?;
        report.curves.push(Curve { figure: text("figure")?, with, points });
    } else if let Some(under) = text("under") {
        let ratio = Ratio {
            figure: text("figure")?,
            over: text("over")?,
            under,
            goal: text("goal").unwrap_or_default(),
        };
        if line["pairwise"] != true {
            report.ratios.push(ratio);
        } else if !report.pairwise.contains(&ratio.figure) {
            report.pairwise.push(ratio.figure);
        }
    } else {
        // A median.
        text("figure")?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_printed_is_read() {
        let mut before = Report::new(BenchScenario::Live, true);
        for (arm, value) in [("runcast", 2.0), ("ws", 8.0), ("runcast", 3.0), ("ws", 8.0)] {
            before.keep(arm, vec![("p99 ms".to_owned(), value)]);
        }
        before.compare("p99 ms", "runcast", "ws", "at most 2");
        before.compare_all("p99 ms");
        before.notes.push(("ws".into(), "nothing is stored".into()));
        let points = vec![(10.0, "runcast".to_owned()), (100.0, "ws".to_owned())];
        before.curves.push(Curve { figure: "p99 ms".into(), with: "users".into(), points });
        let rounds = r#"{"scenario":"live","arm":"runcast","round":1,"p99 ms":2.0}
            {"scenario":"live","arm":"ws","round":1,"p99 ms":8.0}
            {"scenario":"live","arm":"runcast","round":2,"p99 ms":3.0}
            {"scenario":"live","arm":"ws","round":2,"p99 ms":8.0}"#;
        let sums: Vec<String> = before.sum_up().iter().map(Value::to_string).collect();
        let after = read(&format!("{rounds}\n{}\n", sums.join("\n")), true).unwrap();
        assert_eq!(after.len(), 1);
        assert_eq!(after[0].sum_up(), before.sum_up());
    }

    #[test]
    fn what_was_not_printed_by_it_is_named() {
        let error = read("{\"scenario\":\"live\",\"figure\":\"p99 ms\"}\nhello\n", true).unwrap_err();
        assert!(error.starts_with("line 2: "), "{error}");
    }
}
