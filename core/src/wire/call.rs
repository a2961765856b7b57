//! Which of a client's calls a connection is (PROTOCOL §3 `call`): a call that was given up may arrive after
//! the one that followed it, and must not take its place.

use super::json::{Field, Fields, Value};
use alloc::borrow::Cow;
use alloc::string::String;

/// The longest name of a caller, in bytes.
const BY_BYTES: usize = 64;

/// A call, as its client counts them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Who counts: a process, or a page in a browser, under a name made by chance.
    by: String,
    /// Its number: later calls have larger ones.
    n: u64,
}

impl Call {
    /// Whether the first was made before the other. Of those that one caller has not counted nobody can tell:
    /// then the one that comes later counts as later.
    pub fn is_before(first: Option<&Self>, other: Option<&Self>) -> bool {
        first.zip(other).is_some_and(|(first, other)| first.by == other.by && first.n < other.n)
    }
}

impl<'a> Field<'a> for Call {
    const EXPECTED: &'static str = "{\"by\": 1 to 64 bytes, \"n\": a whole number}";

    fn read(value: Value<'a>) -> Option<Self> {
        let fields = Fields::parse(value.raw).ok()?;
        let by = fields.required::<Cow<'_, str>>("by").ok()?;
        let is_right = (1..=BY_BYTES).contains(&by.len());
        let n = fields.required("n").ok()?;
        is_right.then(|| Self { by: by.into_owned(), n })
    }
}
