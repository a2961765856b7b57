//! Where a value comes from, and what is wrong with it.

use std::fmt;
use std::path::PathBuf;

/// Where a value comes from. Later ones win over earlier ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    #[default]
    Default,
    /// A line of a file, counted from 1; without one the file as a whole.
    File(PathBuf, Option<usize>),
    /// A variable of the environment.
    Environment(String),
    /// An option of the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, None) => write!(f, "{}", path.display()),
            Self::File(path, Some(line)) => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// Why the daemon cannot start as it is configured: where, what, and what to do. One line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}; {fix}", place(.origin))]
pub struct Problem {
    /// Where the value stands that is wrong.
    pub origin: Origin,
    /// What was expected and what was found.
    pub reason: String,
    /// What to do.
    pub fix: String,
}

impl Problem {
    /// A problem with something that stands at `origin`.
    pub fn new(origin: Origin, reason: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { origin, reason: reason.into(), fix: fix.into() }
    }
}

fn place(origin: &Origin) -> String {
    match origin {
        Origin::Default => "configuration".to_owned(),
        set @ (Origin::File(..) | Origin::Environment(_) | Origin::Flag(_)) => set.to_string(),
    }
}

/// All that is wrong, in the order in which it was found. Never empty where it is an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// `value`, unless something is wrong.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }

    /// Keeps what is wrong with a result, and gives what is right with it.
    pub fn keep<T>(&mut self, result: Result<T, impl Into<Self>>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(problems) => {
                self.0.extend(problems.into().0);
                None
            }
        }
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}
