//! Single metrics, written at a scrape.

use super::seconds;
use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use runcast_core::counts::{BOUNDS, Durations};
use runcast_core::time::Span;
use std::fmt;

/// Writes metrics with their names, helps and units.
pub(super) struct Lines<'a>(pub(super) DescriptorEncoder<'a>);

impl Lines<'_> {
    /// What only rises.
    pub(super) fn counter<N>(&mut self, name: &str, help: &str, value: N) -> fmt::Result
    where
        ConstCounter<N>: EncodeMetric,
        N: EncodeCounterValue,
    {
        let encoder = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(encoder)
    }

    /// What only rises, by a label.
    pub(super) fn counters<'w>(
        &mut self,
        (name, label): (&str, &'static str),
        help: &str,
        values: impl IntoIterator<Item = (&'w str, u64)>,
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (word, value) in values {
            ConstCounter::new(value).encode(encoder.encode_family(&[(label, word)])?)?;
        }
        Ok(())
    }

    /// What rises and falls.
    pub(super) fn gauge<N>(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: N) -> fmt::Result
    where
        ConstGauge<N>: EncodeMetric,
        N: EncodeGaugeValue,
    {
        let encoder = self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        ConstGauge::new(value).encode(encoder)
    }

    /// What rises and falls, by a label.
    pub(super) fn gauges<'w>(
        &mut self,
        (name, label): (&str, &'static str),
        help: &str,
        values: impl IntoIterator<Item = (&'w str, u64)>,
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (word, value) in values {
            ConstGauge::new(value).encode(encoder.encode_family(&[(label, word)])?)?;
        }
        Ok(())
    }

    /// A histogram of durations, in seconds.
    pub(super) fn durations(&mut self, name: &str, help: &str, of: &Durations) -> fmt::Result {
        let unit = Unit::Seconds;
        let mut encoder = self.0.encode_descriptor(name, help, Some(&unit), MetricType::Histogram)?;
        let bounds = BOUNDS.map(|bound| seconds(Span(bound)));
        let bounds = bounds.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(of.buckets).collect();
        let count = of.buckets.iter().sum();
        encoder.encode_histogram::<[(&str, &str); 0]>(seconds(Span(of.sum)), count, &buckets, None)
    }
}
