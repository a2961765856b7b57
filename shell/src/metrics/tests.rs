//! The text keeps the rules of OpenMetrics and of Prometheus' conventions, and no label grows with use.

use super::*;
use runcast_core::Core;
use runcast_core::config::Config;
use runcast_core::record::Image;
use runcast_core::time::Now;
use std::collections::{BTreeMap, BTreeSet};

/// All labels that there are. None of them names a user, an agent, a worker or an address.
const LABELS: [&str; 10] =
    ["version", "code", "kind", "state", "status", "reason", "outcome", "breaker", "of", "le"];

fn text() -> String {
    let core = Core::open(Config::default(), [0; 32], Image::default(), Now::default(), &mut Vec::new());
    let (store, turns) = (StoreMeter::default(), LoopMeter::default());
    store.committed(3, 0.002);
    store.folded(0.2);
    turns.turned(Span::millis(1));
    turns.late(Span::secs(9));
    let file = tempfile::NamedTempFile::new().unwrap();
    let certificate = CertificateMeter::default();
    certificate.expires(4_102_444_800);
    let metrics = Metrics::new(&store, &turns, file.path().to_owned()).with_certificate(&certificate);
    metrics.text(&core.inspect())
}

/// A sample's name, its labels and its value.
fn sample(line: &str) -> (&str, Vec<(&str, &str)>, f64) {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let value = value.parse().unwrap();
    let Some((name, labels)) = series.split_once('{') else { return (series, Vec::new(), value) };
    let labels = labels.strip_suffix('}').unwrap().split(',').map(|label| {
        let (name, value) = label.split_once('=').unwrap();
        (name, value.trim_matches('"'))
    });
    (name, labels.collect(), value)
}

#[test]
fn every_sample_belongs_to_a_metric_with_a_type_and_a_help() {
    let text = text();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let (mut types, mut helps, mut series) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
    for line in text.lines().filter(|line| *line != "# EOF") {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP", name, help] => {
                assert!(helps.insert(name.to_owned()) && !help.is_empty(), "{line}");
            }
            ["#", "TYPE", name, kind] => assert!(types.insert(name.to_owned(), kind).is_none(), "{line}"),
            ["#", "UNIT", name, unit] => assert!(name.ends_with(&format!("_{unit}")), "{line}"),
            _ => {
                let (name, labels, _) = sample(line);
                let suffixes = ["_total", "_bucket", "_sum", "_count", ""];
                let found = suffixes.iter().find_map(|suffix| {
                    let family = name.strip_suffix(suffix)?;
                    Some((*suffix, *types.get(family)?))
                });
                let allowed: &[&str] = match found {
                    Some((_, "counter")) => &["_total"],
                    Some((_, "histogram")) => &["_bucket", "_sum", "_count"],
                    Some((_, "gauge")) => &[""],
                    other => panic!("{line}: {other:?}"),
                };
                assert!(found.is_some_and(|(suffix, _)| allowed.contains(&suffix)), "{line}");
                assert!(labels.iter().all(|(label, _)| LABELS.contains(label)), "{line}");
                assert!(series.insert(line.rsplit_once(' ').unwrap().0), "twice: {line}");
            }
        }
    }
    assert_eq!(types.keys().collect::<BTreeSet<_>>(), helps.iter().collect());
    assert!(types.len() > 40, "{types:?}");
}

#[test]
fn buckets_of_a_histogram_rise_to_its_count() {
    let text = text();
    let mut before: Option<(String, f64)> = None;
    let mut ends = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, labels, value) = sample(line);
        let Some(family) = name.strip_suffix("_bucket") else {
            if let Some(family) = name.strip_suffix("_count") {
                ends.insert(family.to_owned(), value);
            }
            continue;
        };
        if let Some((other, least)) = &before {
            assert!(*other != family || *least <= value, "{line}");
        }
        if labels.contains(&("le", "+Inf")) {
            assert_eq!(ends.get(family), Some(&value), "{line}");
        }
        before = Some((family.to_owned(), value));
    }
    assert_eq!(ends["runcast_store_commit_seconds"], 1.0);
}

#[test]
fn the_end_of_the_certificate_is_told() {
    assert!(text().contains("\nruncast_certificate_expires_timestamp_seconds 4102444800\n"), "{}", text());
}
