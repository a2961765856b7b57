//! What is meant by a question in plain English: tables of words, quoted texts, and names that exist in the
//! folder.
//!
//! No model of language, but rules that can be read: the verbs say what is to be done, a quoted text is what
//! to look for, a word that names something in the folder is where, `.rs` or "rust" says which files. What
//! they do not cover is [`Goal::Unclear`], and the answer says so.

use super::tools::{Order, Part};
use super::words::{self, Trim as _, Word};

/// Which files count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    /// Without dots; none stands for all files.
    pub(super) extensions: Vec<&'static str>,
    /// As the answer calls them: "rust", ".rs"; empty for all.
    pub(super) label: String,
    /// In lower case, what the file's name must have in it; empty for all.
    pub(super) name: String,
}

impl Filter {
    pub(super) fn takes(&self, path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        if !self.name.is_empty() && !name.to_lowercase().contains(&self.name) {
            return false;
        }
        let extension =
            name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).map(|(_, extension)| extension);
        self.extensions.is_empty() || extension.is_some_and(|extension| self.extensions.contains(&extension))
    }
}

/// A question understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) goal: Goal,
    /// Where, as the user called it; `.` when nothing was said.
    pub(super) place: String,
    pub(super) filter: Filter,
}

/// What is to be found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// The first files in an order.
    Extreme {
        order: Order,
        keep: usize,
    },
    /// The folders directly below with the most (or fewest) bytes.
    ExtremeFolder {
        most: bool,
    },
    /// The files with the most or fewest lines.
    ExtremeLines {
        most: bool,
        keep: usize,
    },
    CountFiles,
    CountFolders,
    CountLines,
    /// How big, and how old, a file or a folder is.
    Size,
    /// Where a text stands. `tally`: how often is what matters.
    Search {
        text: String,
        tally: bool,
    },
    /// Where a file of this name is.
    Find {
        name: String,
    },
    List,
    Read {
        part: Part,
    },
    /// What a file says about something.
    About {
        topic: String,
    },
    /// None of these; the words that tell most.
    Unclear {
        telling: Vec<String>,
    },
}

/// How many lines are read when nobody says.
const READ_LINES: u64 = 60;

/// Understands `text`. `exists` says whether a name is in the folder.
pub(super) fn understand(text: &str, exists: &dyn Fn(&str) -> bool) -> Question {
    let words = words::split(text);
    let sentence = Sentence { words: &words, exists };
    let filter = sentence.filter();
    let mut place = sentence.place();
    let goal = sentence.goal(&filter, &mut place);
    Question { goal, place: place.map_or_else(|| ".".to_owned(), |(_, name)| name), filter }
}

/// A place, and which word names it.
type Named = Option<(usize, String)>;

struct Sentence<'a> {
    words: &'a [Word],
    exists: &'a dyn Fn(&str) -> bool,
}

const LARGEST: &[&str] = &["largest", "biggest", "heaviest", "greatest"];
const SMALLEST: &[&str] = &["smallest", "tiniest", "lightest"];
const NEWEST: &[&str] = &["newest", "latest", "youngest"];
const OLDEST: &[&str] = &["oldest"];
const LONGEST: &[&str] = &["longest"];
const SHORTEST: &[&str] = &["shortest"];
const FOLDER: &[&str] =
    &["folder", "folders", "directory", "directories", "subfolder", "subfolders", "subdirectories"];
const FILE: &[&str] = &["file", "files"];
const LINE: &[&str] = &["line", "lines", "loc"];
const SEARCH: &[&str] = &[
    "search",
    "grep",
    "find",
    "mention",
    "mentions",
    "mentioned",
    "mentioning",
    "contain",
    "contains",
    "containing",
    "occur",
    "occurs",
    "occurrences",
    "appear",
    "appears",
    "use",
    "used",
    "uses",
    "using",
    "define",
    "defined",
    "defines",
    "references",
    "referenced",
    "import",
    "imports",
    "imported",
    "call",
    "calls",
    "include",
    "includes",
];
const READ: &[&str] =
    &["read", "show", "print", "cat", "open", "display", "head", "tail", "contents", "content"];
/// What may follow "in" without being a place.
const AMOUNTS: &[&str] =
    &["total", "all", "bytes", "lines", "size", "full", "detail", "general", "code", "english", "order"];
const PLACE_BEFORE: &[&str] = &[
    "in",
    "under",
    "of",
    "from",
    "inside",
    "within",
    "below",
    "at",
    "list",
    "read",
    "show",
    "open",
    "cat",
    "print",
    "display",
    "does",
    "ls",
    "beneath",
    "folder",
    "directory",
    "file",
];

impl Sentence<'_> {
    fn has(&self, any: &[&str]) -> bool {
        self.first(any).is_some()
    }

    fn first(&self, any: &[&str]) -> Option<usize> {
        self.words.iter().position(|word| !word.quoted && any.contains(&word.low.as_str()))
    }

    /// Whether these words stand together, in this order.
    fn says(&self, phrase: &str) -> bool {
        self.after(phrase).is_some()
    }

    /// The word after a phrase.
    fn after(&self, phrase: &str) -> Option<usize> {
        let phrase: Vec<&str> = phrase.split(' ').collect();
        let matches = |window: &[Word]| {
            window.iter().zip(&phrase).all(|(word, said)| !word.quoted && word.low == *said)
        };
        Some(self.words.windows(phrase.len()).position(matches)? + phrase.len())
    }

    fn goal(&self, filter: &Filter, place: &mut Named) -> Goal {
        self.tally(place)
            .or_else(|| self.extreme())
            .or_else(|| self.amount(filter, place))
            .or_else(|| self.about(place))
            .or_else(|| self.reading(place))
            .or_else(|| self.listing(filter, place))
            .or_else(|| self.search(place))
            .or_else(|| self.number_of(place))
            .unwrap_or_else(|| self.otherwise(place))
    }

    /// "how many times is 'x' mentioned", "how many lines contain 'x'"
    fn tally(&self, place: &mut Named) -> Option<Goal> {
        let counted =
            self.says("how many") || self.says("how often") || self.says("number of") || self.has(&["count"]);
        let searched = self.has(SEARCH) || self.says("how often") || self.has(&["times"]);
        if !(counted && searched) {
            return None;
        }
        Some(Goal::Search { text: self.sought(place)?, tally: true })
    }

    fn extreme(&self) -> Option<Goal> {
        if self.says("when was") || self.says("when did") {
            return None;
        }
        let keep = self.number().unwrap_or(1).clamp(1, 50);
        let lines = self.has(LINE) && !self.has(&["byte", "bytes"]);
        let most_lines = self.says("most lines") || (lines && self.has(LARGEST)) || self.has(LONGEST);
        let fewest_lines = self.says("fewest lines") || self.says("least lines") || self.has(SHORTEST);
        let changed = self.has(&["changed", "modified", "edited", "touched", "updated", "written"]);
        let order = if most_lines || fewest_lines {
            return Some(Goal::ExtremeLines { most: most_lines, keep });
        } else if self.has(LARGEST) || self.says("most bytes") || self.says("most space") {
            Order::Largest
        } else if self.has(SMALLEST) {
            Order::Smallest
        } else if self.has(NEWEST) || (changed && self.has(&["last", "recently", "recent"])) {
            Order::Newest
        } else if self.has(OLDEST) || (changed && self.has(&["first"])) {
            Order::Oldest
        } else {
            return None;
        };
        if self.has(FOLDER) && !self.has(FILE) && self.asks_for_folder() {
            return Some(Goal::ExtremeFolder { most: order == Order::Largest });
        }
        Some(Goal::Extreme { order, keep })
    }

    /// "which folder is …", "the largest folder", but not "the largest in this folder".
    fn asks_for_folder(&self) -> bool {
        self.first(FOLDER).is_some_and(|at| {
            let before = at.checked_sub(1).map(|before| self.words[before].low.as_str());
            self.words[at].low.ends_with('s')
                || before.is_some_and(|before| {
                    ["which", "what"].contains(&before)
                        || LARGEST.contains(&before)
                        || SMALLEST.contains(&before)
                })
        })
    }

    /// "how many …", "how big …", "when was …"
    fn amount(&self, filter: &Filter, place: &Named) -> Option<Goal> {
        let count =
            self.says("how many") || self.says("number of") || self.has(&["count"]) || self.says("how much");
        if self.says("how long") && place.is_some() || (count && self.has(LINE)) || self.says("how much code")
        {
            return Some(Goal::CountLines);
        }
        let size =
            ["how big", "how large", "size of", "how heavy", "disk usage", "how old", "how much space"];
        if size.iter().any(|phrase| self.says(phrase)) || self.says("when was") || self.says("total size") {
            return Some(Goal::Size);
        }
        if !count {
            return None;
        }
        if self.has(&["byte", "bytes", "kilobytes", "megabytes", "gigabytes", "space", "disk"]) {
            return Some(Goal::Size);
        }
        match (self.first(FILE), self.first(FOLDER)) {
            (Some(_), None) => Some(Goal::CountFiles),
            (None, Some(at)) if self.words[at].low.ends_with('s') => Some(Goal::CountFolders),
            (Some(file), Some(folder)) if file < folder => Some(Goal::CountFiles),
            (Some(_), Some(folder)) if self.words[folder].low.ends_with('s') => Some(Goal::CountFolders),
            (Some(_), Some(_)) => Some(Goal::CountFiles),
            (None, _) => (!filter.extensions.is_empty() || self.has(&["things", "entries"]))
                .then_some(Goal::CountFiles),
        }
    }

    /// "what does X say about Y", "what is said about Y in X"
    fn about(&self, place: &mut Named) -> Option<Goal> {
        let from = self.first(&["about", "regarding", "concerning"])? + 1;
        let topic = words::join(self.words[from..self.end_of(from, place)].trim_small());
        if topic.is_empty() {
            // "tell me about core": the place is the topic.
            let (_, name) = place.take_if(|(at, _)| *at >= from)?;
            return Some(Goal::About { topic: name });
        }
        Some(Goal::About { topic })
    }

    /// "what is in README.md", "the first 10 lines of X"
    fn reading(&self, place: &mut Named) -> Option<Goal> {
        let number = self.number().map(|number| number as u64);
        let part = match (
            self.has(&["first", "top", "head", "beginning", "start"]),
            self.has(&["last", "tail", "end"]),
        ) {
            (_, true) => Part::Last(number.unwrap_or(10)),
            (true, _) => Part::First(number.unwrap_or(10)),
            (_, _) => Part::First(number.unwrap_or(READ_LINES)),
        };
        let lines = self.has(LINE) && part != Part::First(READ_LINES);
        let inside = self.says("what is in")
            || self.says("what's in")
            || self.says("what does")
            || self.says("whats in");
        if place.is_none() {
            *place = self.file_name().filter(|_| self.has(READ) || lines || inside);
        }
        let (at, name) = place.as_ref()?;
        let is_file = self.words[*at].looks_like_file() || !name.contains('/');
        let searched = self.has(&["search", "grep", "find"]) || self.quoted_other(*at).is_some();
        ((self.has(READ) || lines || inside) && is_file && !searched && !self.lists())
            .then_some(Goal::Read { part })
    }

    /// "where is 'foo' mentioned", "search for foo in X", "where is Cargo.toml"
    fn search(&self, place: &mut Named) -> Option<Goal> {
        let asked = self.has(&["named", "called", "exist", "exists"]) || self.says("is there");
        if asked && let Some((_, name)) = self.file_name().or_else(|| place.clone()) {
            *place = None;
            return Some(Goal::Find { name });
        }
        let mentioned = self.has(SEARCH) || self.says("look for");
        if self.has(&["where", "locate", "find"])
            && !self.mentions()
            && self.quoted().is_none()
            && let Some((at, name)) = self.file_name().or_else(|| place.clone())
            && self.words[..at].iter().all(|word| !words::is_telling(word))
        {
            *place = place.take().filter(|(other, _)| *other != at);
            return Some(Goal::Find { name });
        }
        if !mentioned && !self.has(&["where"]) {
            return None;
        }
        Some(Goal::Search { text: self.sought(place)?, tally: false })
    }

    /// A verb about what is inside of files.
    fn mentions(&self) -> bool {
        SEARCH.iter().any(|verb| !["find", "search"].contains(verb) && self.has(&[verb]))
    }

    fn lists(&self) -> bool {
        let asks = self.has(&["what", "which", "show", "find", "search"]) && self.has(&["files", "folders"]);
        let inside = self.mentions() || self.has(&["named", "called", "for"]);
        (self.has(&["list", "ls"]) || asks) && !inside && self.quoted().is_none()
    }

    fn listing(&self, filter: &Filter, place: &Named) -> Option<Goal> {
        let inside =
            place.is_some() && (self.says("what is in") || self.says("what's in") || self.says("whats in"));
        let what = self.says("what is here") || self.says("what's here");
        (self.lists() || inside || what || (!filter.extensions.is_empty() && self.has(READ)))
            .then_some(Goal::List)
    }

    /// "how many unwraps are in core": what is neither files nor lines is a word to count.
    fn number_of(&self, place: &mut Named) -> Option<Goal> {
        let from = self.after("how many").or_else(|| self.after("number of"))?;
        let told = &self.words[from..self.end_of(from, place)];
        let text = words::join(told.trim_small());
        (!text.is_empty()).then_some(Goal::Search { text, tally: true })
    }

    fn otherwise(&self, place: &mut Named) -> Goal {
        let other = |word: &&Word| words::is_telling(word);
        let at = place.as_ref().map(|(at, _)| *at);
        let mut telling: Vec<&Word> = self
            .words
            .iter()
            .enumerate()
            .filter(|(i, _)| Some(*i) != at)
            .map(|(_, word)| word)
            .filter(other)
            .collect();
        if telling.is_empty()
            && let Some((at, _)) = place
        {
            let part = Part::First(READ_LINES);
            return if self.words[*at].looks_like_file() { Goal::Read { part } } else { Goal::List };
        }
        telling.sort_by_key(|word| (!word.quoted, std::cmp::Reverse(word.text.len())));
        telling.truncate(3);
        Goal::Unclear { telling: telling.into_iter().map(|word| word.text.clone()).collect() }
    }

    /// What is to be searched for: the quoted text, or what follows the word that asks for it. A place that
    /// is the text itself is a place no more.
    fn sought(&self, place: &mut Named) -> Option<String> {
        if let Some(at) = self.quoted() {
            if place.as_ref().is_some_and(|(place, _)| *place == at) {
                *place = None;
            }
            return Some(self.words[at].text.clone());
        }
        const BEFORE: [&str; 20] = [
            "search for",
            "grep for",
            "look for",
            "occurrences of",
            "references to",
            "mentions of",
            "mention of",
            "grep",
            "mention",
            "mentions",
            "contains",
            "contain",
            "containing",
            "uses",
            "use",
            "defines",
            "find",
            "where is",
            "where are",
            "search",
        ];
        let begin = BEFORE.iter().find_map(|phrase| self.after(phrase)).filter(|at| *at < self.words.len());
        let asked = |from: usize| {
            let told = &self.words[from..self.end_of(from, place)];
            let end = told.iter().position(|word| SEARCH.contains(&word.low.as_str())).unwrap_or(told.len());
            words::join(told[..end].trim_small())
        };
        let text = begin.map(asked).filter(|text| !text.is_empty()).or_else(|| {
            // "is foo used anywhere", "how many times is foo mentioned": the last telling word before the
            // verb.
            let verb = self.first(SEARCH).unwrap_or(self.words.len());
            let place = place.as_ref().map(|(at, _)| *at);
            let mut before = self.words[..verb].iter().enumerate().rev();
            before
                .find(|(i, word)| Some(*i) != place && words::is_telling(word))
                .map(|(_, word)| word.text.clone())
        })?;
        if place.as_ref().is_some_and(|(_, name)| *name == text) {
            *place = None;
        }
        Some(text)
    }

    /// Where what begins at a word ends: before the words that lead to the place, or at the end of the
    /// question.
    fn end_of(&self, from: usize, place: &Named) -> usize {
        let Some((named, _)) = place.as_ref().filter(|(named, _)| *named >= from) else {
            return self.words.len();
        };
        from + self.words[from..*named].trim_small_end().len()
    }

    fn quoted(&self) -> Option<usize> {
        self.words.iter().position(|word| word.quoted && !word.text.is_empty())
    }

    fn quoted_other(&self, than: usize) -> Option<usize> {
        self.quoted().filter(|at| *at != than)
    }

    /// A number that is not part of a name: "5", "ten".
    fn number(&self) -> Option<usize> {
        self.words.iter().filter(|word| !word.quoted).find_map(|word| words::number(&word.low))
    }

    /// A word that looks like a file's name, whether it exists or not.
    fn file_name(&self) -> Named {
        let at = self.words.iter().position(Word::looks_like_file)?;
        Some((at, self.words[at].text.clone()))
    }

    /// The word that names the place: a path before a name that exists, outside quotes before inside.
    fn place(&self) -> Named {
        let named = |quoted: bool| {
            self.words.iter().enumerate().filter(move |(_, word)| word.quoted == quoted).find_map(
                |(at, word)| {
                    let name = word.text.trim_end_matches('/');
                    let name = if name.is_empty() { word.text.as_str() } else { name };
                    let path = word.looks_like_path() && !word.is_extension();
                    let bare = (self.exists)(name) && self.leads_to(at);
                    let known = path
                        && (word.text.contains('/') || name == "." || name == ".." || (self.exists)(name));
                    (bare || (known && (!word.quoted || (self.exists)(name)))).then(|| (at, name.to_owned()))
                },
            )
        };
        named(false).or_else(|| self.alias()).or_else(|| self.unknown_place()).or_else(|| named(true))
    }

    /// A word that is meant as a place, and names nothing: a file's name that may lie deeper, or "in
    /// nowhere".
    fn unknown_place(&self) -> Named {
        let file = |word: &Word| {
            let ending = word.low.rsplit_once('.').and_then(|(_, ending)| words::known_extension(ending));
            word.looks_like_file() && ending.is_some()
        };
        let within = ["in", "under", "inside", "within", "below", "beneath"];
        let meant = |at: usize, word: &Word| {
            let mut before = self.words[..at].iter().rev().filter(|word| word.low != "the");
            let led = before.next().is_some_and(|word| within.contains(&word.low.as_str()));
            let named =
                words::is_telling(word) && words::language(&word.low).is_none() && !word.is_extension();
            let ends = self.words.get(at + 1).is_none_or(|next| FOLDER.contains(&next.low.as_str()));
            led && ends && named && !AMOUNTS.contains(&word.low.as_str())
        };
        let found = |(at, word): &(usize, &Word)| !word.quoted && (file(word) || meant(*at, word));
        self.words.iter().enumerate().find(found).map(|(at, word)| (at, word.text.clone()))
    }

    /// "the readme" is a file, whatever its ending.
    fn alias(&self) -> Named {
        let known = ["README.md", "README", "README.txt", "LICENSE", "LICENCE", "CHANGELOG.md", "Makefile"];
        self.words.iter().enumerate().filter(|(_, word)| !word.quoted).find_map(|(at, word)| {
            let stem = |name: &&&str| {
                name.split('.').next().is_some_and(|stem| stem.eq_ignore_ascii_case(&word.low))
            };
            known.iter().filter(stem).find(|name| (self.exists)(name)).map(|name| (at, (*name).to_owned()))
        })
    }

    /// Whether the words before this one lead to a place: "in the … folder", "how big is …".
    fn leads_to(&self, at: usize) -> bool {
        let mut before = self.words[..at].iter().rev().filter(|word| word.low != "the");
        let next = self.words.get(at + 1).is_some_and(|word| FOLDER.contains(&word.low.as_str()));
        match before.next() {
            Some(word) if PLACE_BEFORE.contains(&word.low.as_str()) => true,
            Some(word) if word.low == "is" => self.has(&["how", "what"]) || next,
            Some(_) => next,
            None => self.words.len() == 1,
        }
    }

    fn filter(&self) -> Filter {
        let mut filter = Filter::default();
        for (at, word) in self.words.iter().enumerate().filter(|(_, word)| !word.quoted) {
            let extension = word.extension_only().or_else(|| {
                self.words.get(at + 1).filter(|next| FILE.contains(&next.low.as_str()))?;
                Some(word.low.as_str())
            });
            let named =
                extension.and_then(words::known_extension).map(|known| (vec![known], format!(".{known}")));
            let language = || {
                let extensions = words::language(&word.low).filter(|_| self.means_language(at))?;
                Some((extensions.to_vec(), word.text.clone()))
            };
            let Some((extensions, label)) = named.or_else(language) else { continue };
            filter.extensions.extend(extensions);
            filter.label =
                if filter.label.is_empty() { label } else { format!("{} or {label}", filter.label) };
        }
        filter
    }

    /// "rust files", "lines of rust", "written in rust"; but not every "go".
    fn means_language(&self, at: usize) -> bool {
        let after = [
            "files",
            "file",
            "code",
            "source",
            "sources",
            "lines",
            "scripts",
            "modules",
            "documents",
            "line",
        ];
        let before = ["of", "in", "any", "many"];
        let next = self.words.get(at + 1).is_some_and(|word| after.contains(&word.low.as_str()));
        let last = at.checked_sub(1).is_some_and(|at| before.contains(&self.words[at].low.as_str()));
        next || (last && !(self.exists)(&self.words[at].text))
    }
}
