//! From a question that is understood to its answer: which tools are used, and how what they return is said.

use super::format::{bytes, many, number, time};
use super::question::{Filter, Goal, Question};
use super::root::{Found, Place, Root, Walk};
use super::tools::{self, Count, Listing, Longest, Matches, Order, Part};
use crate::worker::{AgentError, Call, Out};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// How many others are told besides what was asked for.
const NEXT: usize = 3;
/// How many files a list shows.
const LIST_MAX: usize = 100;
/// How many matching lines a search shows.
const MATCHES_MAX: usize = 20;

const EXAMPLES: &str = "\
I answer questions about the files here, for example:
- which file under . is the largest? (smallest, newest, oldest, the 5 largest .rs files)
- how many files are in src? how many lines of rust?
- how big is this folder?
- where is 'window' mentioned? how many times is 'unwrap' used in src?
- list the files in src
- what is in README.md? show the first 10 lines of Cargo.toml
- what does README.md say about tests?";

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The run ends.
    Ends(AgentError),
    /// Something to tell the user instead.
    Told(String),
}

impl From<AgentError> for Trouble {
    fn from(error: AgentError) -> Self {
        Self::Ends(error)
    }
}

impl From<String> for Trouble {
    fn from(text: String) -> Self {
        Self::Told(text)
    }
}

/// An answer being given.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    root: &'a Root,
    out: &'a mut Out,
    facts: Map<String, Value>,
}

impl<'a> Answer<'a> {
    pub(super) fn new(root: &'a Root, out: &'a mut Out) -> Self {
        Self { root, out, facts: Map::new() }
    }

    /// Gives it, and returns its facts with the whole `text`.
    pub(super) fn give(mut self, question: &Question) -> Result<Value, AgentError> {
        let given = self.answer(question);
        match given {
            Ok(()) => {}
            Err(Trouble::Ends(error)) => return Err(error),
            Err(Trouble::Told(problem)) => {
                self.fact("problem", &problem);
                self.say(&format!("That cannot be answered: {problem}.\n"))?;
            }
        }
        self.facts.insert("text".into(), self.out.said().into());
        Ok(Value::Object(self.facts))
    }

    fn answer(&mut self, question: &Question) -> Result<(), Trouble> {
        let Question { goal, place, filter } = question;
        self.think(&format!("I take it that I am asked {}.", described(question)))?;
        let place = match goal {
            Goal::Find { .. } | Goal::Unclear { .. } => self.root.place(place)?,
            Goal::Extreme { .. }
            | Goal::ExtremeFolder { .. }
            | Goal::ExtremeLines { .. }
            | Goal::CountFiles
            | Goal::CountFolders
            | Goal::CountLines
            | Goal::Size
            | Goal::Search { .. }
            | Goal::List
            | Goal::Read { .. }
            | Goal::About { .. } => self.locate(place)?,
        };
        match goal {
            Goal::Extreme { order, keep } => self.extreme(&place, filter, *order, *keep),
            Goal::ExtremeFolder { most } => self.extreme_folder(&place, filter, *most),
            Goal::ExtremeLines { most, keep } => self.extreme_lines(&place, filter, *most, *keep),
            Goal::CountFiles | Goal::CountFolders | Goal::CountLines => self.amount(goal, &place, filter),
            Goal::Size => self.size(&place, filter),
            Goal::Search { text, tally } => self.search(&place, filter, text, *tally),
            Goal::Find { name } => self.find(&place, name),
            Goal::List if place.is_folder => self.list(&place, filter),
            Goal::Read { .. } if place.is_folder => self.list(&place, filter),
            Goal::List => self.size(&place, filter),
            Goal::Read { part } => self.read(&place, *part),
            Goal::About { topic } => self.about(&place, filter, topic),
            Goal::Unclear { telling } => self.unclear(&place, telling),
        }
    }

    /// The place that a name means: itself, or the one file of that name that lies deeper.
    fn locate(&mut self, name: &str) -> Result<Place, Trouble> {
        let problem = match self.root.place(name) {
            Ok(place) => return Ok(place),
            Err(problem) => problem,
        };
        if name.contains('/') || name.contains("..") {
            return Err(Trouble::Told(problem));
        }
        self.think(&format!("There is no `{name}` at the top; I look for it deeper."))?;
        let here = self.root.place(".")?;
        let mut found = self.named(&here, name)?;
        found.retain(|found| file_name(&found.path) == name);
        match found.first().map(|first| first.path.clone()) {
            None => Err(Trouble::Told(problem)),
            Some(path) => {
                let others = found.len() - 1;
                let more = if others > 0 {
                    format!(", and {} of that name", many(others as u64, "other file"))
                } else {
                    String::new()
                };
                self.say(&format!("I found `{path}`{more}.\n\n"))?;
                Ok(self.root.place(&path)?)
            }
        }
    }

    fn extreme(&mut self, place: &Place, filter: &Filter, order: Order, keep: usize) -> Result<(), Trouble> {
        let listing = self.list_files(place, filter, order, keep + NEXT, true)?;
        let word = match order {
            Order::Name => "first",
            Order::Largest => "largest",
            Order::Smallest => "smallest",
            Order::Newest => "newest",
            Order::Oldest => "oldest",
        };
        let by_time = matches!(order, Order::Newest | Order::Oldest);
        let told = |found: &Found| {
            if by_time {
                format!("changed {}, {}", time(found.modified_ms), bytes(found.bytes))
            } else {
                bytes(found.bytes)
            }
        };
        let Some(first) = listing.files.first() else { return self.no_files(place, filter) };
        self.fact("path", &first.path);
        self.fact("bytes", &first.bytes);
        self.fact("modified_ms", &first.modified_ms);
        self.fact("files", &listing.total);
        let kind = kind(filter);
        if keep == 1 {
            let (under, told) = (under(place), told(first));
            self.say(&format!("The {word} {kind}file {under} is `{}`: {told}.\n", first.path))?;
        } else {
            self.say(&format!("The {keep} {word} {kind}files {}:\n", under(place)))?;
            for found in listing.files.iter().take(keep) {
                self.say(&format!("- `{}`: {}\n", found.path, told(found)))?;
            }
            self.fact("paths", &listing.files.iter().take(keep).map(|found| &found.path).collect::<Vec<_>>());
        }
        if listing.files.len() > keep {
            self.say("\nAfter it:\n")?;
            for found in &listing.files[keep..] {
                self.say(&format!("- `{}`: {}\n", found.path, told(found)))?;
            }
        }
        self.say(&format!(
            "\nI compared {}. {}",
            many(listing.total, &format!("{kind}file")),
            looked(&listing.walk)
        ))?;
        Ok(())
    }

    fn extreme_folder(&mut self, place: &Place, filter: &Filter, most: bool) -> Result<(), Trouble> {
        let listing = self.list_files(place, &Filter::default(), Order::Name, 1, false)?;
        let mut sizes = Vec::new();
        for folder in &listing.folders {
            let place = self.root.place(folder)?;
            let count = self.count_files(&place, filter, None)?;
            sizes.push((count.bytes, folder.clone(), count.files));
        }
        sizes.sort();
        if most {
            sizes.reverse();
        }
        let Some((size, folder, files)) = sizes.first().cloned() else {
            return Err(Trouble::Told(format!("there is no folder {}", under(place))));
        };
        self.fact("path", &folder);
        self.fact("bytes", &size);
        self.fact("files", &files);
        let word = if most { "largest" } else { "smallest" };
        let told =
            |(size, _, files): &(u64, String, u64)| format!("{} in {}", bytes(*size), many(*files, "file"));
        self.say(&format!(
            "The {word} folder directly {} is `{folder}`: {}.\n",
            under(place),
            told(&sizes[0])
        ))?;
        for other in sizes.iter().skip(1).take(NEXT) {
            self.say(&format!("- `{}`: {}\n", other.1, told(other)))?;
        }
        Ok(())
    }

    fn extreme_lines(
        &mut self,
        place: &Place,
        filter: &Filter,
        most: bool,
        keep: usize,
    ) -> Result<(), Trouble> {
        let count = self.count_files(place, filter, Some(Longest { keep: keep + NEXT, most }))?;
        let Some(first) = count.longest.first() else { return self.no_files(place, filter) };
        self.fact("path", &first.path);
        self.fact("lines", &first.lines);
        self.fact("files", &count.files);
        let word = if most { "most" } else { "fewest" };
        let (path, lines) = (first.path.clone(), many(first.lines, "line"));
        self.say(&format!(
            "Of the {}files {}, `{path}` has the {word} lines: {lines}.\n",
            kind(filter),
            under(place)
        ))?;
        for other in count.longest.iter().skip(1) {
            self.say(&format!("- `{}`: {}\n", other.path, many(other.lines, "line")))?;
        }
        self.say(&format!("\n{}", looked(&count.walk)))?;
        Ok(())
    }

    fn amount(&mut self, goal: &Goal, place: &Place, filter: &Filter) -> Result<(), Trouble> {
        let lines = (*goal == Goal::CountLines).then_some(Longest { keep: NEXT, most: true });
        let count = self.count_files(place, filter, lines)?;
        self.fact("files", &count.files);
        self.fact("folders", &count.folders);
        self.fact("bytes", &count.bytes);
        let (kind, under) = (kind(filter), under(place));
        if let Some(lines) = count.lines {
            self.fact("lines", &lines);
            if !place.is_folder {
                self.fact("path", &place.name);
                self.say(&format!(
                    "`{}` has {} ({}).\n",
                    place.name,
                    many(lines, "line"),
                    bytes(count.bytes)
                ))?;
                return Ok(());
            }
            let files = many(count.files, &format!("{kind}file"));
            self.say(&format!("There are {} in {files} {under}.\n", many(lines, "line")))?;
            for longest in &count.longest {
                self.say(&format!("- `{}`: {}\n", longest.path, many(longest.lines, "line")))?;
            }
        } else if *goal == Goal::CountFolders {
            self.say(&format!("There are {} {under}, itself not counted.\n", many(count.folders, "folder")))?;
        } else {
            let files = many(count.files, &format!("{kind}file"));
            self.say(&format!("There are {files} {under}: {} in all.\n", bytes(count.bytes)))?;
        }
        self.say(&format!("\n{}{}", shares(&count), looked(&count.walk)))?;
        Ok(())
    }

    fn size(&mut self, place: &Place, filter: &Filter) -> Result<(), Trouble> {
        if !place.is_folder {
            let listing = self.list_files(place, &Filter::default(), Order::Name, 1, true)?;
            let Some(found) = listing.files.first() else { return self.no_files(place, filter) };
            self.fact("path", &found.path);
            self.fact("bytes", &found.bytes);
            self.fact("modified_ms", &found.modified_ms);
            let changed = time(found.modified_ms);
            self.say(&format!(
                "`{}` has {}; it was last changed {changed}.\n",
                found.path,
                bytes(found.bytes)
            ))?;
            return Ok(());
        }
        let count = self.count_files(place, filter, None)?;
        self.fact("path", &place.name);
        self.fact("bytes", &count.bytes);
        self.fact("files", &count.files);
        self.fact("folders", &count.folders);
        let files = many(count.files, &format!("{}file", kind(filter)));
        self.say(&format!("{files} {} hold {}.\n", under(place), bytes(count.bytes)))?;
        self.say(&format!("\n{}{}", shares(&count), looked(&count.walk)))?;
        Ok(())
    }

    fn search(&mut self, place: &Place, filter: &Filter, text: &str, tally: bool) -> Result<(), Trouble> {
        let mut matches = self.search_for(place, filter, text)?;
        let mut sought = text.to_owned();
        if matches.lines == 0
            && let Some(word) = longest_word(text)
        {
            self.say(&format!("Nothing {} says `{text}`; so I looked for `{word}`.\n\n", within(place)))?;
            matches = self.search_for(place, filter, word)?;
            word.clone_into(&mut sought);
        }
        self.tell_matches(place, &sought, &matches, tally)
    }

    fn tell_matches(
        &mut self,
        place: &Place,
        text: &str,
        found: &Matches,
        tally: bool,
    ) -> Result<(), Trouble> {
        self.fact("sought", text);
        self.fact("times", &found.times);
        self.fact("lines", &found.lines);
        self.fact("files", &found.files);
        self.fact(
            "matches",
            &found.matches.iter().map(|m| json!({"path": m.path, "line": m.line})).collect::<Vec<_>>(),
        );
        if let Some(first) = found.matches.first() {
            self.fact("path", &first.path);
        }
        if found.lines == 0 {
            self.say(&format!("`{text}` stands nowhere {}.\n", within(place)))?;
        } else {
            let (times, lines) = (many(found.times, "time"), many(found.lines, "line"));
            let told = format!(
                "`{text}` stands {times} {}: in {lines} of {}",
                within(place),
                many(found.files, "file")
            );
            self.say(&format!("{told}.\n"))?;
            let shown = if tally { 5 } else { MATCHES_MAX };
            for found in found.matches.iter().take(shown) {
                self.say(&format!("- `{}:{}` {}\n", found.path, found.line, found.text))?;
            }
            let shown = shown.min(found.matches.len()) as u64;
            if found.lines > shown {
                self.say(&format!("- … and {}\n", many(found.lines - shown, "more line")))?;
            }
        }
        let mut how = format!("\nI read {}", many(found.searched, "file"));
        if found.binary > 0 {
            how += &format!(", {} of them not text", number(found.binary));
        }
        how += ".";
        if !found.left_out.is_empty() {
            how += &format!(" Not searched: {}.", quoted(&found.left_out));
        }
        self.say(&format!("{how}{}\n", exceptions(&found.walk)))?;
        Ok(())
    }

    fn find(&mut self, place: &Place, name: &str) -> Result<(), Trouble> {
        if name.contains('/')
            && let Ok(found) = self.root.place(name)
        {
            self.fact("path", &found.name);
            let what = if found.is_folder { "folder" } else { "file" };
            self.say(&format!("Yes, there is a {what} `{}`.\n", found.name))?;
            return Ok(());
        }
        let folder = self.root.place(name).ok().filter(|place| place.is_folder);
        let found = self.named(place, file_name(name))?;
        let mut paths: Vec<&str> = found.iter().map(|found| found.path.as_str()).collect();
        paths.extend(folder.iter().map(|folder| folder.name.as_str()));
        self.fact("paths", &paths);
        match paths.as_slice() {
            [] => self.say(&format!("No file {} has `{name}` in its name.\n", under(place)))?,
            [path] => {
                self.fact("path", path);
                self.say(&format!("`{name}` is at `{path}`.\n"))?;
            }
            [path, ..] => {
                self.fact("path", path);
                self.say(&format!("`{name}` is in {}:\n", many(paths.len() as u64, "place")))?;
                for path in &paths {
                    self.say(&format!("- `{path}`\n"))?;
                }
            }
        }
        Ok(())
    }

    fn list(&mut self, place: &Place, filter: &Filter) -> Result<(), Trouble> {
        // Of a kind of files one wants all; of a folder, what is in it.
        let deep = !filter.extensions.is_empty();
        let listing = self.list_files(place, filter, Order::Name, LIST_MAX, deep)?;
        self.fact("files", &listing.total);
        self.fact("bytes", &listing.bytes);
        self.fact("paths", &listing.files.iter().map(|found| &found.path).collect::<Vec<_>>());
        self.fact("folders", &listing.folders);
        let files = many(listing.total, &format!("{}file", kind(filter)));
        let place_name = if deep { under(place) } else { within(place) };
        self.say(&format!("{files} {place_name} ({})", bytes(listing.bytes)))?;
        if !listing.folders.is_empty() {
            self.say(&format!(", and {}", many(listing.folders.len() as u64, "folder")))?;
        }
        self.say(":\n")?;
        for folder in listing.folders.iter().take(LIST_MAX) {
            self.say(&format!("- `{folder}/`\n"))?;
        }
        for found in &listing.files {
            self.say(&format!("- `{}`: {}\n", found.path, bytes(found.bytes)))?;
        }
        if listing.total > listing.files.len() as u64 {
            self.say(&format!(
                "- … and {}\n",
                many(listing.total - listing.files.len() as u64, "more file")
            ))?;
        }
        let exceptions = exceptions(&listing.walk);
        if !exceptions.is_empty() {
            self.say(&format!("\n{}\n", exceptions.trim_start()))?;
        }
        Ok(())
    }

    fn read(&mut self, place: &Place, part: Part) -> Result<(), Trouble> {
        let args = json!({ "path": place.name, "part": part });
        let text = self.tool("Read", "read", args, |call, _| tools::read(call, place, part))?;
        self.fact("path", &place.name);
        self.fact("lines", &text.lines);
        self.fact("bytes", &text.bytes);
        let until = (text.from + text.shown).saturating_sub(1);
        let whole = text.shown == text.lines;
        let lines = match (whole, text.shown) {
            (true, _) => format!("all {}", many(text.lines, "line")),
            (false, 1) => format!("line {} of {}", number(text.from), number(text.lines)),
            (false, _) => {
                format!("lines {} to {} of {}", number(text.from), number(until), number(text.lines))
            }
        };
        self.say(&format!("`{}`, {lines}:\n\n```\n", place.name))?;
        for line in text.text.lines() {
            self.say(&format!("{line}\n"))?;
        }
        self.say("```\n")?;
        Ok(())
    }

    fn about(&mut self, place: &Place, filter: &Filter, topic: &str) -> Result<(), Trouble> {
        let mut sought = topic.to_lowercase();
        let mut matches = self.search_for(place, filter, &sought)?;
        let others = [topic.strip_suffix('s'), longest_word(topic)];
        for other in others.into_iter().flatten().map(str::to_lowercase) {
            if matches.lines == 0 {
                self.think(&format!("Nothing about `{sought}`; I try `{other}`."))?;
                matches = self.search_for(place, filter, &other)?;
                sought = other;
            }
        }
        if !place.is_folder && matches.lines > 0 {
            self.say(&format!("What `{}` says about `{sought}`:\n\n", place.name))?;
        }
        self.tell_matches(place, &sought, &matches, false)
    }

    fn unclear(&mut self, place: &Place, telling: &[String]) -> Result<(), Trouble> {
        self.say(
            "I am not sure what is asked: I understand by simple rules, not by a model of language.\n\n",
        )?;
        self.say(EXAMPLES)?;
        self.say("\n")?;
        self.fact("understood", &false);
        for word in telling.iter().take(1) {
            self.say(&format!("\nIn case it helps, I searched for `{word}`.\n\n"))?;
            let matches = self.search_for(place, &Filter::default(), word)?;
            self.tell_matches(place, word, &matches, true)?;
        }
        Ok(())
    }

    fn no_files(&mut self, place: &Place, filter: &Filter) -> Result<(), Trouble> {
        self.fact("files", &0);
        Ok(self.say(&format!("There is no {}file {}.\n", kind(filter), under(place)))?)
    }
}

/// Tools, and words.
impl Answer<'_> {
    /// One step with one tool.
    fn tool<T: Serialize>(
        &mut self,
        step: &str,
        name: &str,
        args: Value,
        work: impl FnOnce(&mut Call<'_>, &Root) -> Result<T, String>,
    ) -> Result<T, Trouble> {
        let root = self.root;
        let done = self.out.step(step, |out| out.tool(name, args, |call| work(call, root)))?;
        Ok(done?)
    }

    fn list_files(
        &mut self,
        place: &Place,
        filter: &Filter,
        order: Order,
        limit: usize,
        deep: bool,
    ) -> Result<Listing, Trouble> {
        let mut args = args(place, filter);
        args["order"] = json!(order);
        args["deep"] = json!(deep);
        let work =
            |call: &mut Call<'_>, root: &Root| tools::list(call, root, place, filter, order, limit, deep);
        self.tool("List files", "list", args, work)
    }

    fn count_files(
        &mut self,
        place: &Place,
        filter: &Filter,
        lines: Option<Longest>,
    ) -> Result<Count, Trouble> {
        let mut args = args(place, filter);
        args["lines"] = json!(lines.is_some());
        let work = |call: &mut Call<'_>, root: &Root| tools::count(call, root, place, filter, lines);
        self.tool("Count", "count", args, work)
    }

    fn search_for(&mut self, place: &Place, filter: &Filter, text: &str) -> Result<Matches, Trouble> {
        let mut args = args(place, filter);
        args["text"] = json!(text);
        let work =
            |call: &mut Call<'_>, root: &Root| tools::search(call, root, place, filter, text, MATCHES_MAX);
        self.tool("Search contents", "search", args, work)
    }

    /// Files by name: those of exactly this name, or else those that have it in theirs; one's own before
    /// others'.
    fn named(&mut self, place: &Place, name: &str) -> Result<Vec<Found>, Trouble> {
        let filter = Filter { name: name.to_lowercase(), ..Filter::default() };
        let mut found = self.list_files(place, &filter, Order::Name, LIST_MAX, true)?.files;
        if found.iter().any(|found| file_name(&found.path) == name) {
            found.retain(|found| file_name(&found.path) == name);
        }
        let foreign = |path: &str| path.split('/').any(|part| tools::NOT_SEARCHED.contains(&part));
        found
            .sort_by_key(|found| (foreign(&found.path), found.path.matches('/').count(), found.path.clone()));
        Ok(found)
    }

    fn think(&mut self, text: &str) -> Result<(), AgentError> {
        self.out.thinking(&format!("{text}\n"))
    }

    fn say(&mut self, text: &str) -> Result<(), AgentError> {
        self.out.output(text)
    }

    fn fact(&mut self, name: &str, value: &(impl Serialize + ?Sized)) {
        self.facts.insert(name.into(), serde_json::to_value(value).unwrap_or_default());
    }
}

fn args(place: &Place, filter: &Filter) -> Value {
    let mut args = json!({ "path": place.name });
    if !filter.extensions.is_empty() {
        args["extensions"] = json!(filter.extensions);
    }
    if !filter.name.is_empty() {
        args["name"] = json!(filter.name);
    }
    args
}

/// The question in the agent's words.
fn described(question: &Question) -> String {
    let Question { goal, place, filter } = question;
    let kind = kind(filter);
    match goal {
        Goal::Extreme { order, keep: 1 } => {
            format!("for the {kind}file under `{place}` that is first by {}", by(*order))
        }
        Goal::Extreme { order, keep } => {
            format!("for the {keep} {kind}files under `{place}` first by {}", by(*order))
        }
        Goal::ExtremeFolder { most } => {
            format!("for the folder under `{place}` with the {} bytes", if *most { "most" } else { "fewest" })
        }
        Goal::ExtremeLines { most, .. } => {
            format!(
                "for the {kind}file under `{place}` with the {} lines",
                if *most { "most" } else { "fewest" }
            )
        }
        Goal::CountFiles => format!("how many {kind}files are under `{place}`"),
        Goal::CountFolders => format!("how many folders are under `{place}`"),
        Goal::CountLines => format!("how many lines the {kind}files of `{place}` have"),
        Goal::Size => format!("how big `{place}` is, and how old"),
        Goal::Search { text, .. } => format!("where `{text}` stands in the {kind}files of `{place}`"),
        Goal::Find { name } => format!("where a file called `{name}` is"),
        Goal::List => format!("which {kind}files are in `{place}`"),
        Goal::Read { .. } => format!("what stands in `{place}`"),
        Goal::About { topic } => format!("what `{place}` says about `{topic}`"),
        Goal::Unclear { .. } => "something that I do not understand".to_owned(),
    }
}

fn by(order: Order) -> &'static str {
    match order {
        Order::Name => "name",
        Order::Largest => "size",
        Order::Smallest => "smallness",
        Order::Newest => "time of change, the newest first",
        Order::Oldest => "time of change, the oldest first",
    }
}

/// ".rs " before "file".
fn kind(filter: &Filter) -> String {
    if filter.label.is_empty() { String::new() } else { format!("{} ", filter.label) }
}

fn under(place: &Place) -> String {
    if place.is_folder { format!("under `{}`", place.name) } else { format!("at `{}`", place.name) }
}

fn within(place: &Place) -> String {
    format!("in `{}`", place.name)
}

/// What share of what was counted is commonly not one's own work.
fn shares(count: &Count) -> String {
    if count.of_these_in.is_empty() {
        return String::new();
    }
    let each = count.of_these_in.iter().map(|(name, files)| format!("{} in `{name}`", number(*files)));
    format!("Of these files, {}. ", each.collect::<Vec<_>>().join(" and "))
}

/// How much was looked at.
fn looked(walk: &Walk) -> String {
    let (files, folders) = (many(walk.files, "file"), many(walk.folders, "folder"));
    format!("I looked at {files} in {folders}, hidden ones too.{}\n", exceptions(walk))
}

/// What was not, each with a space before.
fn exceptions(walk: &Walk) -> String {
    let mut text = String::new();
    if walk.others > 0 {
        text += &format!(" Not followed: {} (links and the like).", many(walk.others, "other thing"));
    }
    if walk.unreadable > 0 {
        text += &format!(" Not readable for me: {}.", many(walk.unreadable, "thing"));
    }
    if walk.cut_short {
        text += " There is more: I stopped at my limit.";
    }
    text
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Of several words the longest, which tells most.
fn longest_word(text: &str) -> Option<&str> {
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.len() > 1 { words.into_iter().max_by_key(|word| word.len()) } else { None }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
