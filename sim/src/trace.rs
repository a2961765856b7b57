//! What happened in a world, a line for each decoded message, fault and commit.
//!
//! The hash over all lines is what "the same seed, the same world" means (O20). It is taken of messages as
//! they were decoded: the bytes of a client's frames are masked with numbers from the operating system.

use crate::schedule::{Micros, Schedule};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::hash::{DefaultHasher, Hasher};
use std::rc::Rc;

/// Lines that are kept for the report of a failure.
const LINES: usize = 50_000;
/// A line's text is cut here, in bytes.
const LINE_BYTES: usize = 400;

/// What becomes of the lines besides being hashed.
pub enum Show {
    /// Nothing: the fastest.
    Hash,
    /// The newest are kept.
    Keep,
    /// Each is given away at once.
    Each(Box<dyn FnMut(&str)>),
}

impl fmt::Debug for Show {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hash => "Hash",
            Self::Keep => "Keep",
            Self::Each(_) => "Each",
        })
    }
}

/// Whose line it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Everybody's: the daemon, the disk, the network.
    World,
    /// A worker's, or a hostile client's.
    Other,
    /// This user's.
    User(usize),
}

/// The log of a world. Clones share it.
#[derive(Clone, Debug)]
pub struct Trace(Rc<RefCell<Inner>>);

#[derive(Debug)]
struct Inner {
    schedule: Schedule,
    hasher: DefaultHasher,
    show: Show,
    lines: VecDeque<(Of, String)>,
}

impl Trace {
    /// An empty log.
    pub fn new(schedule: Schedule, show: Show) -> Self {
        let hasher = DefaultHasher::new();
        Self(Rc::new(RefCell::new(Inner { schedule, hasher, show, lines: VecDeque::new() })))
    }

    /// A message: who has it, which way it goes (`→` to the daemon, `←` to the client), its text.
    pub fn message(&self, of: Of, who: &str, arrow: &str, text: &str) {
        let mut inner = self.0.borrow_mut();
        let now = inner.schedule.now();
        inner.hasher.write_u64(now);
        inner.hasher.write(who.as_bytes());
        inner.hasher.write(arrow.as_bytes());
        inner.hasher.write(text.as_bytes());
        inner.hasher.write_u8(0xff);
        inner.show(of, now, format_args!("{who:<12} {arrow} {}", cut(text)));
    }

    /// Anything else.
    pub fn note(&self, of: Of, what: fmt::Arguments<'_>) {
        let mut inner = self.0.borrow_mut();
        let now = inner.schedule.now();
        inner.hasher.write_u64(now);
        let text = what.to_string();
        inner.hasher.write(text.as_bytes());
        inner.hasher.write_u8(0xff);
        inner.show(of, now, format_args!("{text}"));
    }

    /// The hash over everything so far.
    pub fn hash(&self) -> u64 {
        self.0.borrow().hasher.finish()
    }

    /// The newest lines that concern a user: its own and the world's; of nobody in particular, all.
    pub fn last(&self, user: Option<usize>, count: usize) -> Vec<String> {
        let inner = self.0.borrow();
        let concerns = |of: &Of| match (of, user) {
            (Of::User(of), Some(user)) => *of == user,
            (Of::Other, Some(_)) => false,
            (Of::World, _) | (_, None) => true,
        };
        let mut lines: Vec<String> = inner
            .lines
            .iter()
            .rev()
            .filter(|(of, _)| concerns(of))
            .take(count)
            .map(|(_, line)| line.clone())
            .collect();
        lines.reverse();
        lines
    }
}

impl Inner {
    fn show(&mut self, of: Of, now: Micros, text: fmt::Arguments<'_>) {
        if matches!(self.show, Show::Hash) {
            return;
        }
        let mut line = String::new();
        write!(line, "{:>5}.{:06} {text}", now / 1_000_000, now % 1_000_000)
            .expect("a string takes everything");
        if let Show::Each(each) = &mut self.show {
            return each(&line);
        }
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back((of, line));
    }
}

/// The beginning of a text, at a character's border.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(LINE_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
