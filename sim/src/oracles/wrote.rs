//! What the daemon writes to its connections, handed to the oracles of whoever reads it: a user's device, a
//! worker, a stranger.

use super::limits::Offer;
use super::order::Piece;
use super::{Oracles, Watched, Who, durable, isolation, joined, topics};
use crate::pipe::PipeId;
use crate::said::Said;
use crate::sometimes;
use crate::tap::Wrote;

impl Oracles {
    /// The daemon has written something.
    pub fn wrote(&mut self, id: PipeId, wrote: &Wrote) {
        let Some(mut conn) = self.conns.remove(&id) else { return };
        match wrote {
            Wrote::Text(text) => {
                self.checked += 1;
                conn.heard = self.schedule.now();
                match Said::read(text) {
                    Ok(said) => self.said(&mut conn, &said, text),
                    Err(error) => self.judge("wire", conn.user(), Err(format!("{error}: {text}"))),
                }
            }
            Wrote::Close(code) => {
                conn.closed = true;
                self.tell(&code.to_string());
            }
            Wrote::Broken(why) => self.judge("wire", conn.user(), Err((*why).to_owned())),
            Wrote::Head(_) | Wrote::Alive => {}
        }
        self.conns.insert(id, conn);
    }

    fn said(&mut self, conn: &mut Watched, said: &Said<'_>, text: &str) {
        match conn.who.clone() {
            Who::User(user) => self.said_to_user(conn, user, said, text),
            Who::Worker(name) => {
                let owner = said.run.as_deref().and_then(|run| self.truth.runs.get(run)?.user);
                self.judge("O10", owner, isolation::judge_worker(owner, text));
                self.said_to_worker(&name, said);
            }
            Who::Stranger => {
                let refused = if said.kind == "error" { Ok(()) } else { Err(text.to_owned()) };
                self.judge("O17", None, refused);
            }
        }
    }

    /// Counts what a user is told.
    fn count(&mut self, said: &Said<'_>) {
        let resume = said.resume.as_ref();
        sometimes!(self.tally, Resumed if resume.is_some_and(|resume| resume.status == "resumed"));
        sometimes!(self.tally, Fresh if resume.is_some_and(|resume| resume.status == "fresh"));
        match resume.and_then(|resume| resume.reason.as_deref()) {
            Some("trimmed") => sometimes!(self.tally, ResetTrimmed),
            Some("epoch") => sometimes!(self.tally, ResetEpoch),
            Some("ahead") => sometimes!(self.tally, ResetAhead),
            _ => {}
        }
        match said.redelivery {
            Some(1) => sometimes!(self.tally, Redelivered),
            Some(2) => sometimes!(self.tally, RedeliveredTwice),
            Some(3..) => sometimes!(self.tally, RedeliveredThrice),
            Some(0) | None => {}
        }
        for entry in said.topic_entries() {
            let status = entry.resume.as_ref().map(|resume| resume.status.as_ref());
            sometimes!(self.tally, TopicRead if status == Some("fresh"));
            sometimes!(self.tally, TopicResumed if status == Some("resumed"));
            sometimes!(self.tally, TopicReset if status == Some("reset"));
        }
        sometimes!(self.tally, JoinedAgain if said.joined.is_some() && said.redelivery.is_some());
        sometimes!(self.tally, TopicRetry if said.topic.is_some() && said.redelivery.is_some());
        sometimes!(self.tally, TokenReplaced if said.kind == "ok" && said.of.as_deref() == Some("refresh"));
        sometimes!(self.tally, Duplicate if said.duplicate == Some(true));
        match said.notice.as_deref() {
            Some("queue") => self.tell(said.reason.as_deref().unwrap_or_default()),
            Some("backlog") if said.behind == Some(0) => sometimes!(self.tally, NoticeBacklogOver),
            Some("backlog") => sometimes!(self.tally, NoticeBacklog),
            Some(other) => self.tell(other),
            None => {}
        }
        if said.kind == "error" {
            self.tell(said.code.as_deref().unwrap_or_default());
        }
    }

    fn said_to_user(&mut self, conn: &mut Watched, user: usize, said: &Said<'_>, text: &str) {
        self.judge("O10", Some(user), topics::isolated(user, conn.topics.operates, text));
        self.judge("O10", Some(user), isolation::judge_runs(&self.truth, user, said));
        self.count(said);
        if said.kind == "welcome" {
            conn.welcomed = true;
            conn.epoch = said.epoch.as_deref().unwrap_or_default().to_owned();
            // What was written before may leave later.
            let is_back = self.generation_of(&conn.epoch, user) < conn.generation;
            let is_back = is_back.then(|| format!("{} was lost, and is there again", conn.epoch));
            self.judge("O4", Some(user), is_back.map_or(Ok(()), Err));
            self.judge("O16", Some(user), durable::device(&self.rows, said));
            conn.sender.welcome(said.resume.as_ref().map_or(0, |resume| resume.from), conn.window);
        }
        let entries = said.topic_entries();
        let resumes = entries.iter().filter_map(|entry| entry.resume.as_ref()).chain(&said.resume);
        if resumes.map(|resume| &resume.status).any(|status| *status == "reset") {
            let name = self.names.iter().find(|(_, number)| **number == user).map(|(name, _)| name);
            name.into_iter().for_each(|name| self.positions.reset(name));
        }
        for entry in entries {
            self.epochs.entry(entry.epoch.to_string()).or_insert(self.disks_lost);
        }
        let now = self.schedule.now();
        if let Err((oracle, what)) = conn.topics.told(now, conn.window, &mut self.truth, said, text.len()) {
            self.judge(oracle, Some(user), Err(what));
        }
        match said.kind.as_ref() {
            "event" if said.topic.is_some() => {
                self.delivered += 1;
                self.redelivered += u64::from(said.redelivery.is_some());
            }
            "event" => {
                self.delivered += 1;
                self.redelivered += u64::from(said.redelivery.is_some());
                if let Err((oracle, what)) = durable::event(&mut self.truth, user, &conn.epoch, said) {
                    self.judge(oracle, Some(user), Err(what));
                }
                let place = Piece::of(said);
                let order = conn.sender.event(self.schedule.now(), place, text.len());
                self.judge("O1", Some(user), order);
                conn.head = conn.head.max(place.seq);
                let is_long = said.joined.is_some() && text.len() > joined::BYTES_MAX;
                let is_long = is_long.then(|| format!("{} bytes are joined", text.len()));
                self.judge("O13", Some(user), is_long.map_or(Ok(()), Err));
            }
            "welcome" | "heartbeat" => {
                let head = said.head.unwrap_or(u64::MAX);
                let durable = durable::head(&mut self.truth, user, &conn.epoch, head);
                self.judge("O16", Some(user), durable);
                let falls = (head < conn.head).then(|| format!("the head is {head}, it was {}", conn.head));
                conn.head = head;
                self.judge("O4", Some(user), falls.map_or(Ok(()), Err));
            }
            "accepted" => {
                let head = durable::head(&mut self.truth, user, &conn.epoch, said.head.unwrap_or(0));
                self.judge("O16", Some(user), head);
                self.accepted(user, said);
            }
            _ => {}
        }
        self.sign(conn, said);
        if said.kind != "welcome" && said.kind != "error" && !conn.welcomed {
            self.judge("B1", Some(user), Err(format!("before welcome comes {text}")));
        }
    }

    /// Whoever waits for an answer or a sign may have it.
    fn sign(&self, conn: &mut Watched, said: &Said<'_>) {
        let run = said.run.as_deref();
        match said.kind.as_ref() {
            "accepted" => {
                let new = run.filter(|_| said.duplicate != Some(true));
                conn.waits.answered(self.schedule.now(), said.id.as_deref().unwrap_or_default(), new);
            }
            "error" => {
                conn.waits.answered(self.schedule.now(), said.id.as_deref().unwrap_or_default(), None);
            }
            "event" | "notice" => conn.waits.told(run.unwrap_or_default()),
            _ => {}
        }
    }

    fn accepted(&mut self, user: usize, said: &Said<'_>) {
        let run = said.run.as_deref().unwrap_or_default();
        self.judge("O16", Some(user), durable::accepted(&self.truth, run));
        self.judge("O16", Some(user), durable::ended(&self.truth, said));
        // What was on its way when its user was erased says nothing of the keys that came after.
        let is_erased = self.truth.runs.get(run).is_some_and(|run| run.is_erased);
        let Some(key) = said.key.as_deref().filter(|_| !is_erased) else { return };
        let told = self.keys.told(user, key, run);
        sometimes!(self.tally, DuplicateAfterCrash if told.as_ref().is_ok_and(|crashes| *crashes < self.crashes));
        self.judge("O3", Some(user), told.map(drop));
    }

    fn said_to_worker(&mut self, worker: &str, said: &Said<'_>) {
        let run = said.run.as_deref().unwrap_or_default();
        let attempt = said.attempt.unwrap_or(0);
        match said.kind.as_ref() {
            "run" => {
                let text = |field: &Option<std::borrow::Cow<'_, str>>| {
                    field.as_deref().unwrap_or_default().to_owned()
                };
                let offer = Offer {
                    user: text(&said.user),
                    thread: text(&said.thread),
                    worker: worker.to_owned(),
                    agent: text(&said.agent),
                    started: false,
                };
                let user = self.truth.runs.get(run).and_then(|run| run.user);
                self.limits.offered(run, offer);
                self.judge("O16", user, durable::accepted(&self.truth, run));
            }
            "withdraw" => self.limits.over(run),
            "ack" => {
                let n = said.n.unwrap_or(u64::MAX);
                if n == 0 {
                    self.limits.started(run);
                }
                let user = self.truth.runs.get(run).and_then(|run| run.user);
                self.judge("O16", user, durable::acknowledged(&self.truth, run, attempt, n));
            }
            "error" => self.refused(said),
            "cancel" => sometimes!(self.tally, CancelGiven),
            "welcome" => {
                for entry in said.run_entries() {
                    self.tell(&entry.state);
                    match (entry.state.as_ref(), entry.n) {
                        ("continue", Some(n)) => {
                            let attempt = entry.attempt.unwrap_or(0);
                            self.judge(
                                "O16",
                                None,
                                durable::acknowledged(&self.truth, &entry.run, attempt, n),
                            );
                            self.limits.started(&entry.run);
                        }
                        _ => self.limits.over(&entry.run),
                    }
                }
            }
            _ => {}
        }
    }

    /// A worker's message that is refused has used up its number.
    fn refused(&mut self, said: &Said<'_>) {
        let code = said.code.as_deref().unwrap_or_default();
        sometimes!(self.tally, Fenced if code == "fenced");
        let (Some(run), Some(n)) = (said.run.as_deref(), said.n) else { return };
        if let Some(run) = self.truth.runs.get_mut(run)
            && !matches!(code, "gap" | "fenced" | "storage_unavailable")
            && run.started == said.attempt
        {
            run.deal_with(n);
        }
    }
}
