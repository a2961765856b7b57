//! What the core has counted, and what there is in it, as metrics.

use super::lines::Lines;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;
use runcast_core::counts::Counts;
use runcast_core::wire::error::{CloseCode, Code};
use runcast_core::{Gauges, View};
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// What was seen of the core at the last look.
#[derive(Debug, Default)]
pub(super) struct CoreFacts(Mutex<Option<Seen>>);

#[derive(Debug)]
struct Seen {
    counts: Counts,
    gauges: Gauges,
    limits: [(&'static str, u64); 4],
}

impl CoreFacts {
    /// Looks at the core.
    pub(super) fn look(&self, view: &View<'_>) {
        let config = view.config();
        let limits = [
            ("connections", config.server.connections as u64),
            ("runs_active", config.runs.active as u64),
            ("runs_queued", config.runs.queued as u64),
            ("memory_bytes", config.store.memory),
        ];
        let seen = Seen { counts: *view.counts(), gauges: view.gauges(), limits };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
    }
}

impl Collector for CoreFacts {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Seen { counts, gauges, limits }) = &*seen else { return Ok(()) };
        let mut lines = Lines(encoder);
        runs(&mut lines, counts, gauges)?;
        delivery(&mut lines, counts, gauges)?;
        connections(&mut lines, counts, gauges)?;
        lines.gauges(("runcast_limit", "of"), "What is configured as the most of these", *limits)?;
        state(&mut lines, counts, gauges)
    }
}

/// The way of a run.
fn runs(lines: &mut Lines<'_>, counts: &Counts, gauges: &Gauges) -> fmt::Result {
    lines.counter("runcast_runs_accepted", "Runs that were accepted", counts.accepted)?;
    lines.counter("runcast_runs_started", "Attempts at runs that began", counts.started)?;
    lines.counter(
        "runcast_runs_retried",
        "Attempts that were lost and followed by another",
        counts.retried,
    )?;
    lines.counters(("runcast_runs_ended", "status"), "Runs that have ended", counts.ended.iter())?;
    lines.durations("runcast_run_queued", "From a run's acceptance to its first start", &counts.queued)?;
    lines.durations("runcast_run_execution", "Time executed of runs that have ended", &counts.ran)?;
    lines.gauges(("runcast_runs", "state"), "Runs that have not ended", gauges.runs)?;
    lines.gauges(
        ("runcast_runs_silent", "state"),
        "Runs that have not ended and had no event for half a second",
        gauges.silent,
    )?;
    lines.gauges(("runcast_workers", "state"), "Workers", gauges.workers)?;
    lines.gauges(("runcast_agents", "breaker"), "Agents by the state of their breaker", gauges.breakers)
}

/// From the log to the devices.
fn delivery(lines: &mut Lines<'_>, counts: &Counts, gauges: &Gauges) -> fmt::Result {
    lines.counter("runcast_events_written", "Events written into streams of users", counts.written)?;
    lines.counter("runcast_events_sent", "Events sent, once for each connection", counts.sent)?;
    lines.counter(
        "runcast_events_joined",
        "Deltas sent joined with others, once for each connection",
        counts.joined,
    )?;
    lines.counter("runcast_events_resent", "Events sent again, not acknowledged in time", counts.resent)?;
    lines.counter(
        "runcast_events_acknowledged",
        "Events acknowledged, once for each connection",
        counts.acked,
    )?;
    lines.counter(
        "runcast_delivery_retries",
        "Times that a connection was sent its events again",
        counts.retries,
    )?;
    lines.durations(
        "runcast_event_acknowledgement",
        "From an event's arrival to its acknowledgement by a device",
        &counts.acknowledged,
    )?;
    lines.counters(
        ("runcast_streams_begun", "status"),
        "Beginnings of connections in their streams",
        counts.resumed.iter(),
    )?;
    lines.counters(
        ("runcast_stream_resets", "reason"),
        "Beginnings that had to be anew, since the position was of another epoch, trimmed or ahead",
        counts.resets.iter(),
    )?;
    lines.counter(
        "runcast_runs_undelivered",
        "Ended runs that were listed since no device acknowledged them in time",
        counts.undelivered,
    )?;
    lines.gauge("runcast_undelivered", "Ended runs that are listed so now", None, gauges.undelivered)?;
    let called = ["taken", "failed"].into_iter().zip(counts.called);
    lines.counters(("runcast_webhook_calls", "outcome"), "Calls of the webhook", called)?;
    lines.gauge(
        "runcast_events_behind",
        "Events not acknowledged, of all connections together",
        None,
        gauges.behind,
    )?;
    lines.gauge(
        "runcast_connections_behind",
        "Connections that are more than a window behind",
        None,
        gauges.lagging,
    )
}

/// Who is connected, who was closed, what was refused.
fn connections(lines: &mut Lines<'_>, counts: &Counts, gauges: &Gauges) -> fmt::Result {
    lines.gauges(("runcast_connections", "kind"), "Connections", gauges.connections)?;
    lines.counter("runcast_connections_opened", "Connections that were accepted", counts.opened)?;
    let closes: Vec<String> = CloseCode::ALL.iter().map(|code| (*code as u16).to_string()).collect();
    lines.counters(
        ("runcast_connections_closed", "code"),
        "Connections that the daemon has closed",
        closes.iter().map(String::as_str).zip(counts.closed),
    )?;
    let codes = Code::ALL.iter().map(|code| code.as_str());
    lines.counters(
        ("runcast_refusals", "code"),
        "Requests and messages that were refused, limits among them",
        codes.zip(counts.refused),
    )?;
    let bytes = Unit::Bytes;
    lines.gauge("runcast_output", "Bytes that wait for the network", Some(&bytes), gauges.output_bytes)?;
    lines.gauge("runcast_users", "Users in memory", None, gauges.users)
}

/// How the daemon is.
fn state(lines: &mut Lines<'_>, counts: &Counts, gauges: &Gauges) -> fmt::Result {
    lines.gauge(
        "runcast_store_waiting",
        "Appends that are not on stable storage yet",
        None,
        gauges.appends,
    )?;
    lines.counter("runcast_store_refused", "Commits for which there was no room", counts.store_full)?;
    lines.gauge(
        "runcast_store_full",
        "Whether the store takes nothing at present",
        None,
        u64::from(gauges.is_store_full),
    )?;
    lines.gauge("runcast_draining", "Whether the daemon goes down", None, u64::from(gauges.is_draining))?;
    lines.gauge("runcast_timers", "Timers that are set", None, gauges.timers)
}
