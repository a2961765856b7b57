//! Durations and sizes as people write them: a whole number and its unit.

use runcast_core::time::Span;

/// What a duration must look like, in words for an error.
pub const DURATION: &str = "a duration like 30s (ms, s, m, h or d)";
/// What a size must look like, in words for an error.
pub const SIZE: &str = "a size like 64KiB (B, KiB, MiB, GiB or TiB)";

const DURATION_UNITS: [(&str, u64); 5] =
    [("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000), ("d", 86_400_000_000)];
const SIZE_UNITS: [(&str, u64); 5] =
    [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// Reads a duration like `30s`; fails with what was expected and found.
pub fn duration(text: &str) -> Result<Span, String> {
    with_unit(text, &DURATION_UNITS).map(Span).ok_or_else(|| format!("expected {DURATION}, found {text:?}"))
}

/// Reads a size like `64KiB`, in bytes; fails with what was expected and found.
pub fn size(text: &str) -> Result<u64, String> {
    with_unit(text, &SIZE_UNITS).ok_or_else(|| format!("expected {SIZE}, found {text:?}"))
}

/// Writes a duration in the largest unit that keeps it whole; less than a millisecond is left out.
pub fn show_duration(span: Span) -> String {
    show(span.0 - span.0 % 1_000, &DURATION_UNITS)
}

/// Writes a size in the largest unit that keeps it whole.
pub fn show_size(bytes: u64) -> String {
    show(bytes, &SIZE_UNITS)
}

/// Writes a long time for a reader who wants to know how long about: in the largest unit of which there are
/// two.
pub fn show_roughly(time: std::time::Duration) -> String {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let fits = |&&(_, factor): &&(&str, u64)| micros / factor >= 2;
    let (name, factor) = DURATION_UNITS.iter().rev().find(fits).unwrap_or(&DURATION_UNITS[0]);
    format!("{}{name}", micros / factor)
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn show(amount: u64, units: &[(&str, u64)]) -> String {
    let fits = |&&(_, factor): &&(&str, u64)| amount != 0 && amount.is_multiple_of(factor);
    let (name, factor) = units.iter().rev().find(fits).unwrap_or(&units[0]);
    format!("{}{name}", amount / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_whole_number_and_its_unit() {
        let good = [("500ms", 500), ("30s", 30_000), ("2m", 120_000), ("1h", 3_600_000), ("7d", 604_800_000)];
        for (text, ms) in good {
            assert_eq!(duration(text), Ok(Span::millis(ms)), "{text}");
            assert_eq!(show_duration(Span::millis(ms)), text);
        }
        for text in ["", "30", "s", "1.5s", "-1s", "30 s", "30S", "99999999999999d", "３０s"] {
            assert_eq!(duration(text), Err(format!("expected {DURATION}, found {text:?}")));
        }
    }

    #[test]
    fn a_size_is_a_whole_number_and_its_unit() {
        for (text, bytes) in [("1B", 1), ("64KiB", 65_536), ("1MiB", 1_048_576), ("2GiB", 2_147_483_648)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
            assert_eq!(show_size(bytes), text);
        }
        for text in ["64", "64KB", "64k", "KiB", "1.5MiB", "99999999999999GiB"] {
            assert_eq!(size(text), Err(format!("expected {SIZE}, found {text:?}")));
        }
        assert_eq!((show_size(0), show_duration(Span::ZERO)), ("0B".to_owned(), "0ms".to_owned()));
        assert_eq!(show_size(1_500), "1500B");
    }

    #[test]
    fn a_long_time_is_told_roughly() {
        for (secs, text) in [(0, "0ms"), (1, "1000ms"), (119, "119s"), (7_300, "2h"), (259_199, "2d")] {
            assert_eq!(show_roughly(std::time::Duration::from_secs(secs)), text);
        }
    }
}
