//! Whether two requests under one key say the same: a digest that is the same for the same JSON values.
//!
//! It takes time in proportion to the text, whatever nests in it: what a stranger sends is not read once for
//! each bracket around it.

use super::{Field, Fields, Value, is_sound};
use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::ops::Range;

impl Fields<'_> {
    /// A digest of all fields but `except`, the same for the same JSON values: order, white space and escapes
    /// do not count; numbers count as written, and so does what no payload may be, which nobody looks into.
    pub fn digest(&self, except: &[&str]) -> u128 {
        let counts = self.iter().filter(|(name, _)| !except.contains(name));
        let mut digest = Digest::new();
        digest.members(counts, |digest, value| {
            if is_sound(value) {
                digest.value(&Tokens::of(value), 0);
            } else {
                digest.text(value);
            }
        });
        digest.0
    }
}

/// FNV-1a over a canonical form. Tells a user's own requests apart; guards nothing. It is stored.
struct Digest(u128);

impl Digest {
    const fn new() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }

    fn text(&mut self, text: &str) {
        self.bytes(&(text.len() as u64).to_le_bytes());
        self.bytes(text.as_bytes());
    }

    /// An object, by its names; of those that stand twice the last one counts.
    fn members<N: AsRef<str>, V>(
        &mut self,
        members: impl Iterator<Item = (N, V)>,
        mut value: impl FnMut(&mut Self, V),
    ) {
        let mut sorted: Vec<(N, V)> = members.collect();
        sorted.sort_by(|one, other| one.0.as_ref().cmp(other.0.as_ref()));
        let mut sorted = sorted.into_iter().peekable();
        self.bytes(b"{");
        while let Some((name, last)) = sorted.next() {
            if sorted.peek().is_none_or(|next| next.0.as_ref() != name.as_ref()) {
                self.text(name.as_ref());
                value(self, last);
            }
        }
        self.bytes(b"}");
    }

    /// The value that begins with this token. It is at most [`DEPTH_MAX`](super::DEPTH_MAX) deep, so this
    /// ends.
    fn value(&mut self, tokens: &Tokens<'_>, at: usize) {
        let raw = tokens.text(at);
        match raw.as_bytes().first() {
            Some(b'{') => {
                let names = tokens.inside(at).step_by(2);
                let members = names.map(|(name, value)| (tokens.string(name), value));
                self.members(members, |digest, value| digest.value(tokens, value));
            }
            Some(b'[') => {
                self.bytes(b"[");
                for (item, _) in tokens.inside(at) {
                    self.value(tokens, item);
                }
                self.bytes(b"]");
            }
            Some(b'"') => {
                self.bytes(b"\"");
                self.text(&tokens.string(at));
            }
            _ => self.text(raw),
        }
    }
}

/// All values of a text that is JSON, in the order in which they begin, found in one walk. Names of members
/// are values, too.
struct Tokens<'a> {
    text: &'a str,
    all: Vec<Token>,
}

/// Where a value stands, and the first token that is not in it.
struct Token {
    place: Range<usize>,
    after: usize,
}

impl<'a> Tokens<'a> {
    fn of(text: &'a str) -> Self {
        let (bytes, mut all, mut open) = (text.as_bytes(), Vec::new(), Vec::new());
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            let length = match byte {
                b'"' => string_length(&bytes[at..]),
                b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => plain_length(&bytes[at..]),
                _ => 1,
            };
            let place = at..at + length;
            at = place.end;
            match byte {
                b'{' | b'[' => {
                    open.push(all.len());
                    all.push(Token { place, after: 0 });
                }
                b'}' | b']' => {
                    let (after, end) = (all.len(), place.end);
                    if let Some(begun) = open.pop().and_then(|begun: usize| all.get_mut(begun)) {
                        (begun.after, begun.place.end) = (after, end);
                    }
                }
                b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
                    let after = all.len() + 1;
                    all.push(Token { place, after });
                }
                _ => {}
            }
        }
        Self { text, all }
    }

    fn text(&self, at: usize) -> &'a str {
        &self.text[self.all[at].place.clone()]
    }

    fn string(&self, at: usize) -> Cow<'a, str> {
        <Cow<'_, str>>::read(Value::new(self.text(at))).unwrap_or_default()
    }

    /// The values right in an array or object, each with the next one.
    fn inside(&self, at: usize) -> impl Iterator<Item = (usize, usize)> {
        let end = self.all[at].after;
        let next = move |at: usize| (at < end).then(|| (at, self.all[at].after));
        core::iter::successors(next(at + 1), move |(_, after)| next(*after))
    }
}

/// The length of a string with its quotes.
fn string_length(bytes: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The length of a number, `true`, `false` or `null`.
fn plain_length(bytes: &[u8]) -> usize {
    let is_in = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
    bytes.iter().position(|byte| !is_in(byte)).unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    /// As it was before it took one walk over the text.
    const PINNED: u128 = 0x118b_d578_dede_b0b9_1ce8_6259_1e4f_04df;

    fn digest(text: &str) -> u128 {
        Fields::parse(text).unwrap().digest(&["id"])
    }

    /// Those of stored requests must stay what they were.
    #[test]
    fn a_digest_never_changes() {
        let text = r#"{"id":"1","b":[1,-2.50e1,"\u00e9\n",[],{}],"a":{"z":null,"y":{"k":[true,{"x":"\\\""}]},"z":false},"s":"ü"}"#;
        assert_eq!(digest(text), PINNED);
        let other = r#" { "s" : "\u00fc", "a":{"y":{ "k" : [ true , {"x":"\\\""} ] },"z":false}, "b":[1,-2.50e1,"é\n",[ ],{ }], "b0":0, "id":2 } "#;
        assert_ne!(digest(other), PINNED, "b0");
        assert_eq!(digest(&other.replace(r#""b0":0, "#, "")), PINNED);
        for (was, is) in
            [("2.50e1", "2.5e1"), ("[]", "[[]]"), ("true", "false"), ("false", "null"), ("ü", "u")]
        {
            assert_ne!(digest(&text.replacen(was, is, 1)), PINNED, "{is}");
        }
    }

    /// Once such a field, which nobody had asked for, was read once for each of its brackets, one inside the
    /// other, until the stack had no more room.
    #[test]
    fn what_is_nested_without_end_counts_as_written() {
        let nested = |depth: usize| format!(r#"{{"x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        assert_eq!(digest(&nested(200_000)), digest(&nested(200_000)));
        assert_ne!(digest(&nested(200_000)), digest(&nested(199_999)));
    }
}
