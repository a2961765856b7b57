//! What the value of a key may be: how it is read, shown and named in errors.

use super::problem::Problem;
use super::units;
use super::written::Written;
use runcast_core::peer::Network;
use runcast_core::time::Span;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A kind of value, kept as a `T`.
pub(crate) trait Kind<T>: Sync {
    /// What is expected, in words.
    fn expects(&self) -> String;
    /// Reads a value, or says what is wrong with it.
    fn read(&self, written: &Written<'_>) -> Result<T, Problem>;
    /// Writes a value as TOML; none when it is not set.
    fn show(&self, value: &T) -> Option<String>;
    /// The value as a number that others may be compared with.
    fn amount(&self, _value: &T) -> Option<u64> {
        None
    }
}

/// What an amount counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// Things.
    One,
    /// Bytes, written like `64KiB`.
    Byte,
    /// Microseconds, written like `30s`.
    Time,
}

/// A number in a range, both ends included.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amount {
    unit: Unit,
    least: u64,
    most: u64,
}

/// So many things, from `least` to `most`.
pub(crate) const fn count(least: u64, most: u64) -> Amount {
    Amount { unit: Unit::One, least, most }
}

/// So many bytes, from `least` to `most`.
pub(crate) const fn bytes(least: u64, most: u64) -> Amount {
    Amount { unit: Unit::Byte, least, most }
}

/// So long, from `least` to `most`.
pub(crate) const fn time(least: Span, most: Span) -> Amount {
    Amount { unit: Unit::Time, least: least.0, most: most.0 }
}

impl Amount {
    fn shape(self) -> &'static str {
        match self.unit {
            Unit::One => "a whole number",
            Unit::Byte => units::SIZE,
            Unit::Time => units::DURATION,
        }
    }

    fn write(self, amount: u64) -> String {
        match self.unit {
            Unit::One => amount.to_string(),
            Unit::Byte => units::show_size(amount),
            Unit::Time => units::show_duration(Span(amount)),
        }
    }

    fn range(self) -> String {
        format!("{} to {}", self.write(self.least), self.write(self.most))
    }
}

/// A type that holds an amount.
pub(crate) trait Quantity: Copy {
    /// The amount as this type; one past its end is its end (the range of a key lies within).
    fn from_amount(amount: u64) -> Self;
    /// This as an amount.
    fn to_amount(self) -> u64;
}

macro_rules! quantities {
    ($($integer:ty),*) => {$(
        impl Quantity for $integer {
            fn from_amount(amount: u64) -> Self {
                Self::try_from(amount).unwrap_or(Self::MAX)
            }
            fn to_amount(self) -> u64 {
                self as u64
            }
        }
    )*};
}

quantities!(u32, u64, usize);

impl Quantity for Span {
    fn from_amount(amount: u64) -> Self {
        Self(amount)
    }
    fn to_amount(self) -> u64 {
        self.0
    }
}

impl<T: Quantity> Kind<T> for Amount {
    fn expects(&self) -> String {
        self.range()
    }

    fn read(&self, written: &Written<'_>) -> Result<T, Problem> {
        let amount = match self.unit {
            Unit::One => written.number(),
            Unit::Byte => written.text().and_then(|text| units::size(text).ok()),
            Unit::Time => written.text().and_then(|text| units::duration(text).ok()).map(|span| span.0),
        };
        let amount = amount.ok_or_else(|| written.expected(self.shape()))?;
        if (self.least..=self.most).contains(&amount) {
            Ok(T::from_amount(amount))
        } else {
            Err(written.expected(&self.range()))
        }
    }

    fn show(&self, value: &T) -> Option<String> {
        let text = self.write(value.to_amount());
        Some(if self.unit == Unit::One { text } else { quoted(&text) })
    }

    fn amount(&self, value: &T) -> Option<u64> {
        Some(value.to_amount())
    }
}

/// A value that need not be set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Optional<K>(pub(crate) K);

impl<T, K: Kind<T>> Kind<Option<T>> for Optional<K> {
    fn expects(&self) -> String {
        self.0.expects()
    }

    fn read(&self, written: &Written<'_>) -> Result<Option<T>, Problem> {
        self.0.read(written).map(Some)
    }

    fn show(&self, value: &Option<T>) -> Option<String> {
        value.as_ref().and_then(|value| self.0.show(value))
    }

    fn amount(&self, value: &Option<T>) -> Option<u64> {
        value.as_ref().and_then(|value| self.0.amount(value))
    }
}

/// Some text, not empty.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text;

impl Kind<String> for Text {
    fn expects(&self) -> String {
        "some text".to_owned()
    }

    fn read(&self, written: &Written<'_>) -> Result<String, Problem> {
        let text = written.text().filter(|text| !text.is_empty());
        text.map(str::to_owned).ok_or_else(|| written.expected(&self.expects()))
    }

    fn show(&self, value: &String) -> Option<String> {
        Some(quoted(value))
    }
}

/// A file or directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place;

impl Kind<PathBuf> for Place {
    fn expects(&self) -> String {
        "a path".to_owned()
    }

    fn read(&self, written: &Written<'_>) -> Result<PathBuf, Problem> {
        written.path().ok_or_else(|| written.expected(&self.expects()))
    }

    fn show(&self, value: &PathBuf) -> Option<String> {
        Some(quoted(&value.to_string_lossy()))
    }
}

/// An address and port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Address;

impl Kind<SocketAddr> for Address {
    fn expects(&self) -> String {
        "an address and port like 127.0.0.1:8787 or [::]:8787".to_owned()
    }

    fn read(&self, written: &Written<'_>) -> Result<SocketAddr, Problem> {
        let address = written.text().and_then(|text| text.parse().ok());
        address.ok_or_else(|| written.expected(&self.expects()))
    }

    fn show(&self, value: &SocketAddr) -> Option<String> {
        Some(quoted(&value.to_string()))
    }
}

/// Web pages' origins, as browsers send them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origins;

impl Kind<Vec<String>> for Origins {
    fn expects(&self) -> String {
        "a list of origins like [\"https://chat.example.com\"]".to_owned()
    }

    fn read(&self, written: &Written<'_>) -> Result<Vec<String>, Problem> {
        written.items(&self.expects(), |item| {
            let origin = item.text().filter(|text| is_origin(text));
            origin.map(str::to_owned).ok_or_else(|| {
                item.expected(
                    "an origin like https://chat.example.com (no path, lower case, no default port)",
                )
            })
        })
    }

    fn show(&self, value: &Vec<String>) -> Option<String> {
        Some(format!("[{}]", value.iter().map(|v| quoted(v)).collect::<Vec<_>>().join(", ")))
    }
}

/// Networks, as CIDR has them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Networks;

impl Kind<Vec<Network>> for Networks {
    fn expects(&self) -> String {
        "a list of addresses or networks like [\"10.0.0.0/8\", \"::1\"]".to_owned()
    }

    fn read(&self, written: &Written<'_>) -> Result<Vec<Network>, Problem> {
        written.items(&self.expects(), |item| {
            let network = item.text().and_then(Network::parse);
            network.ok_or_else(|| item.expected("an address or network like 10.0.0.0/8"))
        })
    }

    fn show(&self, value: &Vec<Network>) -> Option<String> {
        let networks = value.iter().map(|network| quoted(&network.to_string()));
        Some(format!("[{}]", networks.collect::<Vec<_>>().join(", ")))
    }
}

/// Whether a browser would send this as it stands (RFC 6454 §6.2): anything else would never match.
fn is_origin(text: &str) -> bool {
    let (host, default_port) = match text.split_once("://") {
        Some(("https", host)) => (host, ":443"),
        Some(("http", host)) => (host, ":80"),
        Some(_) | None => return false,
    };
    let spelled = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-:[]".contains(&b);
    !host.is_empty() && host.bytes().all(spelled) && !host.ends_with(default_port)
}

/// One of some words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice<T: 'static>(pub(crate) &'static [(&'static str, T)]);

impl<T: Copy + PartialEq + Sync> Kind<T> for Choice<T> {
    fn expects(&self) -> String {
        format!("one of {}", self.0.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", "))
    }

    fn read(&self, written: &Written<'_>) -> Result<T, Problem> {
        let text = written.text();
        let choice = self.0.iter().find(|(word, _)| Some(*word) == text);
        choice.map(|(_, value)| *value).ok_or_else(|| written.expected(&self.expects()))
    }

    fn show(&self, value: &T) -> Option<String> {
        self.0.iter().find(|(_, choice)| choice == value).map(|(word, _)| quoted(word))
    }
}

/// Yes or no.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Switch;

impl Kind<bool> for Switch {
    fn expects(&self) -> String {
        "true or false".to_owned()
    }

    fn read(&self, written: &Written<'_>) -> Result<bool, Problem> {
        written.switch().ok_or_else(|| written.expected(&self.expects()))
    }

    fn show(&self, value: &bool) -> Option<String> {
        Some(value.to_string())
    }
}

/// Text as TOML writes it.
pub(crate) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
