//! What stands in a request's target: names in its path and parameters in its query, percent-encoded.

use super::error::Refusal;
use super::json::wrong;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

/// The parameters of a query. Where a name stands twice the last one counts.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Reads a query, without its question mark.
    ///
    /// # Errors
    /// `bad_message`, if it is not percent-encoded UTF-8.
    pub fn parse(query: Option<&str>) -> Result<Self, Refusal> {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let read = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name)?, decode(&value.replace('+', " "))?))
        };
        let read = |pair| read(pair).ok_or_else(|| wrong("query", "percent-encoded UTF-8", pair));
        pairs.map(read).collect::<Result<_, _>>().map(Self)
    }

    /// A parameter as text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// A parameter that must be as `expected`, if it is there.
    ///
    /// # Errors
    /// `bad_message`, naming it and what was expected.
    pub fn read<T>(
        &self,
        name: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        parse(text).map(Some).ok_or_else(|| wrong(name, expected, text))
    }

    /// A whole number, if it is there.
    ///
    /// # Errors
    /// `bad_message`, naming it and what was expected.
    pub fn number(&self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, Refusal> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.read(name, &expected, |text| text.parse().ok().filter(|number| range.contains(number)))
    }
}

/// Undoes percent-encoding; none if that does not lead to UTF-8.
pub fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        bytes.push((high * 16 + low) as u8);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_as_browsers_write_it() {
        let params = Params::parse(Some("from=e-1%3A4&thread=a&&thread=b%2Bc+d&limit=007&empty")).unwrap();
        assert_eq!(params.text("from"), Some("e-1:4"));
        assert_eq!(params.text("thread"), Some("b+c d"));
        assert_eq!(params.text("empty"), Some(""));
        assert_eq!(params.text("absent"), None);
        assert_eq!(params.number("limit", 1..=7), Ok(Some(7)));
        assert_eq!(params.number("absent", 1..=7), Ok(None));
        let refused = params.number("limit", 1..=6).unwrap_err().message;
        assert_eq!(refused, "field `limit`: expected a whole number from 1 to 6, found 007");
        assert_eq!(Params::parse(None), Ok(Params::default()));
    }

    #[test]
    fn what_is_not_encoded_text_is_refused() {
        for query in ["a=%", "a=%4", "a=%zz", "%ff=1", "a=%c3%28"] {
            assert!(Params::parse(Some(query)).is_err(), "{query}");
        }
    }
}
