//! The agent's tools. Each reads real files below the root, says how far it is, ends when the run is
//! cancelled, and returns a small typed result that stands in `tool_completed` as it is.

use super::question::Filter;
use super::root::{Found, Place, Root, Step, Walk};
use crate::worker::Call;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// How much of one line is looked at and shown, in bytes.
const LINE_MAX: usize = 64 << 10;
/// How many files lie between two words about how far a tool is.
const PROGRESS_EVERY: u64 = 5_000;
/// How many bytes of contents one tool reads.
const CONTENT_MAX: u64 = 4 << 30;
/// The longest text that `read` returns, in bytes.
const READ_MAX: usize = 32 << 10;
/// How much of a matching line is shown, in characters.
const SHOWN_MAX: usize = 200;

/// Folders that a search leaves out, unless it is asked to begin inside.
pub(super) const NOT_SEARCHED: [&str; 3] = [".git", "target", "node_modules"];

/// In which order `list` puts files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    Name,
    Largest,
    Smallest,
    Newest,
    Oldest,
}

/// What `list` returns.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Listing {
    /// The first of them.
    pub(super) files: Vec<Found>,
    /// How many there are.
    pub(super) total: u64,
    /// Of all of them.
    pub(super) bytes: u64,
    /// What is directly below a folder that was listed: names of folders.
    pub(super) folders: Vec<String>,
    pub(super) walk: Walk,
}

/// Lists the files below a place: the first `limit` in an order. `deep` false stays in the folder itself.
pub(super) fn list(
    call: &mut Call<'_>,
    root: &Root,
    place: &Place,
    filter: &Filter,
    order: Order,
    limit: usize,
    deep: bool,
) -> Result<Listing, String> {
    let (mut best, mut folders) = (BTreeMap::new(), Vec::new());
    let (mut total, mut bytes, mut seen) = (0, 0, 0);
    let walk = root.walk(place, |step| {
        let (found, _) = match step {
            Step::Folder(name) => {
                if !deep {
                    folders.push(name.to_owned());
                }
                return Ok(deep);
            }
            Step::File(found, path) => (found, path),
        };
        look_up(call, &mut seen)?;
        if filter.takes(&found.path) {
            (total, bytes) = (total + 1, bytes + found.bytes);
            best.insert((order.rank(found), found.path.clone()), found.clone());
            if best.len() > limit {
                best.pop_last();
            }
        }
        Ok(true)
    })?;
    Ok(Listing { files: best.into_values().collect(), total, bytes, folders, walk })
}

impl Order {
    /// What comes first has the lowest rank.
    fn rank(self, found: &Found) -> u64 {
        match self {
            Self::Name => 0,
            Self::Largest => u64::MAX - found.bytes,
            Self::Smallest => found.bytes,
            Self::Newest => u64::MAX - found.modified_ms,
            Self::Oldest => found.modified_ms,
        }
    }
}

/// What `count` returns.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Count {
    pub(super) files: u64,
    pub(super) folders: u64,
    pub(super) bytes: u64,
    /// Line ends in the files, as `wc -l` counts them; `None` when lines were not asked for.
    pub(super) lines: Option<u64>,
    /// How many of the files lie in folders that are commonly not one's own work, by folder.
    pub(super) of_these_in: BTreeMap<String, u64>,
    /// The files with the most lines, when lines were asked for.
    pub(super) longest: Vec<Lines>,
    pub(super) walk: Walk,
}

/// How long a file is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Lines {
    pub(super) lines: u64,
    pub(super) path: String,
}

/// Counts files, folders and bytes, and lines if asked for, with the `keep` files that have the most (or
/// fewest) lines.
pub(super) fn count(
    call: &mut Call<'_>,
    root: &Root,
    place: &Place,
    filter: &Filter,
    lines: Option<Longest>,
) -> Result<Count, String> {
    let mut count = Count { lines: lines.map(|_| 0), ..Count::default() };
    let (mut ranked, mut seen, mut budget) = (BTreeMap::new(), 0, CONTENT_MAX);
    count.walk = root.walk(place, |step| {
        let (found, path) = match step {
            Step::Folder(_) => return Ok(true),
            Step::File(found, path) => (found, path),
        };
        look_up(call, &mut seen)?;
        if !filter.takes(&found.path) {
            return Ok(true);
        }
        (count.files, count.bytes) = (count.files + 1, count.bytes + found.bytes);
        if let Some(part) = found.path.split('/').rev().skip(1).find(|part| NOT_SEARCHED.contains(part)) {
            *count.of_these_in.entry(part.to_owned()).or_default() += 1;
        }
        if let (Some(longest), Some(sum)) = (lines, count.lines.as_mut()) {
            let lines = count_lines(call, path, &mut budget)?;
            *sum += lines;
            let rank = if longest.most { u64::MAX - lines } else { lines };
            ranked.insert((rank, found.path.clone()), lines);
            if ranked.len() > longest.keep {
                ranked.pop_last();
            }
        }
        Ok(true)
    })?;
    count.folders = count.walk.folders;
    count.longest = ranked.into_iter().map(|((_, path), lines)| Lines { lines, path }).collect();
    Ok(count)
}

/// Which files `count` remembers by their lines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Longest {
    pub(super) keep: usize,
    /// Those with the most lines, else those with the fewest.
    pub(super) most: bool,
}

fn count_lines(call: &Call<'_>, path: &Path, budget: &mut u64) -> Result<u64, String> {
    let Ok(mut file) = File::open(path) else { return Ok(0) };
    let (mut lines, mut buffer) = (0, vec![0; 64 << 10]);
    loop {
        let Ok(read) = file.read(&mut buffer) else { return Ok(lines) };
        if read == 0 {
            return Ok(lines);
        }
        lines += buffer[..read].iter().filter(|&&byte| byte == b'\n').count() as u64;
        spend(budget, read)?;
        call.check()?;
    }
}

/// What `search` returns.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Matches {
    /// The first of them.
    pub(super) matches: Vec<Match>,
    /// How many lines match.
    pub(super) lines: u64,
    /// How often the text stands in them.
    pub(super) times: u64,
    /// In how many files.
    pub(super) files: u64,
    /// How many files were read.
    pub(super) searched: u64,
    /// Files that hold no text.
    pub(super) binary: u64,
    /// Folders that were left out.
    pub(super) left_out: Vec<String>,
    pub(super) walk: Walk,
}

/// A line that matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Match {
    pub(super) path: String,
    /// From 1.
    pub(super) line: u64,
    /// The line, or what of it is around the match.
    pub(super) text: String,
}

/// Searches the contents of text files for `text`; without capitals in it, capitals do not matter.
pub(super) fn search(
    call: &mut Call<'_>,
    root: &Root,
    place: &Place,
    filter: &Filter,
    text: &str,
    limit: usize,
) -> Result<Matches, String> {
    let mut matches = Matches::default();
    let (mut seen, mut budget) = (0, CONTENT_MAX);
    let needle = Needle::new(text);
    let walk = root.walk(place, |step| {
        let (found, path) = match step {
            Step::Folder(name) => {
                let part = name.rsplit('/').next().unwrap_or(name);
                let wanted = !NOT_SEARCHED.contains(&part);
                if !wanted {
                    matches.left_out.push(name.to_owned());
                }
                return Ok(wanted);
            }
            Step::File(found, path) => (found, path),
        };
        look_up(call, &mut seen)?;
        if filter.takes(&found.path) {
            search_file(call, found, path, &needle, limit, &mut matches, &mut budget)?;
        }
        Ok(true)
    })?;
    matches.left_out.truncate(20);
    matches.walk = walk;
    Ok(matches)
}

fn search_file(
    call: &Call<'_>,
    found: &Found,
    path: &Path,
    needle: &Needle,
    limit: usize,
    matches: &mut Matches,
    budget: &mut u64,
) -> Result<(), String> {
    let Ok(file) = File::open(path) else { return Ok(()) };
    let (mut reader, mut line, mut number, before) = (BufReader::new(file), Vec::new(), 0, matches.lines);
    while let Some(read) = next_line(&mut reader, &mut line) {
        number += 1;
        spend(budget, read)?;
        if number % 4_096 == 0 {
            call.check()?;
        }
        if line.contains(&0) {
            // Lines that were found before the first zero stay found: they are text, and they are there.
            matches.binary += 1;
            break;
        }
        let text = String::from_utf8_lossy(&line);
        let Some((first, times)) = needle.find(&text) else { continue };
        (matches.lines, matches.times) = (matches.lines + 1, matches.times + times);
        if matches.matches.len() < limit {
            matches.matches.push(Match {
                path: found.path.clone(),
                line: number,
                text: around(&text, first),
            });
        }
    }
    matches.searched += 1;
    matches.files += u64::from(matches.lines > before);
    Ok(())
}

/// What is looked for.
#[derive(Debug)]
struct Needle {
    text: String,
    any_case: bool,
}

impl Needle {
    fn new(text: &str) -> Self {
        let any_case = !text.chars().any(char::is_uppercase);
        Self { text: text.to_owned(), any_case }
    }

    /// Where it stands first (in bytes of the line as compared), and how often it does.
    fn find(&self, line: &str) -> Option<(usize, u64)> {
        let lower;
        let line = if self.any_case {
            lower = line.to_lowercase();
            lower.as_str()
        } else {
            line
        };
        let first = line.find(&self.text)?;
        Some((first, line.matches(&self.text).count() as u64))
    }
}

/// The part of a line around a byte.
fn around(line: &str, first: usize) -> String {
    let line = line.trim_end();
    if line.chars().count() <= SHOWN_MAX {
        return line.trim_start().to_owned();
    }
    let from = line.floor_char_boundary(first.saturating_sub(SHOWN_MAX / 4).min(line.len()));
    let shown: String = line[from..].chars().take(SHOWN_MAX).collect();
    format!("…{}…", shown.trim())
}

/// What `read` returns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Text {
    pub(super) text: String,
    /// The number of its first line, from 1.
    pub(super) from: u64,
    /// How many lines it has.
    pub(super) shown: u64,
    /// How many the file has.
    pub(super) lines: u64,
    pub(super) bytes: u64,
}

/// Which lines `read` returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Part {
    /// So many from the beginning.
    First(u64),
    /// So many before the end.
    Last(u64),
}

/// Reads lines of a text file, at most 32 KiB of them, or so much of one that is longer.
pub(super) fn read(call: &mut Call<'_>, place: &Place, part: Part) -> Result<Text, String> {
    let file = File::open(&place.path).map_err(|error| format!("cannot open `{}`: {error}", place.name))?;
    let (mut reader, mut line, mut text) =
        (BufReader::new(file), Vec::new(), Text { from: 1, ..Text::default() });
    let (mut kept, mut kept_bytes, mut budget) = (std::collections::VecDeque::new(), 0, CONTENT_MAX);
    while let Some(read) = next_line(&mut reader, &mut line) {
        spend(&mut budget, read)?;
        (text.lines, text.bytes) = (text.lines + 1, text.bytes + read as u64);
        if text.lines % 4_096 == 0 {
            call.check()?;
        }
        if line.contains(&0) {
            return Err(format!("`{}` holds no text", place.name));
        }
        let room = kept.is_empty() || kept_bytes + line.len() <= READ_MAX;
        match part {
            Part::First(limit) if text.lines <= limit && room && kept.len() as u64 + 1 == text.lines => {}
            Part::First(_) => continue,
            Part::Last(_) => {}
        }
        let line = shown(&line);
        kept_bytes += line.len();
        kept.push_back(line);
        if let Part::Last(limit) = part {
            while kept.len() as u64 > limit || (kept_bytes > READ_MAX && kept.len() > 1) {
                kept_bytes -= kept.pop_front().map_or(0, |line| line.len().min(kept_bytes));
            }
        }
    }
    text.shown = kept.len() as u64;
    text.from = if matches!(part, Part::Last(_)) { text.lines + 1 - text.shown } else { 1 };
    text.text = kept.into_iter().collect();
    Ok(text)
}

/// A line, or as much of it as is shown, which then says that there is more.
fn shown(line: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(line).into_owned();
    if text.len() > READ_MAX {
        text.truncate(text.floor_char_boundary(READ_MAX));
        text.push_str("…\n");
    }
    text
}

/// Reads one line with its end, cutting what is longer than 64 KiB. Gives how many bytes it had.
fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> Option<usize> {
    line.clear();
    let mut read = 0;
    loop {
        // A file that fails half-way ends here, as far as it is known.
        let chunk = reader.fill_buf().unwrap_or_default();
        if chunk.is_empty() {
            return (read > 0).then_some(read);
        }
        let end = chunk.iter().position(|&byte| byte == b'\n');
        let taken = end.map_or(chunk.len(), |end| end + 1);
        line.extend_from_slice(&chunk[..taken.min(LINE_MAX.saturating_sub(line.len()))]);
        reader.consume(taken);
        read += taken;
        if end.is_some() {
            return Some(read);
        }
    }
}

/// Counts a file that is looked at: says so now and then, and ends when the run is to end.
fn look_up(call: &mut Call<'_>, seen: &mut u64) -> Result<(), String> {
    *seen += 1;
    if (*seen).is_multiple_of(PROGRESS_EVERY) {
        call.progress(None, &format!("{seen} files seen"))?;
    } else if (*seen).is_multiple_of(64) {
        call.check()?;
    }
    Ok(())
}

fn spend(budget: &mut u64, bytes: usize) -> Result<(), String> {
    *budget = budget
        .checked_sub(bytes as u64)
        .ok_or_else(|| format!("more than {} GiB to read; ask about a smaller part", CONTENT_MAX >> 30))?;
    Ok(())
}
