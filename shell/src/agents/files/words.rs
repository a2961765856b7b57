//! Words of a question, and what is known of them.

/// A word, or a quoted text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    /// As written.
    pub(super) text: String,
    /// In lower case.
    pub(super) low: String,
    pub(super) quoted: bool,
}

/// Pairs of quotes.
const QUOTES: [(char, char); 5] = [('"', '"'), ('\'', '\''), ('`', '`'), ('“', '”'), ('‘', '’')];

/// Words that say nothing about what is looked for.
const SMALL: &[&str] = &[
    "a",
    "about",
    "all",
    "an",
    "and",
    "any",
    "anything",
    "are",
    "at",
    "be",
    "below",
    "by",
    "can",
    "could",
    "directory",
    "do",
    "does",
    "each",
    "every",
    "everything",
    "file",
    "files",
    "folder",
    "folders",
    "for",
    "from",
    "has",
    "have",
    "here",
    "how",
    "i",
    "in",
    "inside",
    "is",
    "it",
    "its",
    "many",
    "me",
    "most",
    "much",
    "my",
    "name",
    "of",
    "on",
    "or",
    "please",
    "project",
    "repository",
    "repo",
    "said",
    "say",
    "says",
    "some",
    "tell",
    "text",
    "that",
    "the",
    "their",
    "them",
    "there",
    "these",
    "this",
    "those",
    "times",
    "to",
    "under",
    "was",
    "were",
    "what",
    "what's",
    "when",
    "where",
    "which",
    "who",
    "why",
    "will",
    "with",
    "within",
    "word",
    "would",
    "you",
    "your",
    "anywhere",
    "everywhere",
    "often",
];

/// What a language's files end with.
const LANGUAGES: &[(&str, &[&str])] = &[
    ("rust", &["rs"]),
    ("python", &["py"]),
    ("javascript", &["js", "mjs", "cjs"]),
    ("typescript", &["ts", "tsx"]),
    ("go", &["go"]),
    ("java", &["java"]),
    ("c", &["c", "h"]),
    ("c++", &["cpp", "cc", "cxx", "hpp", "hh"]),
    ("ruby", &["rb"]),
    ("shell", &["sh", "bash"]),
    ("bash", &["sh", "bash"]),
    ("markdown", &["md"]),
    ("html", &["html", "htm"]),
    ("css", &["css"]),
    ("toml", &["toml"]),
    ("json", &["json"]),
    ("yaml", &["yaml", "yml"]),
    ("sql", &["sql"]),
    ("text", &["txt"]),
];

/// Other endings that a question may name.
const EXTENSIONS: &[&str] = &[
    "rs", "py", "js", "mjs", "cjs", "ts", "tsx", "jsx", "go", "java", "c", "h", "cpp", "cc", "cxx", "hpp",
    "hh", "rb", "sh", "bash", "md", "html", "htm", "css", "toml", "json", "yaml", "yml", "sql", "txt",
    "lock", "log", "csv", "xml", "svg", "png", "jpg", "jpeg", "gif", "pdf", "zip", "gz", "tar", "rlib",
    "rmeta", "o", "so", "a", "d", "snap", "ini", "cfg", "conf", "env", "redb", "db", "bin", "php", "swift",
    "kt", "lua", "pl", "r", "scala", "zig", "proto", "wasm", "ipynb", "rst", "tex",
];

const NUMBERS: [&str; 13] = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
];

/// Splits a question into words. A quote opens only before a word and closes only after one, so that "what's"
/// is a word.
pub(super) fn split(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        if let Some((quoted, after)) = quoted(rest, first) {
            words.push(Word { text: quoted.to_owned(), low: quoted.to_lowercase(), quoted: true });
            rest = after;
        } else {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            let bare = bare(&rest[..end]);
            if !bare.is_empty() {
                words.push(Word { text: bare.to_owned(), low: bare.to_lowercase(), quoted: false });
            }
            rest = &rest[end..];
        }
        rest = rest.trim_start();
    }
    words
}

/// The quoted text at the beginning, and what follows it.
fn quoted(rest: &str, first: char) -> Option<(&str, &str)> {
    let (_, close) = QUOTES.iter().find(|(open, _)| *open == first)?;
    let inner = &rest[first.len_utf8()..];
    let closes = |(at, _): &(usize, &str)| {
        let next = inner[at + close.len_utf8()..].chars().next();
        next.is_none_or(|next| !next.is_alphanumeric())
    };
    let (at, _) = inner.match_indices(*close).find(closes)?;
    let after = inner[at + close.len_utf8()..].trim_start_matches(['?', '!', '.', ',', ';', ':', ')']);
    Some((&inner[..at], after))
}

/// A word without the punctuation around it; `.` and `..` and names with a dot stay.
fn bare(word: &str) -> &str {
    let word = word.trim_start_matches(['(', '"', '\'', '`', '“', '‘', '[', ',']);
    let word = word.trim_end_matches(['?', '!', ',', ';', ':', ')', '"', '\'', '`', '”', '’', ']']);
    if word.chars().all(|c| c == '.') && word.len() <= 2 {
        return word;
    }
    let cut = word.trim_end_matches('.');
    // "under ./." and "in ../..": the dots are the path.
    if cut.ends_with('/') { word } else { cut }
}

impl Word {
    pub(super) fn looks_like_path(&self) -> bool {
        self.text.contains('/') || self.text.contains('.')
    }

    /// Has a stem and an ending: `main.rs`, `core/src/lib.rs`.
    pub(super) fn looks_like_file(&self) -> bool {
        let name = self.text.rsplit('/').next().unwrap_or(&self.text);
        let ends = |(stem, ending): (&str, &str)| {
            !stem.is_empty() && stem != "*" && !ending.is_empty() && ending.chars().all(char::is_alphanumeric)
        };
        !self.text.contains(char::is_whitespace)
            && name.rsplit_once('.').is_some_and(ends)
            && !name.chars().all(|c| c.is_ascii_digit() || c == '.')
    }

    /// `.rs` and `*.rs`.
    pub(super) fn is_extension(&self) -> bool {
        self.extension_only().and_then(known_extension).is_some()
    }

    pub(super) fn extension_only(&self) -> Option<&str> {
        self.low.strip_prefix("*.").or_else(|| self.low.strip_prefix('.'))
    }
}

pub(super) fn is_small(word: &Word) -> bool {
    !word.quoted && SMALL.contains(&word.low.as_str())
}

/// Whether a word may be what a question is about.
pub(super) fn is_telling(word: &Word) -> bool {
    word.quoted || (!is_small(word) && word.text.chars().filter(|c| c.is_alphanumeric()).count() > 1)
}

/// Cutting off words that say nothing.
pub(super) trait Trim {
    /// At the end.
    fn trim_small_end(&self) -> &[Word];
    /// On both sides.
    fn trim_small(&self) -> &[Word];
}

impl Trim for [Word] {
    fn trim_small_end(&self) -> &[Word] {
        let end = self.iter().rposition(|word| !is_small(word)).map_or(0, |at| at + 1);
        &self[..end]
    }

    fn trim_small(&self) -> &[Word] {
        let begin = self.iter().position(|word| !is_small(word)).unwrap_or(self.len());
        self[begin..].trim_small_end()
    }
}

/// Words as one text.
pub(super) fn join(words: &[Word]) -> String {
    let words: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
    words.join(" ")
}

pub(super) fn number(word: &str) -> Option<usize> {
    word.parse().ok().or_else(|| NUMBERS.iter().position(|name| *name == word).filter(|number| *number > 1))
}

/// The ending itself, as a name that lasts.
pub(super) fn known_extension(word: &str) -> Option<&'static str> {
    EXTENSIONS.iter().find(|known| **known == word).copied()
}

pub(super) fn language(word: &str) -> Option<&'static [&'static str]> {
    LANGUAGES.iter().find(|(name, _)| *name == word).map(|(_, extensions)| *extensions)
}
