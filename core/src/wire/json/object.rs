//! JSON as it is written: one object, field by field.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{Display, Write};
use serde::Serialize;

/// Room for as many bytes as most objects have, but for events.
const OBJECT_BYTES: usize = 128;

/// Writes one JSON object, field by field, in the order of the calls.
#[derive(Debug)]
pub struct Object(String);

impl Object {
    /// An empty object.
    pub fn new() -> Self {
        Self::with_room(OBJECT_BYTES)
    }

    /// An empty object, which will be about so many bytes long.
    pub(crate) fn with_room(bytes: usize) -> Self {
        let mut text = String::with_capacity(bytes);
        text.push('{');
        Self(text)
    }

    /// A message: an object that begins with its `type`.
    pub fn message(kind: &str) -> Self {
        Self::new().str("type", kind)
    }

    fn key(&mut self, name: &str) {
        if !self.0.ends_with('{') {
            self.0.push(',');
        }
        self.0.push('"');
        self.0.push_str(name);
        self.0.push_str("\":");
    }

    /// A string, escaped.
    #[must_use]
    pub fn str(mut self, name: &str, value: &str) -> Self {
        self.key(name);
        if has_special(value) {
            match serde_json::to_string(value) {
                Ok(text) => self.0.push_str(&text),
                Err(error) => unreachable!("a string is always JSON: {error}"),
            }
            return self;
        }
        // Nearly always: nothing is copied twice.
        self.0.push('"');
        self.0.push_str(value);
        self.0.push('"');
        self
    }

    /// A whole number: as [`Self::raw`], in a third of the time.
    #[must_use]
    pub fn number(mut self, name: &str, value: u64) -> Self {
        self.key(name);
        self.digits(value);
        self
    }

    fn digits(&mut self, value: u64) {
        match value {
            // Most that are stored: one character is put there, where a text is copied by a call.
            0..10 => self.0.push(char::from(b'0' + value as u8)),
            _ => self.0.push_str(itoa::Buffer::new().format(value)),
        }
    }

    /// An array of whole numbers.
    #[must_use]
    pub(crate) fn numbers(mut self, name: &str, values: impl IntoIterator<Item = u64>) -> Self {
        self.key(name);
        self.0.push('[');
        let begin = self.0.len();
        for value in values {
            self.digits(value);
            self.0.push(',');
        }
        // No comma after the last one.
        if self.0.len() > begin {
            self.0.pop();
        }
        self.0.push(']');
        self
    }

    /// An object, into which `fill` puts what is in it.
    #[must_use]
    pub(crate) fn object(mut self, name: &str, fill: impl FnOnce(Self) -> Self) -> Self {
        self.key(name);
        self.0.push('{');
        let mut all = fill(self);
        all.0.push('}');
        all
    }

    /// Anything that is plain data.
    #[must_use]
    pub(crate) fn json(self, name: &str, value: &impl Serialize) -> Self {
        self.written(name, &serde_json::to_string(value).expect("plain data is always JSON"))
    }

    /// A value that is JSON as it stands.
    #[must_use]
    pub(crate) fn written(mut self, name: &str, value: &str) -> Self {
        self.key(name);
        self.0.push_str(value);
        self
    }

    /// A number, or anything else whose text is JSON as it stands.
    #[must_use]
    pub fn raw(mut self, name: &str, value: impl Display) -> Self {
        self.key(name);
        if let Err(error) = write!(self.0, "{value}") {
            unreachable!("a String takes every text: {error}");
        }
        self
    }

    /// A string, if there is one.
    #[must_use]
    pub fn maybe_str(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.str(name, value),
            None => self,
        }
    }

    /// As [`Self::raw`], if there is one.
    #[must_use]
    pub fn maybe_raw(self, name: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.raw(name, value),
            None => self,
        }
    }

    /// An array of objects.
    #[must_use]
    pub fn list(mut self, name: &str, items: impl IntoIterator<Item = Self>) -> Self {
        self.key(name);
        self.0.push('[');
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                self.0.push(',');
            }
            self.0.push_str(&item.finish());
        }
        self.0.push(']');
        self
    }

    /// An array of strings, escaped.
    #[must_use]
    pub fn strings<'s>(mut self, name: &str, items: impl IntoIterator<Item = &'s str>) -> Self {
        let items: Vec<&str> = items.into_iter().collect();
        self.key(name);
        match serde_json::to_string(&items) {
            Ok(text) => self.0.push_str(&text),
            Err(error) => unreachable!("strings are always JSON: {error}"),
        }
        self
    }

    /// The finished text.
    pub fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// Whether a string has something to escape.
fn has_special(text: &str) -> bool {
    let is_special = |byte: &u8| (*byte == b'"') | (*byte == b'\\') | (*byte < b' ');
    let special = |any, byte: &u8| any | u8::from(is_special(byte));
    // Part by part, each to its end: the processor looks at many bytes at once.
    let (parts, rest) = text.as_bytes().as_chunks::<8>();
    parts.iter().any(|part| part.iter().fold(0, special) != 0) || rest.iter().fold(0, special) != 0
}

impl Default for Object {
    fn default() -> Self {
        Self::new()
    }
}
