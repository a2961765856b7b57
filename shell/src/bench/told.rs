//! What the daemon tells of itself at `/metrics`, between two looks.

use super::report::Figures;
use std::collections::BTreeMap;

/// Samples by name and labels, as they stand in the text.
#[derive(Clone, Debug, Default)]
pub(super) struct Told(BTreeMap<String, f64>);

impl Told {
    /// Reads OpenMetrics text. A relay tells nothing.
    pub(super) fn read(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let samples = samples.filter_map(|line| line.rsplit_once(' '));
        Self(samples.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect())
    }

    fn grown(&self, before: &Self, name: &str) -> f64 {
        let value = |told: &Self| told.0.get(name).copied().unwrap_or(0.0);
        value(self) - value(before)
    }

    /// The mean of what a histogram has observed since `before`.
    fn mean(&self, before: &Self, histogram: &str) -> Option<f64> {
        let count = self.grown(before, &format!("{histogram}_count"));
        (count > 0.0).then(|| self.grown(before, &format!("{histogram}_sum")) / count)
    }

    /// What all that it has observed since `before` is below.
    fn bound(&self, before: &Self, histogram: &str) -> Option<f64> {
        let count = self.grown(before, &format!("{histogram}_count"));
        let buckets = self.0.keys().filter_map(|name| {
            let bound = name.strip_prefix(histogram)?.strip_prefix("_bucket{le=\"")?.strip_suffix("\"}")?;
            Some((bound.parse::<f64>().ok()?, name))
        });
        let full = buckets.filter(|(_, name)| self.grown(before, name) >= count);
        full.map(|(bound, _)| bound).min_by(f64::total_cmp).filter(|_| count > 0.0)
    }

    /// What the store and the loop have done since `before`.
    pub(super) fn since(&self, before: &Self) -> Figures {
        let named = [
            ("commit ms", self.mean(before, "runcast_store_commit_seconds").map(|it| it * 1e3)),
            ("records/commit", self.mean(before, "runcast_store_commit_records")),
            ("turns below ms", self.bound(before, "runcast_loop_turn_seconds").map(|it| it * 1e3)),
        ];
        named.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_came_since_is_counted() {
        let text = |fast: u64, slow: u64, sum: f64| {
            let all = fast + slow;
            Told::read(&format!(
                "# TYPE runcast_loop_turn_seconds histogram\nruncast_loop_turn_seconds_sum {sum}\n\
                 runcast_loop_turn_seconds_count {all}\nruncast_loop_turn_seconds_bucket{{le=\"0.001\"}} {fast}\n\
                 runcast_loop_turn_seconds_bucket{{le=\"0.05\"}} {all}\n\
                 runcast_loop_turn_seconds_bucket{{le=\"+Inf\"}} {all}\n# EOF\n"
            ))
        };
        let (before, after) = (text(10, 1, 0.06), text(14, 1, 0.07));
        assert_eq!(after.since(&before), [("turns below ms", 1.0)]);
        assert_eq!(after.since(&Told::default()), [("turns below ms", 50.0)]);
        assert_eq!(
            after.mean(&before, "runcast_loop_turn_seconds").map(|it| (it * 1e6).round()),
            Some(2500.0)
        );
    }
}
