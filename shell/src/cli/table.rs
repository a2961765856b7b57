//! Tables at a terminal, and how a command ends that has asked one thing.

use super::show::plain;
use super::{Exit, say};
use crate::line::Lost;
use std::io::{self, Write};

/// Rows of text under a header. Each column is as wide as its widest cell.
pub(super) struct Table(Vec<Vec<String>>);

impl Table {
    pub(super) fn new(header: &[&str]) -> Self {
        let mut table = Self(Vec::new());
        table.row(header);
        table
    }

    /// Adds a row. What comes from outside cannot steer the terminal.
    pub(super) fn row(&mut self, cells: &[&str]) {
        self.0.push(cells.iter().map(|cell| plain(cell)).collect());
    }

    pub(super) fn finish(self) -> String {
        let columns = self.0.first().map_or(0, Vec::len);
        let width = |column: usize| {
            self.0.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
        };
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        self.0.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// Prints what came, or why nothing did.
pub(super) fn finish(answer: Result<String, Lost>) -> Exit {
    match answer {
        Ok(text) if text.is_empty() => Exit::Done,
        Ok(text) => say(&text),
        Err(lost) => {
            let (exit, hint) = judge(&lost);
            let _ = writeln!(io::stderr(), "runcast: {lost}{hint}");
            exit
        }
    }
}

/// How a command ends that was not answered as it wished, and what would help.
pub(super) fn judge(lost: &Lost) -> (Exit, &'static str) {
    match lost {
        Lost::Refused { code, .. } if code == "token_missing" => {
            (Exit::Refused, " (give --token or RUNCAST_TOKEN; `runcast token --user NAME` prints one)")
        }
        Lost::Refused { code, .. } if code == "token_scope" => {
            (Exit::Refused, " (`runcast token --user NAME --scope SCOPE` prints a token with it)")
        }
        Lost::Refused { status, .. } if *status < 500 => (Exit::Refused, ""),
        Lost::Refused { .. } => (Exit::Failed, ""),
        Lost::BadUrl { .. } => (Exit::Usage, ""),
        Lost::NoTrust(_) => (Exit::Configuration, ""),
        Lost::Untrusted { .. } => (Exit::Unreachable, ""),
        Lost::Unreachable { .. } | Lost::Closed { .. } | Lost::Broken(_) => {
            (Exit::Unreachable, " (is it running? `runcast serve --dev` starts one)")
        }
    }
}
