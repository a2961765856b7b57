//! The log: one line for each thing that happened, with its ids. How lines look, and which are written, is
//! set in `daemon.rs`.
//!
//! At `info` stand connections, runs, and refusals of tokens; other refusals are `debug`: a peer that sends
//! nonsense must not fill a disk.

use runcast_core::ids::Device;
use runcast_core::note::Note;

/// Writes a line.
pub(crate) fn write(note: &Note) {
    match note {
        Note::Connected { conn, peer, user, device, resume } => {
            let device = device.as_ref().map(Device::as_str);
            tracing::info!(conn = conn.0, %peer, %user, device, resume, "connected");
        }
        Note::WorkerConnected { conn, peer, sub, worker } => {
            tracing::info!(conn = conn.0, %peer, sub, worker, "worker connected");
        }
        Note::Refused { conn, code, message } if code.as_str().starts_with("token_") => {
            tracing::info!(conn = conn.0, code = code.as_str(), why = message, "refused");
        }
        Note::Refused { conn, code, message } => {
            tracing::debug!(conn = conn.0, code = code.as_str(), why = message, "refused");
        }
        Note::Accepted { run, user, agent } => tracing::info!(%run, %user, %agent, "run accepted"),
        Note::Started { run, attempt, worker, queued_ms } => {
            tracing::info!(%run, attempt, worker, queued_ms, "run started");
        }
        Note::Retried { run, delay_ms } => tracing::warn!(%run, delay_ms, "run retried: its worker is lost"),
        Note::Ended { run, status: status @ ("ok" | "cancelled"), running_ms } => {
            tracing::info!(%run, status, running_ms, "run ended");
        }
        Note::Ended { run, status, running_ms } => {
            tracing::warn!(%run, status, running_ms, "run ended");
        }
        Note::Undelivered { run, user } => tracing::info!(%run, %user, "run undelivered"),
        Note::StoreFull => tracing::error!(
            "the store takes nothing: the disk is full; free some space: until then runs are refused, and what \
             is stored is delivered"
        ),
        Note::StoreTakes => tracing::info!("the store takes what it is given again"),
    }
}
