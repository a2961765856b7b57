//! O16, for PROTOCOL §2.1 "Durable before visible", and O2: whatever a message reveals was on stable storage
//! when it was written, and says what is stored there.

use super::joined;
use super::restart::Rows;
use super::truth::{RunTruth, Truth};
use crate::said::Said;

/// Judges an event that is sent to (or was received by) a user whose `welcome` named this incarnation.
///
/// # Errors
/// The oracle that is broken, and how.
pub fn event(
    truth: &mut Truth,
    user: usize,
    epoch: &str,
    said: &Said<'_>,
) -> Result<(), (&'static str, String)> {
    let seq = said.seq.unwrap_or(0);
    let log = truth.stream(user, epoch);
    if let Some(prev) = said.prev {
        let deltas = log.and_then(|log| log.deltas(prev, seq));
        let deltas = deltas.ok_or_else(|| ("O16", format!("{prev} to {seq} of {epoch} are not durable")))?;
        return joined::judge(said, deltas).map_err(|what| ("O2", what));
    }
    let durable = log.and_then(|log| log.contents.get((seq as usize).wrapping_sub(1)));
    match durable {
        None => Err(("O16", format!("seq {seq} of epoch {} is sent before it is durable", epoch))),
        Some(content) if *content != said.content() => {
            Err(("O2", format!("seq {seq} of epoch {} says another thing than is stored: {said:?}", epoch)))
        }
        Some(_) => Ok(()),
    }
}

/// Judges the head that a `welcome` or a heartbeat tells.
///
/// # Errors
/// It is not durable.
pub fn head(truth: &mut Truth, user: usize, epoch: &str, head: u64) -> Result<(), String> {
    let durable = truth.stream(user, epoch).map_or(0, |log| log.head());
    if head <= durable {
        return Ok(());
    }
    Err(format!("a head of {head} is told while {durable} is durable"))
}

/// Judges the device of a `welcome`, which the daemon must know from then on, and the stream that it names.
///
/// # Errors
/// The device's place, or the stream, is not durable.
pub fn device(rows: &Rows, said: &Said<'_>) -> Result<(), String> {
    let Some((user, device)) = said.user.as_deref().zip(said.device.as_deref()) else { return Ok(()) };
    let (told, durable) = (said.epoch.as_deref().unwrap_or_default(), rows.epoch(user));
    if durable.as_deref() != Some(told) {
        // Words may have been on their way when the user was erased, and has come back since.
        let is_gone = rows.is_gone(told);
        let what = || format!("{device} is welcome to {told} of {user}, durable is {durable:?}");
        return if is_gone { Ok(()) } else { Err(what()) };
    }
    if !rows.has_device(user, device) {
        return Err(format!("{device} is welcome before its place is durable"));
    }
    Ok(())
}

/// Judges an `accepted`.
///
/// # Errors
/// The run is not durable.
pub fn accepted(truth: &Truth, run: &str) -> Result<(), String> {
    if truth.runs.contains_key(run) {
        return Ok(());
    }
    Err(format!("{run} is accepted before it is durable"))
}

/// Judges an `accepted` that says of a run that was accepted before whether it has ended: then its end is
/// durable, and not after the head that is told.
///
/// # Errors
/// It is not.
pub fn ended(truth: &Truth, said: &Said<'_>) -> Result<(), String> {
    let run = said.run.as_deref().and_then(|run| truth.runs.get(run));
    let Some((head, run)) = said.head.zip(run.filter(|run| !run.is_erased)) else { return Ok(()) };
    let is_over = run.ended.is_some() && run.last_seq <= head;
    let is_right = said.state.is_some() || is_over;
    if is_right { Ok(()) } else { Err(format!("its end is told before it is durable: {said:?}")) }
}

/// Judges an `ack` to a worker.
///
/// # Errors
/// What it acknowledges is not durable.
pub fn acknowledged(truth: &Truth, run: &str, attempt: u64, n: u64) -> Result<(), String> {
    let none = RunTruth::default();
    let durable = truth.runs.get(run).unwrap_or(&none);
    if durable.started != Some(attempt) {
        return Err(format!(
            "attempt {attempt} of {run} is acknowledged ({n}), durable is {:?}",
            durable.started
        ));
    }
    if n > durable.through {
        return Err(format!("message {n} of {run} is acknowledged while {} is durable", durable.through));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use runcast_core::record::{Record, RowKey, Table};

    const WELCOME: &str = r#"{"type":"welcome","user":"ann","device":"d","epoch":"e-1"}"#;

    fn key(table: Table, name: &str) -> RowKey {
        RowKey { table, owner: "ann".into(), name: name.into() }
    }

    /// How a `welcome` to `e-1` is judged after these records.
    fn judge(records: &[Record]) -> Result<(), String> {
        let mut rows = Rows::default();
        records.iter().for_each(|record| rows.apply(record));
        device(&rows, &Said::read(WELCOME).unwrap())
    }

    #[test]
    fn a_device_is_welcome_when_its_stream_and_its_place_are_durable() {
        let stream = |epoch: &str| Record::Put {
            key: key(Table::User, "stream"),
            value: format!("{{\"epoch\":\"{epoch}\"}}").into(),
        };
        let erased = Record::Delete { key: key(Table::User, "stream") };
        let place = Record::Put { key: key(Table::Device, "d"), value: "{}".into() };
        assert!(judge(&[stream("e-1"), place.clone()]).is_ok());
        assert!(judge(&[stream("e-1")]).is_err(), "its place is not");
        assert!(judge(std::slice::from_ref(&place)).is_err(), "the stream is not");
        assert!(judge(&[stream("e-2"), place]).is_err(), "another is, and this never was");
        assert!(judge(&[stream("e-1"), erased.clone()]).is_ok(), "it was erased meanwhile");
        assert!(judge(&[stream("e-1"), erased, stream("e-2")]).is_ok(), "and has come back");
    }
}
