//! The topics that a device reads: asked for in its `hello`, changed now and then while it is connected, each
//! with a position of its own that it keeps over connections. It believes nothing that it can check.

use super::Ctx;
use crate::dice::Dice;
use crate::oracles::order::{Piece, Reader};
use crate::oracles::resume::{self, Client, From, Welcome};
use crate::oracles::topics::{TOPICS, may_read};
use crate::oracles::truth::Truth;
use crate::oracles::{complete, durable};
use crate::said::{Said, TopicEntry};
use crate::schedule::{MS, Micros, SECOND};

/// Never.
const NEVER: Micros = Micros::MAX;
/// What is not acknowledged by number is after this time.
const ACK_AFTER: Micros = 500 * MS;
/// The mean time between two changes.
const CHANGE_EVERY: Micros = 8 * SECOND;

/// What is wrong: which oracle says so, and how.
pub type Broken = (&'static str, String);

/// How far the device is in one topic.
#[derive(Debug)]
struct Place {
    /// Where it asked to begin last.
    from: From,
    reader: Reader,
    /// What its application has: incarnation and seq.
    has: Option<(String, u64)>,
    /// The daemon must know the device in this topic.
    is_known: bool,
    /// The furthest position that the daemon may have for it.
    told: u64,
    acked: u64,
    /// The disks that were lost before it got what it has.
    disk: u64,
    /// The connection reads it.
    is_read: bool,
}

impl Default for Place {
    fn default() -> Self {
        let (from, reader) = (From::Head, Reader::default());
        Self { from, reader, has: None, is_known: false, told: 0, acked: 0, disk: 0, is_read: false }
    }
}

impl Place {
    /// Mostly the own position, now and then another way that cannot lose what the application has.
    fn choose_from(&mut self, is_viewer: bool, dice: &mut Dice) {
        let choice = dice.below(16);
        self.from = match &self.has {
            None => match choice {
                0..4 => From::Oldest,
                4..8 => From::Head,
                _ if is_viewer => From::Head,
                _ => From::Device,
            },
            Some((_, seq)) if (0..4).contains(&choice) && !is_viewer && *seq >= self.told => From::Device,
            Some(_) if choice == 4 => From::Oldest,
            Some((epoch, seq)) => From::Own(epoch.clone(), *seq),
        };
        if let From::Own(_, seq) = &self.from {
            self.told = self.told.max(*seq);
        }
    }

    /// It begins, or begins again.
    fn begins(&mut self, ctx: &Ctx<'_>, entry: &TopicEntry<'_>) -> Result<(), Broken> {
        let Some(resume) = &entry.resume else { return Err(("wire", format!("{entry:?}"))) };
        let disk = ctx.oracles.disk_of_topic(&entry.epoch);
        let is_new = disk > self.disk;
        if is_new {
            (self.disk, self.is_known) = (disk, false);
            // What was asked for without an answer may have been asked for on this disk.
            self.told = if self.told == u64::MAX { self.told } else { 0 };
        }
        self.told = self.told.min(entry.head);
        let client = Client {
            from: &self.from,
            has: self.has.as_ref().map(|(epoch, seq)| (epoch.as_str(), *seq)),
            told: self.is_known.then_some(self.told),
            // `subscribed` names no device.
            stored: None,
            is_new,
        };
        let welcome = Welcome { epoch: &entry.epoch, floor: entry.floor, head: entry.head, resume };
        resume::judge(client, welcome)
            .map_err(|(oracle, what)| (oracle, format!("{what}: {client:?}, {entry:?}")))?;
        let keeps = self.has.as_ref().is_some_and(|(had, seq)| *had == entry.epoch && *seq >= resume.from);
        if resume.status != "resumed" || !keeps {
            self.has = Some((entry.epoch.to_string(), resume.from));
        }
        if !self.is_known || resume.status == "reset" {
            self.told = self.told.max(resume.from);
        }
        self.reader = Reader { position: resume.from };
        (self.acked, self.is_read, self.is_known) = (resume.from, true, true);
        Ok(())
    }

    fn unacked(&self) -> u64 {
        if self.is_read { self.reader.position - self.acked.min(self.reader.position) } else { 0 }
    }
}

/// All topics of one device.
#[derive(Debug)]
pub struct Topics {
    is_viewer: bool,
    /// Whether its token lets it read what is for operators.
    operates: bool,
    /// Whether a token with which it calls does.
    calls_operates: bool,
    /// The topics that it wants, in the order in which it asks.
    wanted: Vec<usize>,
    /// Of [`TOPICS`].
    places: [Place; TOPICS.len()],
    ack_at: Micros,
    change_at: Micros,
    /// A change that is not answered: its `id`, and the new set.
    change: Option<(String, Vec<usize>)>,
    changes: u64,
}

impl Topics {
    /// The daemon has forgotten this device, and how far it was. Up to `told` it may have been told since.
    pub fn forgotten(&mut self, told: u64) {
        self.places.iter_mut().for_each(|place| (place.is_known, place.told) = (false, told));
    }

    /// Of a device that wants these at first.
    pub fn new(wanted: &[String], is_viewer: bool, operates: bool) -> Self {
        let number = |name: &String| TOPICS.iter().position(|(other, _)| other == name);
        Self {
            is_viewer,
            operates,
            calls_operates: operates,
            wanted: wanted.iter().filter_map(number).collect(),
            places: Default::default(),
            ack_at: NEVER,
            change_at: NEVER,
            change: None,
            changes: 0,
        }
    }

    /// Whether it has to do with topics at all.
    fn is_idle(&self) -> bool {
        self.wanted.is_empty() && self.changes == 0
    }

    /// The field `topics` of a `hello`.
    pub fn hello(&mut self, dice: &mut Dice) -> String {
        if self.is_idle() {
            return String::new();
        }
        let wanted = self.wanted.clone();
        format!(",\"topics\":{}", self.list(&wanted, dice))
    }

    fn list(&mut self, wanted: &[usize], dice: &mut Dice) -> String {
        let mut items = Vec::new();
        for number in wanted {
            let (name, _) = TOPICS[*number];
            let place = &mut self.places[*number];
            place.choose_from(self.is_viewer, dice);
            items.push(match &place.from {
                From::Head if dice.chance(1, 2) => format!("\"{name}\""),
                From::Own(epoch, seq) => {
                    format!("{{\"topic\":\"{name}\",\"from\":{{\"epoch\":\"{epoch}\",\"seq\":{seq}}}}}")
                }
                From::Oldest => format!("{{\"topic\":\"{name}\",\"from\":\"oldest\"}}"),
                From::Device => format!("{{\"topic\":\"{name}\",\"from\":\"device\"}}"),
                From::Head | From::Live => format!("{{\"topic\":\"{name}\",\"from\":\"head\"}}"),
            });
        }
        format!("[{}]", items.join(","))
    }

    /// The connection is gone. `is_unsure` is whether its `hello` may have been heard without an answer.
    pub fn apart(&mut self, is_unsure: bool) {
        let changed = self.change.take().map(|(_, set)| set).unwrap_or_default();
        let asked = if is_unsure { self.wanted.clone() } else { changed };
        for number in asked {
            let place = &mut self.places[number];
            // Perhaps the daemon has given it a position, somewhere.
            place.told = if place.is_known { place.told } else { u64::MAX };
        }
        self.places.iter_mut().for_each(|place| place.is_read = false);
        (self.ack_at, self.change_at, self.operates) = (NEVER, NEVER, self.calls_operates);
    }

    /// The answer to `hello`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn welcome(&mut self, ctx: &Ctx<'_>, said: &Said<'_>, dice: &mut Dice) -> Result<(), Broken> {
        let entries = said.topic_entries();
        let wanted = self.wanted.clone();
        for (number, entry) in self.pair(&wanted, &entries)? {
            let is_readable = may_read(&entry.topic, self.operates);
            let code = entry.error.as_ref().map(|error| error.code.as_ref());
            match code {
                None if is_readable => self.places[number].begins(ctx, entry)?,
                Some("topic_forbidden") if !is_readable => {}
                // The store is full: it is asked for again on the next connection.
                Some("storage_unavailable") if is_readable => {}
                None | Some(_) => return Err(("O17", format!("may it be read ({is_readable})? {entry:?}"))),
            }
        }
        if !self.is_idle() {
            self.change_at = ctx.now + dice.exponential(CHANGE_EVERY);
        }
        Ok(())
    }

    /// Each topic that was asked for with its entry: all are answered, in order.
    fn pair<'e, 'a>(
        &self,
        asked: &[usize],
        entries: &'e [TopicEntry<'a>],
    ) -> Result<Vec<(usize, &'e TopicEntry<'a>)>, Broken> {
        let names = asked.iter().map(|number| TOPICS[*number].0);
        if !names.eq(entries.iter().map(|entry| &*entry.topic)) {
            return Err(("wire", format!("{asked:?} was asked for, and answered {entries:?}")));
        }
        Ok(asked.iter().copied().zip(entries).collect())
    }

    /// A change has come about.
    ///
    /// # Errors
    /// It is another than was asked for, or a topic that was kept does not go on.
    pub fn subscribed(&mut self, ctx: &Ctx<'_>, said: &Said<'_>) -> Result<(), Broken> {
        let Some((_, set)) = self.change.take().filter(|(id, _)| said.id.as_deref() == Some(id)) else {
            return Err(("wire", format!("nothing was asked for, and answered {said:?}")));
        };
        let entries = said.topic_entries();
        for (number, entry) in self.pair(&set, &entries)? {
            let place = &mut self.places[number];
            if !place.is_read {
                place.begins(ctx, entry)?;
                continue;
            }
            let from = entry.resume.as_ref().map(|resume| (resume.status.as_ref(), resume.from));
            if from != Some(("resumed", place.reader.position)) {
                return Err(("O1", format!("it was kept at {}: {entry:?}", place.reader.position)));
            }
        }
        for (number, place) in self.places.iter_mut().enumerate() {
            place.is_read &= set.contains(&number);
        }
        self.wanted = set;
        Ok(())
    }

    /// A change was refused: nothing has changed. What a full store did not take, it wants all the same, and
    /// asks for when it calls again.
    ///
    /// # Errors
    /// It should not have been.
    pub fn refused(&mut self, said: &Said<'_>) -> Result<(), Broken> {
        let Some((_, set)) = self.change.take() else {
            return Err(("wire", format!("nothing was asked for, and refused {said:?}")));
        };
        let is_forbidden = set.iter().any(|number| !may_read(TOPICS[*number].0, self.operates));
        match said.code.as_deref() {
            Some("storage_unavailable") => {
                self.wanted = set;
                Ok(())
            }
            Some("rate_limited" | "overloaded") => Ok(()),
            Some("topic_forbidden") if is_forbidden => Ok(()),
            _ => Err(("B3", format!("{set:?} is refused: {said:?}"))),
        }
    }

    /// A newer token is in place; `operates` is whether that lets it read what is for operators.
    ///
    /// # Errors
    /// Topics have ended that it may read, or have not that it may not.
    pub fn refreshed(&mut self, operates: bool, said: &Said<'_>) -> Result<(), Broken> {
        self.operates = operates;
        for (place, (name, _)) in self.places.iter_mut().zip(TOPICS) {
            let has_ended = said.ended.iter().flatten().any(|ended| *ended == name);
            if has_ended != (place.is_read && !may_read(name, operates)) {
                return Err(("O17", format!("{name} is read ({}), and then {said:?}", place.is_read)));
            }
            place.is_read &= !has_ended;
        }
        Ok(())
    }

    /// An event of a topic. Tells whether it is a new one.
    ///
    /// # Errors
    /// It is not read, or does not continue it.
    pub fn event(&mut self, ctx: &mut Ctx<'_>, said: &Said<'_>) -> Result<(), Broken> {
        let named = |(name, _): &(&str, bool)| said.topic.as_deref() == Some(*name);
        let place = TOPICS.iter().position(named).map(|number| &mut self.places[number]);
        let Some(place) = place.filter(|place| place.is_read) else {
            return Err(("O17", format!("it is not read: {said:?}")));
        };
        let Some((epoch, has)) = place.has.clone() else { return Err(("O1", format!("{said:?}"))) };
        durable::event(&mut ctx.oracles.truth, 0, &epoch, said)?;
        let seq = said.seq.unwrap_or(0);
        let is_new = place.reader.event(Piece::of(said)).map_err(|what| ("O1", what))?;
        if is_new && seq > has {
            place.has = Some((epoch, seq));
        }
        self.ack_at = self.ack_at.min(ctx.now + ACK_AFTER);
        Ok(())
    }

    /// When there is something to send.
    pub fn deadline(&self) -> Micros {
        self.ack_at.min(if self.change.is_none() { self.change_at } else { NEVER })
    }

    /// Acknowledgements that are due: topic and seq. `every` is after how many, none if it does not work.
    pub fn acks(&mut self, now: Micros, every: Option<u64>, is_healed: bool) -> Vec<(&'static str, u64)> {
        let Some(every) = every.filter(|_| !self.is_viewer) else {
            self.ack_at = NEVER;
            return Vec::new();
        };
        let is_late = now >= self.ack_at || is_healed;
        let mut due = Vec::new();
        for (place, (name, _)) in self.places.iter_mut().zip(TOPICS) {
            if place.unacked() >= if is_late { 1 } else { every } {
                place.acked = place.reader.position;
                place.told = place.told.max(place.acked);
                due.push((name, place.acked));
            }
        }
        if self.places.iter().all(|place| place.unacked() == 0) {
            self.ack_at = NEVER;
        }
        due
    }

    /// A change that is due: other topics, kept ones among them, now and then one that it may not read.
    pub fn change(&mut self, now: Micros, over: bool, dice: &mut Dice) -> Option<String> {
        if now < self.change_at || self.change.is_some() {
            return None;
        }
        self.change_at = if over { NEVER } else { now + dice.exponential(CHANGE_EVERY) };
        if over {
            return None;
        }
        let operates = self.operates;
        let is_wanted = |number: &usize, dice: &mut Dice| {
            if may_read(TOPICS[*number].0, operates) { dice.chance(1, 2) } else { dice.chance(1, 10) }
        };
        let set: Vec<usize> = (0..TOPICS.len()).filter(|number| is_wanted(number, dice)).collect();
        let list = self.list(&set, dice);
        self.changes += 1;
        let id = format!("topics-{}", self.changes);
        let text = format!("{{\"type\":\"subscribe\",\"id\":\"{id}\",\"topics\":{list}}}");
        self.change = Some((id, set));
        Some(text)
    }

    /// A number that changes while it gets on.
    pub fn progress(&self) -> u64 {
        self.places.iter().filter_map(|place| place.has.as_ref()).map(|(_, seq)| *seq).sum()
    }

    /// What it still lacks, if anything.
    pub fn missing(&self, who: &str, truth: &mut Truth) -> Option<String> {
        if let Some((id, _)) = &self.change {
            return Some(format!("{who} waits for the answer to {id}"));
        }
        self.places.iter().zip(TOPICS).filter(|(place, _)| place.is_read).find_map(|(place, (name, _))| {
            let (epoch, seq) = place.has.as_ref()?;
            let head = truth.stream(0, epoch).map_or(0, |log| log.head());
            complete::device(
                &format!("{who} in {name}"),
                *seq,
                (!self.is_viewer).then_some(place.acked),
                head,
            )
        })
    }
}
