//! A value as it was written, in a file or as a word of the environment or the command line.

use super::problem::{Origin, Problem};
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The longest piece of a configuration that an error repeats, in characters.
const FOUND_CHARS: usize = 60;

/// What the offsets of a value count in.
#[derive(Clone, Debug)]
pub(crate) struct Source<'a> {
    /// The whole text.
    pub(crate) text: &'a str,
    /// Where it stands.
    pub(crate) origin: Origin,
}

impl Source<'_> {
    /// The place of a byte: its line if this is a file.
    pub(crate) fn at(&self, offset: usize) -> Origin {
        let before = self.text.as_bytes().get(..offset).unwrap_or_default();
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        match &self.origin {
            Origin::File(path, _) => Origin::File(path.clone(), Some(line)),
            elsewhere @ (Origin::Default | Origin::Environment(_) | Origin::Flag(_)) => elsewhere.clone(),
        }
    }
}

/// A value of one key.
#[derive(Clone, Debug)]
pub(crate) struct Written<'a> {
    /// The key's whole name, like `runs.timeout`.
    pub(crate) key: &'a str,
    /// What its places count in.
    pub(crate) source: &'a Source<'a>,
    /// How it is written: as TOML, or as a bare word (the whole source) without.
    pub(crate) toml: Option<&'a Spanned<DeValue<'a>>>,
    /// What the key is without it, as TOML: shows how such a value is written.
    pub(crate) default: Option<&'a str>,
}

impl<'a> Written<'a> {
    /// The place to name in an error.
    pub(crate) fn origin(&self) -> Origin {
        self.toml.map_or_else(|| self.source.origin.clone(), |value| self.source.at(value.span().start))
    }

    /// The value as text, if that is what it is.
    pub(crate) fn text(&self) -> Option<&'a str> {
        match self.toml.map(Spanned::get_ref) {
            None => Some(self.source.text),
            Some(DeValue::String(text)) => Some(text),
            Some(_) => None,
        }
    }

    /// The value as a whole number, if that is what it is.
    pub(crate) fn number(&self) -> Option<u64> {
        match self.toml.map(Spanned::get_ref) {
            None => self.source.text.parse().ok(),
            Some(DeValue::Integer(n)) => u64::from_str_radix(n.as_str(), n.radix()).ok(),
            Some(_) => None,
        }
    }

    /// The value as true or false, if that is what it is.
    pub(crate) fn switch(&self) -> Option<bool> {
        match self.toml.map(Spanned::get_ref) {
            None => self.source.text.parse().ok(),
            Some(DeValue::Boolean(is_on)) => Some(*is_on),
            Some(_) => None,
        }
    }

    /// The value as a path: in a file it is relative to the file and made absolute, so that it can be
    /// printed; elsewhere it is relative to the working directory and stays as it is.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        let path = Path::new(self.text().filter(|text| !text.is_empty())?);
        match &self.source.origin {
            Origin::File(file, _) => {
                std::path::absolute(file.parent().unwrap_or(Path::new("")).join(path)).ok()
            }
            Origin::Default | Origin::Environment(_) | Origin::Flag(_) => Some(path.to_owned()),
        }
    }

    /// Does something with each item, if this is a list. A bare word is read as TOML for it.
    pub(crate) fn items<T>(
        &self,
        expected: &str,
        mut item: impl FnMut(&Written<'_>) -> Result<T, Problem>,
    ) -> Result<Vec<T>, Problem> {
        let parsed;
        let value = match self.toml {
            Some(value) => value,
            None => {
                parsed = DeValue::parse(self.source.text).map_err(|_| self.expected(expected))?;
                &parsed
            }
        };
        let list = value.get_ref().as_array().ok_or_else(|| self.expected(expected))?;
        list.iter().map(|one| item(&Written { toml: Some(one), ..*self })).collect()
    }

    /// The value as a table, if that is what it is.
    pub(crate) fn table(&self) -> Option<&'a DeTable<'a>> {
        self.toml?.get_ref().as_table()
    }

    /// The error of a value that is not what it must be.
    pub(crate) fn expected(&self, expected: &str) -> Problem {
        let fix = self.default.map_or("correct it".to_owned(), |value| format!("the default is {value}"));
        self.wrong(format!("expected {expected}, found {}", self.found()), fix)
    }

    /// An error about this value.
    pub(crate) fn wrong(&self, reason: impl AsRef<str>, fix: impl Into<String>) -> Problem {
        Problem::new(self.origin(), format!("{}: {}", self.key, reason.as_ref()), fix)
    }

    fn found(&self) -> String {
        let text = self.toml.map_or(Some(self.source.text), |value| self.source.text.get(value.span()));
        let line = text.unwrap_or_default().lines().next().unwrap_or_default();
        match line.char_indices().nth(FOUND_CHARS) {
            None if line.is_empty() => "nothing".to_owned(),
            None => line.to_owned(),
            Some((end, _)) => format!("{}…", &line[..end]),
        }
    }
}
