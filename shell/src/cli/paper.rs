//! `runcast completions` and `runcast man`: what a shell and `man` want to know, written from the same
//! definition that reads the command line.

use super::{Cli, CompletionsOptions, Exit, ManOptions};
use clap::CommandFactory;
use std::io::{self, Write};

/// Prints what a shell needs to complete commands and options.
pub fn completions(options: &CompletionsOptions) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Cli::command(), "runcast", &mut script);
    print(&script)
}

/// Prints the manual page, or writes it and one for each command into a directory.
pub fn man(options: &ManOptions) -> Exit {
    let Some(directory) = &options.directory else {
        let mut page = Vec::new();
        return match clap_mangen::Man::new(Cli::command()).render(&mut page) {
            Ok(()) => print(&page),
            Err(error) => failed(&error.to_string()),
        };
    };
    match clap_mangen::generate_to(Cli::command(), directory) {
        Ok(()) => Exit::Done,
        Err(error) => failed(&format!("{} cannot be written to: {error}", directory.display())),
    }
}

/// A reader that has gone away wants no more.
fn print(text: &[u8]) -> Exit {
    let _ = io::stdout().write_all(text);
    Exit::Done
}

fn failed(why: &str) -> Exit {
    let _ = writeln!(io::stderr(), "runcast: {why}");
    Exit::Failed
}
