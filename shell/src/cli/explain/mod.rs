//! `runcast explain`: what a code means, why it comes about, and what to do.

mod table;

pub use table::{AGENTS, CLOSES, ENDS, ERRORS, EXITS, Explanation, REASONS};

use super::table::Table;
use super::{Exit, ExplainOptions, say};
use crate::config::nearest;
use runcast_core::wire::error::Code;
use serde_json::json;
use std::io::{self, Write};

/// All kinds of codes.
const KINDS: [(&str, &[Explanation]); 6] = [
    ("error of the protocol", ERRORS),
    ("reason why a run waits", REASONS),
    ("end of a run", ENDS),
    ("end of a run, by its agent", AGENTS),
    ("close of a WebSocket", CLOSES),
    ("exit of the command", EXITS),
];

/// Explains one code, or lists all.
pub fn explain(options: &ExplainOptions) -> Exit {
    let Some(code) = &options.code else { return say(&list()) };
    let form = if options.json { as_json } else { show };
    let explained: Vec<String> = found(code).map(|(kind, one)| form(kind, one)).collect();
    if !explained.is_empty() {
        return say(&explained.join(if options.json { "\n" } else { "\n\n" }));
    }
    let of_status = of_status(code);
    if !of_status.is_empty() {
        return say(&format!("HTTP {code} comes with one of: {}", of_status.join(", ")));
    }
    let all = KINDS.iter().flat_map(|(_, all)| all.iter().map(|one| one.code));
    let meant = match nearest(code, all) {
        Some(near) => format!("did you mean {near}?"),
        None => "`runcast explain` lists all but those that agents end runs with themselves".to_owned(),
    };
    let _ = writeln!(io::stderr(), "runcast: there is no code {code:?}; {meant}");
    Exit::Usage
}

/// What a code means: in two ways where it is of two kinds.
fn found(code: &str) -> impl Iterator<Item = (&'static str, &'static Explanation)> {
    let all = KINDS.iter().flat_map(|(kind, all)| all.iter().map(move |one| (*kind, one)));
    all.filter(move |(_, one)| one.code == code)
}

/// The codes that come with an HTTP status.
fn of_status(status: &str) -> Vec<&'static str> {
    let Ok(status) = status.parse::<u16>() else { return Vec::new() };
    // What only workers hear comes with no status at all.
    let told = |code: &&Code| !matches!(code, Code::Gap | Code::Fenced | Code::BadEvent);
    let codes = Code::ALL.iter().filter(told).filter(|code| code.status() == status);
    codes.map(|code| code.as_str()).collect()
}

fn show(kind: &str, one: &Explanation) -> String {
    let Explanation { code, what, why, fix } = one;
    let status = Code::ALL.iter().find(|other| other.as_str() == *code).map(|code| {
        let again = if code.is_temporary() { "may succeed later" } else { "the same fails again" };
        format!(" (HTTP {}; {again})", code.status())
    });
    format!("{code}: {kind}{}\n\n{what}\n\nwhy:  {why}\ndo:   {fix}", status.unwrap_or_default())
}

fn as_json(kind: &str, one: &Explanation) -> String {
    json!({ "code": one.code, "kind": kind, "what": one.what, "why": one.why, "do": one.fix }).to_string()
}

fn list() -> String {
    let mut table = Table::new(&["CODE", "KIND", "WHAT"]);
    for (kind, all) in KINDS {
        for one in all {
            table.row(&[one.code, kind, one.what]);
        }
    }
    table.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use runcast_core::wire::error::CloseCode;
    use std::collections::BTreeSet;

    fn explained(all: &[Explanation]) -> BTreeSet<&'static str> {
        all.iter().map(|one| one.code).collect()
    }

    #[test]
    fn every_code_that_can_be_met_is_explained_once() {
        let errors = explained(ERRORS);
        let missing: Vec<_> = Code::ALL.iter().filter(|code| !errors.contains(code.as_str())).collect();
        assert!(missing.is_empty(), "{missing:?}");
        let closes = explained(CLOSES);
        let numbers = CloseCode::ALL.iter().map(|code| (*code as u16).to_string());
        let missing: Vec<_> = numbers.filter(|code| !closes.contains(code.as_str())).collect();
        assert!(missing.is_empty(), "{missing:?}");
        let exits =
            [Exit::Done, Exit::Failed, Exit::Usage, Exit::Unreachable, Exit::Refused, Exit::Configuration];
        let numbers: BTreeSet<String> = exits.iter().map(|exit| (*exit as u8).to_string()).collect();
        assert_eq!(numbers.iter().map(String::as_str).collect::<BTreeSet<_>>(), explained(EXITS));
        for (kind, all) in KINDS {
            assert_eq!(explained(all).len(), all.len(), "{kind}: one is explained twice");
        }
    }

    #[test]
    fn every_code_in_the_protocol_is_explained() {
        let protocol = include_str!("../../../../core/PROTOCOL.md");
        let (errors, closes) = (explained(ERRORS), explained(CLOSES));
        let section = protocol.split("| codes | HTTP status |").nth(1).unwrap();
        let rows = section.split("\n\n").next().unwrap();
        let codes: Vec<&str> = rows.split('`').skip(1).step_by(2).collect();
        assert!(codes.len() > 25, "{codes:?}");
        let tokens = protocol.split('`').filter(|word| word.starts_with("token_") && !word.contains('*'));
        for code in codes.into_iter().filter(|code| !matches!(*code, "token_*" | "retry_ms" | "Retry-After"))
        {
            assert!(errors.contains(code), "{code}");
        }
        for code in tokens {
            assert!(errors.contains(code), "{code}");
        }
        let section = protocol.split("### Close codes").nth(1).unwrap().split("\n## ").next().unwrap();
        let numbers = section.split(|c: char| !c.is_ascii_digit());
        for code in
            numbers.filter(|number| number.len() == 4 && number.parse::<u16>().is_ok_and(|n| n < 5_000))
        {
            assert!(closes.contains(code), "{code}");
        }
    }

    #[test]
    fn every_reason_of_a_notice_is_explained() {
        let protocol = include_str!("../../../../core/PROTOCOL.md");
        let told =
            protocol.split("`waited_ms`, `reason`: ").nth(1).unwrap().split(", `message`}").next().unwrap();
        let told = told.split('`').skip(1).step_by(2).filter(|word| *word != "position");
        assert_eq!(told.collect::<BTreeSet<_>>(), explained(REASONS));
    }

    #[test]
    fn every_code_with_which_runcasts_own_workers_end_a_run_is_explained() {
        let sources = [
            include_str!("../../worker/out.rs"),
            include_str!("../../worker/session.rs"),
            include_str!("../../agents/echo.rs"),
            include_str!("../../agents/files/mod.rs"),
            include_str!("../../../clients/python/src/runcast/worker.py"),
            include_str!("../../../clients/python/src/runcast/_desk.py"),
            include_str!("../../../clients/python/src/runcast/say.py"),
        ];
        let (ends, errors) = (explained(ENDS), explained(ERRORS));
        let mut given = BTreeSet::new();
        for before in ["failed(\"", "failed(\n        \"", "_failed(run, \"", "\"code\": \""] {
            let codes = sources.iter().flat_map(|source| source.split(before).skip(1));
            given.extend(codes.filter_map(|rest| rest.split('"').next()));
        }
        assert!(given.len() > 8, "{given:?}");
        let of_agents: BTreeSet<_> =
            given.into_iter().filter(|code| !ends.contains(code) && !errors.contains(code)).collect();
        assert_eq!(of_agents, explained(AGENTS));
    }

    #[test]
    fn a_code_that_is_of_two_kinds_is_explained_as_both() {
        let kinds: Vec<&str> = found("draining").map(|(kind, _)| kind).collect();
        assert_eq!(kinds, ["error of the protocol", "reason why a run waits"]);
    }

    #[test]
    fn a_code_is_shown_with_its_status() {
        let one = ERRORS.iter().find(|one| one.code == "queue_full").unwrap();
        let shown = show("error", one);
        assert!(shown.starts_with("queue_full: error (HTTP 429; may succeed later)\n\n"), "{shown}");
        assert_eq!(of_status("429"), ["rate_limited", "queue_full", "user_queue_full"]);
        assert!(of_status("4400").is_empty() && of_status("x").is_empty());
    }
}
