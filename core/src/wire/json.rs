//! JSON as the protocol needs it: objects read field by field, so that an error can name the field and what
//! was expected there, payloads passed through as written, and objects written in order.

mod digest;
mod object;
mod plain;
#[cfg(test)]
mod properties;

pub use object::Object;

use super::error::{Code, Refusal};
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The deepest nesting of a payload, counted from its outermost bracket (PROTOCOL, conventions).
pub const DEPTH_MAX: usize = 64;
/// The largest integer of the protocol: 53 bits.
pub const INTEGER_MAX: u64 = (1 << 53) - 1;

/// Room for as many fields as most messages have.
const FIELDS: usize = 8;

/// A message's fields, unread. Where a name stands twice the last one counts.
#[derive(Debug)]
pub struct Fields<'a>(Vec<(Cow<'a, str>, Value<'a>)>);

/// A field's value, unread.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    /// JSON, without white space around it.
    pub raw: &'a str,
    /// Whether it is known to have no escapes, and to be no deeper than a payload may be.
    is_plain: bool,
}

impl<'a> Value<'a> {
    const fn new(raw: &'a str) -> Self {
        Self { raw, is_plain: false }
    }
}

impl<'a> Fields<'a> {
    /// Reads the outer object.
    ///
    /// # Errors
    /// `bad_json` for what is not JSON, `bad_message` for what is not an object.
    pub fn parse(text: &'a str) -> Result<Self, Refusal> {
        if let Some(fields) = plain::fields(text) {
            return Ok(fields);
        }
        match serde_json::from_str::<Self>(text) {
            Ok(fields) => Ok(fields),
            Err(error) if error.is_data() => Err(Refusal::new(
                Code::BadMessage,
                "expected one JSON object, found another JSON value",
                "send one JSON object per text message",
            )),
            Err(error) => Err(Refusal::new(
                Code::BadJson,
                format!("expected one JSON object, found at column {}: {error}", error.column()),
                "send one JSON object per text message",
            )),
        }
    }

    fn value(&self, name: &str) -> Option<Value<'a>> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| *value)
    }

    /// The text of a field's value.
    pub(crate) fn raw(&self, name: &str) -> Option<&'a str> {
        self.value(name).map(|value| value.raw)
    }

    /// The fields as they come, with the texts of their values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &'a str)> {
        self.0.iter().map(|(key, value)| (key.as_ref(), value.raw))
    }

    /// A field that must be there.
    ///
    /// # Errors
    /// `bad_message`, naming the field and what was expected.
    pub fn required<T: Field<'a>>(&self, name: &str) -> Result<T, Refusal> {
        let Some(value) = self.value(name) else {
            return Err(wrong(name, T::EXPECTED, "nothing"));
        };
        T::read(value).ok_or_else(|| wrong(name, T::EXPECTED, value.raw))
    }

    /// A field that may be absent or null.
    ///
    /// # Errors
    /// `bad_message`, naming the field and what was expected.
    pub fn optional<T: Field<'a>>(&self, name: &str) -> Result<Option<T>, Refusal> {
        match self.raw(name) {
            None => Ok(None),
            Some("null") => Ok(None),
            Some(_) => self.required(name).map(Some),
        }
    }

    /// Puts a field in, in the place of one that is there. `value` is JSON.
    ///
    /// # Panics
    /// If it is not.
    pub fn put(&mut self, name: &'a str, value: &'a str) {
        let value: &RawValue = serde_json::from_str(value).expect("only JSON is put into a message");
        self.0.push((Cow::Borrowed(name), Value::new(value.get())));
    }

    /// Whether a field is there and not null.
    pub fn has(&self, name: &str) -> bool {
        self.raw(name).is_some_and(|raw| raw != "null")
    }
}

/// The refusal of a field. Of a long `found` only the beginning is told.
pub fn wrong(field: &str, expected: &str, found: &str) -> Refusal {
    Refusal::new(
        Code::BadMessage,
        format!("field `{field}`: expected {expected}, found {}", excerpt(found)),
        "see the message's fields in the protocol",
    )
}

/// The beginning of a value, for an error.
fn excerpt(raw: &str) -> String {
    const LONGEST: usize = 40;
    if raw.len() <= LONGEST {
        return raw.into();
    }
    let end = (0..=LONGEST).rev().find(|at| raw.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &raw[..end])
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Vec<(Cow<'de, str>, Value<'de>)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::with_capacity(FIELDS);
                while let Some(Text(key)) = map.next_key()? {
                    let value = map.next_value::<&RawValue>()?;
                    entries.push((key, Value::new(value.get())));
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_map(Object).map(Self)
    }
}

/// A string, borrowed where it has no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(transparent)]
        struct Borrowing<'a>(#[serde(borrow)] Cow<'a, str>);
        Borrowing::deserialize(deserializer).map(|text| Self(text.0))
    }
}

/// A type that a field may have.
pub trait Field<'a>: Sized {
    /// In words, for an error.
    const EXPECTED: &'static str;
    /// The value, if it is one.
    fn read(value: Value<'a>) -> Option<Self>;
}

impl<'a> Field<'a> for u64 {
    const EXPECTED: &'static str = "a whole number from 0 to 2^53 - 1";
    fn read(value: Value<'a>) -> Option<Self> {
        // It is JSON, in which a whole number has neither a sign `+` nor leading zeros.
        value.raw.parse().ok().filter(|number| *number <= INTEGER_MAX)
    }
}

impl<'a> Field<'a> for bool {
    const EXPECTED: &'static str = "true or false";
    fn read(value: Value<'a>) -> Option<Self> {
        serde_json::from_str(value.raw).ok()
    }
}

impl<'a> Field<'a> for Cow<'a, str> {
    const EXPECTED: &'static str = "a string";
    fn read(value: Value<'a>) -> Option<Self> {
        let text = value.raw.strip_prefix('"')?.strip_suffix('"')?;
        if value.is_plain || !text.contains('\\') {
            return Some(Cow::Borrowed(text));
        }
        serde_json::from_str::<Text<'a>>(value.raw).ok().map(|text| text.0)
    }
}

macro_rules! name_fields {
    ($($name:ident),*) => {$(
        impl<'a> Field<'a> for crate::ids::$name {
            const EXPECTED: &'static str = Self::RULE;
            fn read(value: Value<'a>) -> Option<Self> {
                Self::parse(&<Cow<'a, str>>::read(value)?)
            }
        }
    )*};
}

name_fields!(User, Thread, Agent, WorkerName, Device, Key, Call, Request, RunId, Topic, EventName, Epoch);

/// Any JSON value, as written. At most [`DEPTH_MAX`] deep, without lone surrogates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload<'a>(pub &'a str);

impl<'a> Field<'a> for Payload<'a> {
    const EXPECTED: &'static str = "JSON at most 64 deep, without lone surrogates";
    fn read(value: Value<'a>) -> Option<Self> {
        (value.is_plain || is_sound(value.raw)).then_some(Self(value.raw))
    }
}

/// A JSON object, as written, with the limits of [`Payload`].
#[derive(Debug)]
pub struct ObjectPayload<'a> {
    /// As written.
    pub text: &'a str,
    /// What stands in it.
    pub fields: Fields<'a>,
}

impl<'a> Field<'a> for ObjectPayload<'a> {
    const EXPECTED: &'static str = "an object at most 64 deep, without lone surrogates";
    fn read(value: Value<'a>) -> Option<Self> {
        let text = Payload::read(value)?.0;
        let fields = if value.is_plain { plain::known_fields(text) } else { Fields::parse(text).ok() };
        fields.map(|fields| Self { text, fields })
    }
}

/// The elements of an array.
#[derive(Debug)]
pub struct List<'a>(pub Vec<&'a str>);

impl<'a> Field<'a> for List<'a> {
    const EXPECTED: &'static str = "an array";
    fn read(value: Value<'a>) -> Option<Self> {
        let items: Vec<&'a RawValue> = serde_json::from_str(value.raw).ok()?;
        Some(Self(items.into_iter().map(RawValue::get).collect()))
    }
}

/// Whether valid JSON keeps to the limits of a payload.
fn is_sound(raw: &str) -> bool {
    let bytes = raw.as_bytes();
    // Nearly always: too few brackets to be too deep, even if all of them were open, and no escapes.
    (opening_brackets(bytes) <= DEPTH_MAX && !raw.contains('\\')) || is_sound_within(bytes)
}

/// Counted in bytes as long as those cannot overflow: so the processor looks at many at once.
fn opening_brackets(bytes: &[u8]) -> usize {
    let count = |part: &[u8]| part.iter().map(|byte| u8::from(matches!(byte, b'[' | b'{'))).sum::<u8>();
    bytes.chunks(usize::from(u8::MAX)).map(|part| usize::from(count(part))).sum()
}

/// The same, byte by byte.
fn is_sound_within(bytes: &[u8]) -> bool {
    let (mut depth, mut at, mut in_string) = (0usize, 0, false);
    while let Some(byte) = bytes.get(at) {
        match (in_string, byte) {
            (true, b'\\') if bytes.get(at + 1) == Some(&b'u') => match surrogate(bytes, at) {
                Surrogate::None => at += 5,
                Surrogate::Pair => at += 11,
                Surrogate::Lone => return false,
            },
            (true, b'\\') => at += 1,
            (_, b'"') => in_string = !in_string,
            (false, b'[' | b'{') => depth += 1,
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return false;
        }
        at += 1;
    }
    true
}

enum Surrogate {
    None,
    Pair,
    Lone,
}

/// What the escape at `at` is: `\u` and four digits, one half of a pair, or none.
fn surrogate(bytes: &[u8], at: usize) -> Surrogate {
    let unit = |at: usize| {
        let digits = core::str::from_utf8(bytes.get(at + 2..at + 6)?).ok()?;
        (bytes.get(at..at + 2) == Some(b"\\u")).then(|| u16::from_str_radix(digits, 16).ok())?
    };
    match unit(at) {
        Some(0xd800..=0xdbff) if matches!(unit(at + 6), Some(0xdc00..=0xdfff)) => Surrogate::Pair,
        Some(0xd800..=0xdfff) => Surrogate::Lone,
        _ => Surrogate::None,
    }
}
