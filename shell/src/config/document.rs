//! The documentation's table and the example file, written from the same table that reads the configuration.

use super::Settings;
use super::table::{AGENT, AUTH_KEY, Key, SETTINGS, TOPIC, Table};
use runcast_core::config::{AgentConfig, TopicConfig};
use std::fmt::Write;

const INTRODUCTION: &str = "\
<!-- Written from shell/src/config/table.rs. After a change there:
     BLESS=1 cargo test -p runcast --lib documented -->
# Configuration

`runcast serve --config runcast.toml` reads a TOML file. A variable `RUNCAST_SECTION__KEY` (two underscores) overrides
the file, and `--set section.key=value` overrides both. Durations are written like `\"30s\"`, sizes like `\"64KiB\"`. A path in
the file that is relative begins where the file lies; all others, the defaults too, in the working directory. Keys
that there are not are errors, and the one that was probably meant is named. `runcast check --print` shows every value
that is in effect, and where it comes from; [runcast.toml](runcast.toml) has all keys with their defaults.
";

/// `shell/docs/configuration.md`.
pub(crate) fn document() -> String {
    let mut out = INTRODUCTION.to_owned();
    let settings = Settings::default();
    let mut section = "";
    for key in SETTINGS {
        let (table, name) = key.name().split_once('.').unwrap_or(("", key.name()));
        if table != section {
            section = table;
            heading(&mut out, &format!("[{table}]"));
        }
        row(&mut out, name, *key, &settings);
    }
    rows(&mut out, "An item of the list `auth.keys`", AUTH_KEY);
    rows::<AgentConfig>(&mut out, "[agents.NAME]", AGENT);
    rows::<TopicConfig>(&mut out, "[topics.NAME]", TOPIC);
    out
}

fn heading(out: &mut String, of: &str) {
    let _ = write!(out, "\n## {of}\n\n| key | default | what it may be | meaning |\n|---|---|---|---|\n");
}

fn rows<S: Default>(out: &mut String, of: &str, keys: Table<S>) {
    heading(out, of);
    for key in keys {
        row(out, key.name(), *key, &S::default());
    }
}

/// Writes one row. (Writing to a string cannot fail.)
fn row<S>(out: &mut String, name: &str, key: &dyn Key<S>, of: &S) {
    let default = key.show(of).map_or("not set".to_owned(), |value| format!("`{value}`"));
    let (expects, doc) = (key.expects().replace('|', "\\|"), key.doc());
    let _ = writeln!(out, "| `{name}` | {default} | {expects} | {doc} |");
}

/// `shell/docs/runcast.toml`: every key with its default, as a comment, so that it says nothing as it stands.
pub(crate) fn example() -> String {
    let mut out =
        "# Every key of the configuration with its default. Take the # away from what you change.\n\
                   # Written from shell/src/config/table.rs, as configuration.md is, which says more.\n"
            .to_owned();
    let settings = Settings::default();
    let mut section = "";
    for key in SETTINGS {
        let (table, name) = key.name().split_once('.').unwrap_or(("", key.name()));
        if table != section {
            section = table;
            let _ = write!(out, "\n[{table}]\n");
        }
        let _ = writeln!(out, "# {}", key.doc());
        let _ = match key.show(&settings) {
            Some(value) => writeln!(out, "# {name} = {value}"),
            None => writeln!(out, "# {name} is not set; it may be {}", key.expects()),
        };
    }
    out
}
