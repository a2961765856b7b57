//! The effective configuration, as TOML that says of each value where it comes from and what it means.

use super::Settings;
use super::table::{AGENT, Key, SETTINGS, TOPIC, Table};
use std::fmt::Write;

/// The column at which comments begin, where the value leaves room.
const COMMENT_COLUMN: usize = 40;

/// Writes the whole configuration.
pub(crate) fn print(settings: &Settings) -> String {
    let mut out = String::new();
    let mut section = "";
    for key in SETTINGS {
        let (table, name) = key.name().split_once('.').unwrap_or(("", key.name()));
        if table != section {
            let gap = if section.is_empty() { "" } else { "\n" };
            section = table;
            let _ = writeln!(out, "{gap}[{table}]");
        }
        line(&mut out, name, *key, settings, &settings.origin(key.name()).to_string());
    }
    for (agent, config) in &settings.core.agents {
        named(&mut out, ("agents", agent.as_str()), AGENT, config, settings);
    }
    for (topic, config) in &settings.core.topics {
        named(&mut out, ("topics", topic.as_str()), TOPIC, config, settings);
    }
    out
}

/// Writes the section of something that has a name.
fn named<S>(out: &mut String, (section, name): (&str, &str), keys: Table<S>, of: &S, settings: &Settings) {
    let _ = writeln!(out, "\n[{section}.\"{name}\"]");
    for key in keys {
        let origin = settings.origin(&format!("{section}.{name}.{}", key.name()));
        line(out, key.name(), *key, of, &origin.to_string());
    }
}

/// Writes one key. (Writing to a string cannot fail.)
fn line<S>(out: &mut String, name: &str, key: &dyn Key<S>, of: &S, origin: &str) {
    let value = match key.show(of) {
        Some(value) => format!("{name} = {value}"),
        None => format!("# {name} is not set"),
    };
    let (doc, expects) = (key.doc(), key.expects());
    let _ = writeln!(out, "{value:COMMENT_COLUMN$} # {origin} · {doc} ({expects})");
}
