//! Numbers, sizes and times, as people read them.

/// `12345` as `12,345`.
pub(super) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 file`, `2 files`.
pub(super) fn many(value: u64, what: &str) -> String {
    let ending = if value == 1 { "" } else { "s" };
    format!("{} {what}{ending}", number(value))
}

/// `12,345 bytes (12.1 KiB)`.
pub(super) fn bytes(value: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.iter().find(|(_, shift)| value >> shift > 0) {
        Some((unit, shift)) => {
            let tenths = (u128::from(value) * 10) >> shift;
            format!("{} ({}.{} {unit})", many(value, "byte"), tenths / 10, tenths % 10)
        }
        None => many(value, "byte"),
    }
}

/// Unix milliseconds as `2026-02-28 23:59:59 UTC`.
pub(super) fn time(unix_ms: u64) -> String {
    let seconds = unix_ms / 1_000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    format!("{year}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", second / 3_600, second / 60 % 60, second % 60)
}

/// The date of a day after 1970-01-01, by taking away whole years and months.
fn date(mut day: u64) -> (u64, u64, u64) {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let cycles = day / 146_097;
    let (mut year, mut month) = (1970 + 400 * cycles, 1);
    day -= 146_097 * cycles;
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    for length in [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    (year, month, day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_exact_and_short() {
        assert_eq!(bytes(1), "1 byte");
        assert_eq!(bytes(1_023), "1,023 bytes");
        assert_eq!(bytes(12_345), "12,345 bytes (12.0 KiB)");
        assert_eq!(bytes(u64::MAX), "18,446,744,073,709,551,615 bytes (16777215.9 TiB)");
    }

    #[test]
    fn times_know_leap_years() {
        assert_eq!(time(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(time(951_782_399_000), "2000-02-28 23:59:59 UTC");
        assert_eq!(time(951_782_400_000), "2000-02-29 00:00:00 UTC");
        assert_eq!(time(1_789_000_000_123), "2026-09-10 00:26:40 UTC");
    }
}
