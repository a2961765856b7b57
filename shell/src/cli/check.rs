//! `runcast check`: all that a start would check, and nothing is changed.

use super::{CheckOptions, Exit, refuse, say, warn};
use crate::preflight::{self, Findings};

/// Checks the configuration, the keys, the data directory, the store, the address and the system.
pub fn check(options: &CheckOptions) -> Exit {
    let settings = match options.config.load() {
        Ok(settings) => settings,
        Err(problems) => return refuse(&problems),
    };
    if options.print {
        say(settings.print().trim_end());
    }
    let Findings { stops, warnings } = preflight::look(&settings);
    warnings.iter().for_each(warn);
    match stops.or(()) {
        Err(problems) => refuse(&problems),
        Ok(()) if options.print => Exit::Done,
        Ok(()) => say(&format!("good: would serve on {} from {}", settings.listen, settings.data.display())),
    }
}
