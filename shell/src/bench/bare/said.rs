//! The messages: what devices and workers say, as far as it is looked at, and what is said to them.

use serde::Deserialize;
use serde_json::value::RawValue;
use std::fmt::Write;

/// What a device says.
#[derive(Deserialize)]
pub(super) struct OfDevice<'a> {
    #[serde(rename = "type")]
    pub(super) kind: &'a str,
    pub(super) seq: Option<u64>,
    pub(super) device: Option<&'a str>,
    #[serde(borrow)]
    pub(super) from: Option<&'a RawValue>,
    pub(super) key: Option<&'a str>,
    pub(super) thread: Option<&'a str>,
    pub(super) agent: Option<&'a str>,
    #[serde(borrow)]
    pub(super) input: Option<&'a RawValue>,
}

/// A device's position in its `hello`.
#[derive(Deserialize)]
pub(super) struct Position {
    pub(super) seq: u64,
}

/// What a worker says.
#[derive(Deserialize)]
pub(super) struct OfWorker<'a> {
    #[serde(rename = "type")]
    pub(super) kind: &'a str,
    pub(super) run: Option<&'a str>,
    pub(super) n: Option<u64>,
    pub(super) event: Option<&'a str>,
    #[serde(borrow)]
    pub(super) data: Option<&'a RawValue>,
    pub(super) status: Option<&'a str>,
    pub(super) worker: Option<&'a str>,
}

/// What stands in every event of a run between its time and its name.
pub(super) fn envelope(thread: &str, run: &str) -> String {
    format!(r#","thread":"{thread}","run":"{run}","attempt":1,"event":""#)
}

/// An event.
pub(super) fn event(out: &mut String, (seq, ts): (u64, &str), envelope: &str, kind: &str, data: &str) {
    out.clear();
    out.push_str(r#"{"type":"event","seq":"#);
    write!(out, "{seq}").expect("a string takes all that is written");
    for part in [r#","ts":"#, ts, envelope, kind, r#"","data":"#, data, "}"] {
        out.push_str(part);
    }
}
