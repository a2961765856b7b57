//! O2 for deltas that were joined (PROTOCOL §4): what stands for several events says all that they say, and
//! nothing else.

use crate::said::Said;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// The longest joined event (PROTOCOL §4).
pub const BYTES_MAX: usize = 64 * 1024;

/// A text as a number that follows from the numbers of its pieces: a polynomial in its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Text {
    hash: u64,
    /// The base to the power of its length.
    power: Option<u64>,
}

const PRIME: u128 = (1 << 61) - 1;
const BASE: u128 = 0x1f3_5a79_c2e4_b681;

fn times(a: u64, b: u64) -> u64 {
    (u128::from(a) * u128::from(b) % PRIME) as u64
}

impl Text {
    fn of(text: &str) -> Self {
        let step =
            |text: Self, byte: u8| text.and(Self { hash: u64::from(byte) + 1, power: Some(BASE as u64) });
        text.bytes().fold(Self::default(), step)
    }

    fn and(self, next: Self) -> Self {
        let (power, next_power) = (self.power.unwrap_or(1), next.power.unwrap_or(1));
        let hash = (u128::from(times(self.hash, next_power)) + u128::from(next.hash)) % PRIME;
        Self { hash: hash as u64, power: Some(times(power, next_power)) }
    }
}

/// A delta: its text, and all else of it but its place and its time.
#[derive(Clone, Copy, Debug)]
pub struct Delta {
    others: u64,
    text: Text,
    ts: Option<u64>,
}

impl Delta {
    /// Of an event, if it is one.
    pub fn of(said: &Said<'_>) -> Option<Self> {
        if !matches!(said.event.as_deref(), Some("agent_thinking" | "agent_output")) {
            return None;
        }
        let mut data: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(said.data?.get()).ok()?;
        let text: String = serde_json::from_str(data.remove("delta")?.get()).ok()?;
        let mut hasher = DefaultHasher::new();
        (&said.thread, &said.run, said.attempt, &said.event).hash(&mut hasher);
        for (name, value) in &data {
            (name, value.get()).hash(&mut hasher);
        }
        Some(Self { others: hasher.finish(), text: Text::of(&text), ts: said.ts })
    }
}

/// Judges an event that stands for all after `prev`. `deltas` are those events, as they are stored.
///
/// # Errors
/// It does not.
pub fn judge(said: &Said<'_>, deltas: &[Option<Delta>]) -> Result<(), String> {
    let count = said.joined.unwrap_or(0);
    if count < 2 || count != deltas.len() as u64 {
        return Err(format!("{count} are joined in place of {}: {said:?}", deltas.len()));
    }
    let Some(joined) = Delta::of(said) else { return Err(format!("no delta is joined: {said:?}")) };
    let mut text = Text::default();
    for delta in deltas {
        let Some(delta) = delta.filter(|delta| delta.others == joined.others) else {
            return Err(format!("what differs is joined: {said:?}"));
        };
        text = text.and(delta.text);
    }
    if text != joined.text {
        return Err(format!("something is left out or added: {said:?}"));
    }
    if deltas.last().and_then(|last| last.as_ref()?.ts) != joined.ts {
        return Err(format!("that is not the last one's time: {said:?}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: u64, delta: &str, extra: &str) -> String {
        format!(
            r#"{{"type":"event","seq":{seq},"ts":{seq},"event":"agent_output","data":{{"delta":"{delta}"{extra}}}}}"#
        )
    }

    #[test]
    fn what_is_left_out_added_or_put_together_wrongly_is_seen() {
        let pieces = [event(1, "ab", ""), event(2, "", ""), event(3, "c\\n", "")];
        let of = |text: &String| Delta::of(&Said::read(text).unwrap());
        let deltas: Vec<_> = pieces.iter().map(of).collect();
        let judged = |delta: &str, extra: &str, deltas: &[Option<Delta>]| {
            let text = event(3, delta, extra);
            let said = Said { joined: Some(3), ..Said::read(&text).unwrap() };
            judge(&said, deltas).is_ok()
        };
        assert!(judged("abc\\n", "", &deltas));
        assert!(!judged("ab", "", &deltas));
        assert!(!judged("acb\\n", "", &deltas));
        assert!(!judged("abc\\n", ",\"message\":1", &deltas));
        assert!(!judged("abc\\n", "", &deltas[..2]));
    }
}
