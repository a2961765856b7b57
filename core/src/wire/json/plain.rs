//! The short way to read an object: one that is written as nearly all are, in one walk. Whatever is written
//! in another way is left to the parser, and so is all that is not JSON: only that can say what is wrong.

use super::{DEPTH_MAX, FIELDS, Fields, Value};
use alloc::borrow::Cow;
use alloc::vec::Vec;
use memchr::memchr;

/// The fields of a plain object: without escapes, white space but a space after a colon or comma, or numbers
/// that are not whole, and with values that are no deeper than a payload may be.
pub(super) fn fields(text: &str) -> Option<Fields<'_>> {
    // All bytes, whatever is found: so the processor looks at many at once.
    let is_special = |byte: u8| byte == b'\\' || byte < b' ';
    if text.bytes().fold(0, |any, byte| any | u8::from(is_special(byte))) != 0 {
        return None;
    }
    known_fields(text)
}

/// The same, of a text of which it is known that nothing special stands in it.
pub(super) fn known_fields(text: &str) -> Option<Fields<'_>> {
    let mut fields = Vec::with_capacity(FIELDS);
    let mut walk = Walk { rest: text };
    walk.object(DEPTH_MAX, |name, raw| fields.push((Cow::Borrowed(name), Value { raw, is_plain: true })))?;
    walk.rest.is_empty().then_some(Fields(fields))
}

/// A walk over a text in which no string has escapes. It goes no further than the text is plain.
struct Walk<'a> {
    rest: &'a str,
}

impl<'a> Walk<'a> {
    /// Goes past this byte, if it is next.
    fn pass(&mut self, byte: u8) -> Option<()> {
        if *self.rest.as_bytes().first()? != byte {
            return None;
        }
        self.rest = self.rest.get(1..)?;
        Some(())
    }

    /// Goes past this byte, and a space after it.
    fn separate(&mut self, byte: u8) -> Option<()> {
        self.pass(byte)?;
        self.pass(b' ').or(Some(()))
    }

    /// A string, without its quotes.
    fn string(&mut self) -> Option<&'a str> {
        self.pass(b'"')?;
        let end = memchr(b'"', self.rest.as_bytes())?;
        let text = self.rest.get(..end)?;
        self.rest = self.rest.get(end + 1..)?;
        Some(text)
    }

    /// An object, in which values may be so deep.
    fn object(&mut self, depth: usize, mut each: impl FnMut(&'a str, &'a str)) -> Option<()> {
        self.pass(b'{')?;
        if self.pass(b'}').is_some() {
            return Some(());
        }
        loop {
            let name = self.string()?;
            self.separate(b':')?;
            each(name, self.value(depth)?);
            if self.separate(b',').is_none() {
                return self.pass(b'}');
            }
        }
    }

    /// An array, in which values may be so deep.
    fn array(&mut self, depth: usize) -> Option<()> {
        self.pass(b'[')?;
        if self.pass(b']').is_some() {
            return Some(());
        }
        loop {
            self.value(depth)?;
            if self.separate(b',').is_none() {
                return self.pass(b']');
            }
        }
    }

    /// A value that may be so deep, as written.
    fn value(&mut self, depth: usize) -> Option<&'a str> {
        let from = self.rest;
        match from.as_bytes().first()? {
            b'"' => drop(self.string()?),
            b'0'..=b'9' => self.whole_number()?,
            b'{' => self.object(depth.checked_sub(1)?, |_, _| {})?,
            b'[' => self.array(depth.checked_sub(1)?)?,
            _ => self.word()?,
        }
        from.get(..from.len() - self.rest.len())
    }

    fn whole_number(&mut self) -> Option<()> {
        let is_zero = self.rest.starts_with('0');
        let digits = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        self.rest = self.rest.get(digits..)?;
        (digits == 1 || !is_zero).then_some(())
    }

    fn word(&mut self) -> Option<()> {
        let words = ["true", "false", "null"];
        self.rest = words.into_iter().find_map(|word| self.rest.strip_prefix(word))?;
        Some(())
    }
}
