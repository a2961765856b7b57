//! From the sources to the settings: the file first, then the environment, then the command line.

use super::Settings;
use super::problem::{Origin, Problem, Problems};
use super::table::{AGENT, SETTINGS, TOPIC, Table, find};
use super::written::{Source, Written};
use runcast_core::ids::{Agent, Topic};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The longest configuration file, in bytes.
const FILE_BYTES: u64 = 1 << 20;
/// The most agents, and the most topics, that may be configured.
const NAMED_MOST: usize = 1_000;
const PREFIX: &str = "RUNCAST_";

/// Where the configuration is read from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file; without one all is default.
    pub file: Option<PathBuf>,
    /// The environment's variables; those that are not configuration are passed over.
    pub environment: Vec<(String, OsString)>,
    /// What the command line says; a later one wins.
    pub overrides: Vec<Override>,
    /// Whether this is for development.
    pub dev: bool,
}

impl Sources {
    /// The same, without what is not configuration: others' variables may be secrets.
    fn only_ours(&self) -> Self {
        let is_ours = |(name, _): &&(String, OsString)| key_of(name).is_some();
        Self { environment: self.environment.iter().filter(is_ours).cloned().collect(), ..self.clone() }
    }
}

/// The key that a variable of the environment sets, if it sets one.
fn key_of(variable: &str) -> Option<String> {
    let key = variable.strip_prefix(PREFIX).filter(|rest| rest.contains("__"))?;
    Some(key.to_ascii_lowercase().replace("__", "."))
}

/// One key set by the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The option that sets it.
    pub flag: &'static str,
    /// Which, like `runs.timeout`.
    pub key: String,
    /// To what, without quotes.
    pub value: String,
}

/// Settings that are being put together, with all that was found wrong.
struct Reader {
    settings: Settings,
    problems: Problems,
}

/// Reads all sources. Values are in their ranges; whether they contradict each other is not judged.
pub(crate) fn read(sources: &Sources) -> Result<Settings, Problems> {
    let settings = Settings { dev: sources.dev, sources: sources.only_ours(), ..Settings::default() };
    let mut reader = Reader { settings, problems: Problems::default() };
    if let Some(path) = &sources.file {
        reader.file(path);
    }
    for (name, value) in &sources.environment {
        reader.variable(name, value);
    }
    for one in &sources.overrides {
        reader.word(&one.key, &one.value, Origin::Flag(one.flag));
    }
    reader.problems.or(reader.settings)
}

impl Reader {
    fn file(&mut self, path: &Path) {
        let Some(text) = self.problems.keep(read_file(path)) else { return };
        let source = Source { text: &text, origin: Origin::File(path.to_owned(), None) };
        match DeTable::parse(&text) {
            Ok(document) => {
                let mut entries: Vec<_> = document.get_ref().iter().collect();
                entries.sort_by_key(|(name, _)| name.span().start);
                for (name, value) in entries {
                    self.section(name.get_ref(), value, &source);
                }
            }
            Err(error) => {
                let origin = source.at(error.span().map_or(0, |span| span.start));
                let reason = format!("not TOML: {}", error.message());
                self.problem(Problem::new(origin, reason, "correct it as https://toml.io has it"));
            }
        }
    }

    fn section(&mut self, name: &str, value: &Spanned<DeValue<'_>>, source: &Source<'_>) {
        let entries = self.entries(name, value, source);
        if matches!(name, "agents" | "topics") {
            for (one, value) in entries {
                let full = format!("{name}.{one}");
                let written = Written { key: &full, toml: Some(value), source, default: None };
                let core = &mut self.settings.core;
                let known = match name {
                    "agents" => {
                        named(&mut core.agents, (one, Agent::parse(one), Agent::RULE), &written).map(drop)
                    }
                    _ => named(&mut core.topics, (one, Topic::parse(one), Topic::RULE), &written).map(drop),
                };
                if self.problems.keep(known).is_none() {
                    continue;
                }
                for (key, value) in self.entries(&full, value, source) {
                    let full = format!("{full}.{key}");
                    self.set(&Written { key: &full, toml: Some(value), source, default: None });
                }
            }
        } else {
            for (key, value) in entries {
                let full = format!("{name}.{key}");
                self.set(&Written { key: &full, toml: Some(value), source, default: None });
            }
        }
    }

    /// What is in a table, in the file's order.
    fn entries<'a>(
        &mut self,
        name: &str,
        value: &'a Spanned<DeValue<'a>>,
        source: &Source<'_>,
    ) -> Vec<(&'a str, &'a Spanned<DeValue<'a>>)> {
        let Some(table) = value.get_ref().as_table() else {
            let (key, fix) = (name, format!("write it as a section, [{name}] with its keys below"));
            self.problem(
                Written { key, toml: Some(value), source, default: None }.wrong("expected a section", fix),
            );
            return Vec::new();
        };
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        entries.into_iter().map(|(name, value)| (name.get_ref().as_ref(), value)).collect()
    }

    fn variable(&mut self, name: &str, value: &OsString) {
        let Some(key) = key_of(name) else { return };
        let origin = Origin::Environment(name.to_owned());
        match value.to_str() {
            Some(text) => self.word(&key, text, origin),
            None => self.problem(Problem::new(origin, "its value is not UTF-8", "set it to text")),
        }
    }

    fn word(&mut self, key: &str, text: &str, origin: Origin) {
        let source = Source { text, origin };
        self.set(&Written { key, toml: None, source: &source, default: None });
    }

    fn set(&mut self, written: &Written<'_>) {
        let below = |section| written.key.strip_prefix(section).and_then(|rest| rest.rsplit_once('.'));
        let core = &mut self.settings.core;
        let done = match (below("agents."), below("topics.")) {
            (Some((name, key)), _) => {
                named(&mut core.agents, (name, Agent::parse(name), Agent::RULE), written)
                    .and_then(|agent| set(AGENT, agent, key, written))
            }
            (_, Some((name, key))) => {
                named(&mut core.topics, (name, Topic::parse(name), Topic::RULE), written)
                    .and_then(|topic| set(TOPIC, topic, key, written))
            }
            (None, None) => match find(SETTINGS, written.key) {
                Ok(key) => key.set(&mut self.settings, written),
                Err(nearest) => Err(unknown(written, nearest)),
            },
        };
        if self.problems.keep(done).is_some() {
            self.settings.origins.insert(written.key.to_owned(), written.origin());
        }
    }

    fn problem(&mut self, problem: Problem) {
        self.problems.0.push(problem);
    }
}

/// What the configuration says of something that has a name: known from here on even if that is nothing.
fn named<'a, N: Ord, T: Default>(
    of: &'a mut BTreeMap<N, T>,
    (text, name, rule): (&str, Option<N>, &str),
    written: &Written<'_>,
) -> Result<&'a mut T, Problem> {
    let Some(name) = name else {
        return Err(written.wrong(format!("{text:?} is no name"), format!("use {rule}")));
    };
    if of.len() >= NAMED_MOST && !of.contains_key(&name) {
        let reason = format!("expected at most {NAMED_MOST} of them");
        return Err(written.wrong(reason, "leave out those that need nothing said of them"));
    }
    Ok(of.entry(name).or_default())
}

/// Sets a key of something that has a name.
fn set<S>(keys: Table<S>, on: &mut S, key: &str, written: &Written<'_>) -> Result<(), Problem> {
    match find(keys, key) {
        Ok(key) => key.set(on, written),
        Err(nearest) => {
            let section = written.key.strip_suffix(key).unwrap_or_default();
            let nearest = nearest.map(|key| format!("{section}{key}"));
            Err(unknown(written, nearest.as_deref()))
        }
    }
}

fn unknown(written: &Written<'_>, nearest: Option<&str>) -> Problem {
    let fix = match nearest {
        Some(key) => format!("did you mean {key}?"),
        None => "`runcast check --print` shows all keys".to_owned(),
    };
    written.wrong("there is no such key", fix)
}

fn read_file(path: &Path) -> Result<String, Problem> {
    let problem = |reason: String, fix: &str| Problem::new(Origin::File(path.to_owned(), None), reason, fix);
    let unreadable = |error| problem(format!("cannot be read: {error}"), "give the path of a file that can");
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(problem(format!("longer than {FILE_BYTES} bytes"), "give a configuration file"));
    }
    String::from_utf8(bytes).map_err(|_| problem("not UTF-8".to_owned(), "save it as UTF-8"))
}
