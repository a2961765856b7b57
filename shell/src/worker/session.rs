//! The worker's side of the protocol: one thread, one connection after the other.

use super::desk::{Attempt, Desk};
use super::messages::{Call, Known, Offer, Refused, Say, Serves, Told, Welcome};
use super::{Agent, AgentError, Ask, Out};
use crate::line::{Heard, Line, Lost};
use crate::place::Place;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The first wait between two connections is at most this, and doubles …
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// … up to this.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// The wait after a refusal that trying again at once would not change.
const REFUSED_WAIT: Duration = Duration::from_secs(30);
/// A connection that held for this long was a good one: the waits begin anew.
const HELD: Duration = Duration::from_secs(10);
/// How long a run that finds no free thread is not to be offered again, in milliseconds.
const DECLINE_MS: u64 = 1_000;

/// Everything that the worker's thread needs.
pub(super) struct Session {
    line: Line,
    desk: Arc<Desk>,
    agents: Vec<Arc<dyn Agent>>,
    place: Place,
    token: Box<dyn Fn() -> String + Send>,
    name: String,
    /// Of this connection; `None` before its `welcome`.
    terms: Option<Terms>,
    /// Some connection was welcome: the daemon was there, and was trusted.
    was_welcome: bool,
    sent_at: Instant,
    /// This process, by chance.
    by: String,
    calls: u64,
}

/// What the daemon asks for on this connection.
#[derive(Clone, Copy, Debug)]
struct Terms {
    beat: Duration,
    silence: Duration,
}

/// What comes after a connection.
enum After {
    Wait(Duration),
    Never,
}

impl Session {
    pub(super) fn new(
        line: Line,
        desk: Arc<Desk>,
        agents: Vec<Arc<dyn Agent>>,
        place: Place,
        token: Box<dyn Fn() -> String + Send>,
        name: String,
    ) -> Self {
        let by = format!("{:016x}", rand::random::<u64>());
        Self {
            line,
            desk,
            agents,
            place,
            token,
            name,
            terms: None,
            was_welcome: false,
            sent_at: Instant::now(),
            by,
            calls: 0,
        }
    }

    /// Connects, serves, and connects again, until stopped or replaced.
    pub(super) fn serve(mut self) {
        let mut tries = 0;
        while !self.desk.is_stopped() {
            let opened = Instant::now();
            let Err(lost) = self.connection() else { break };
            self.line.hang_up();
            tries = if self.terms.is_some() && opened.elapsed() >= HELD { 0 } else { tries + 1 };
            let wait = match after(&lost, tries, self.was_welcome) {
                After::Wait(wait) => wait,
                After::Never => {
                    tracing::error!(worker = %self.name, reason = %lost, "this worker stops");
                    self.desk.stop();
                    break;
                }
            };
            tracing::info!(worker = %self.name, reason = %lost, wait_ms = wait.as_millis(), "not connected");
            self.rest(wait);
        }
        self.line.hang_up();
    }

    /// Waits for a time, or for being stopped.
    fn rest(&mut self, wait: Duration) {
        let until = Instant::now() + wait;
        while !self.desk.is_stopped() && Instant::now() < until {
            if let Err(error) = self.line.next(Some(until)) {
                tracing::debug!(%error, "waiting without a connection");
            }
        }
    }

    /// One connection, from `hello` to its loss. `Ok` when stopped.
    fn connection(&mut self) -> Result<(), Lost> {
        self.terms = None;
        let token = (self.token)();
        self.line.open(&self.place, "/worker", &token)?;
        self.hello()?;
        while !self.desk.is_stopped() {
            self.publish()?;
            let deadline = self.deadline();
            match self.line.next(Some(deadline))? {
                Heard::Text(text) => self.hear(&text)?,
                Heard::Alive | Heard::Rung => {}
                Heard::Late => self.late()?,
            }
        }
        Ok(())
    }

    fn hello(&mut self) -> Result<(), Lost> {
        let positions = self.desk.positions();
        let agents = self.agents.iter().map(|agent| Serves {
            agent: agent.name(),
            slots: agent.slots(),
            retryable: agent.retryable(),
            timeout_ms: agent.timeout_ms(),
        });
        let runs = positions.iter().map(|(at, n)| at.position(*n)).collect();
        self.calls += 1;
        let call = Call { by: &self.by, n: self.calls };
        let hello = Say::Hello { worker: &self.name, call, agents: agents.collect(), runs }.encode();
        self.send(hello)
    }

    fn send(&mut self, text: String) -> Result<(), Lost> {
        self.sent_at = Instant::now();
        self.line.send(text)
    }

    /// Sends what the agents have said, as far as the window and the socket take it.
    fn publish(&mut self) -> Result<(), Lost> {
        while self.terms.is_some() && !self.line.is_clogged() {
            let Some(text) = self.desk.next_message(Instant::now()) else { break };
            self.send(text)?;
        }
        Ok(())
    }

    /// When to look up without having heard anything.
    fn deadline(&self) -> Instant {
        let silence = self.terms.map_or(Terms::BEFORE_WELCOME, |terms| terms.silence);
        let silent = self.line.heard_at() + silence;
        let beat = self.terms.map(|terms| self.sent_at + terms.beat);
        [beat, self.desk.held_until(Instant::now())].into_iter().flatten().fold(silent, Instant::min)
    }

    fn late(&mut self) -> Result<(), Lost> {
        let silence = self.terms.map_or(Terms::BEFORE_WELCOME, |terms| terms.silence);
        if self.line.heard_at().elapsed() >= silence {
            return Err(Lost::Broken(format!("nothing heard for {} ms", silence.as_millis())));
        }
        match self.terms {
            Some(terms) if self.sent_at.elapsed() >= terms.beat => self.send(Say::Beat.encode()),
            Some(_) | None => Ok(()),
        }
    }

    fn hear(&mut self, text: &str) -> Result<(), Lost> {
        let told = match serde_json::from_str::<Told>(text) {
            Ok(told) => told,
            Err(error) => {
                tracing::warn!(%error, "a message from the daemon that cannot be read");
                return Ok(());
            }
        };
        match told {
            Told::Welcome(welcome) => self.welcome(&welcome),
            Told::Run(offer) => self.offered(offer)?,
            Told::Withdraw(of) => self.desk.forget(&Attempt { run: of.run, number: of.attempt }),
            Told::Ack { run, attempt, n } => {
                if let Some(ask) = self.desk.acknowledge(&Attempt { run, number: attempt }, n) {
                    self.execute(ask);
                }
            }
            Told::Cancel { run, attempt, i, reason } => {
                let at = Attempt { run, number: attempt };
                if self.command(&at, i)? {
                    self.desk.cancel(&at, reason);
                }
            }
            // The agents of this process hear answers, and nothing that they did not ask for.
            Told::Input { run, attempt, i, request, data, expired } => {
                let at = Attempt { run, number: attempt };
                if self.command(&at, i)?
                    && let Some(request) = request
                {
                    self.desk.answer(&at, request, (!expired).then_some(data));
                }
            }
            Told::Error(refused) => self.refused(&refused),
            Told::Heartbeat | Told::Drain | Told::Other => {}
        }
        Ok(())
    }

    fn welcome(&mut self, welcome: &Welcome) {
        self.was_welcome = true;
        self.terms = Some(Terms {
            beat: Duration::from_millis(welcome.lease_ms / 3).max(Duration::from_millis(1)),
            silence: Duration::from_millis(welcome.heartbeat_ms.saturating_mul(5) / 2)
                .max(Duration::from_millis(1)),
        });
        for resume in welcome.runs.iter().filter(|resume| resume.state != Known::Continue) {
            tracing::info!(run = %resume.run, state = ?resume.state, "a run is over");
        }
        tracing::info!(worker = %self.name, lease_ms = welcome.lease_ms, "connected");
        for ask in self.desk.welcome(welcome.publish_window, welcome.message_bytes, &welcome.runs) {
            self.execute(ask);
        }
    }

    fn offered(&mut self, offer: Offer) -> Result<(), Lost> {
        let (run, attempt) = (offer.run.clone(), offer.attempt);
        let slots = self.agents.iter().find(|agent| agent.name() == offer.agent).map(|agent| agent.slots());
        let reply = match slots {
            None => Some("this worker has no such agent"),
            Some(slots) if self.desk.take(offer.into_ask(), slots) => None,
            Some(_) => Some("all slots are still in use"),
        };
        let say = match reply {
            None => Say::Started { run: &run, attempt },
            Some(reason) => Say::Decline { run: &run, attempt, reason, retry_ms: DECLINE_MS },
        };
        self.send(say.encode())
    }

    /// Confirms a command. True when it is to be obeyed: the run is here and the command is new.
    fn command(&mut self, at: &Attempt, i: u64) -> Result<bool, Lost> {
        let Some(new) = self.desk.command(at, i) else { return Ok(false) };
        self.send(Say::Got { run: &at.run, attempt: at.number, i }.encode())?;
        Ok(new)
    }

    fn refused(&mut self, refused: &Refused) {
        let Refused { code, message, .. } = refused;
        tracing::warn!(%code, run = ?refused.run, %message, "the daemon refuses");
        let (Some(run), Some(number)) = (refused.run.clone(), refused.attempt) else { return };
        let at = Attempt { run, number };
        match (refused.code.as_str(), refused.expected) {
            ("fenced", _) => self.desk.forget(&at),
            ("gap", Some(expected)) => self.desk.send_again(&at, expected, None),
            ("storage_unavailable", Some(expected)) => {
                let hold = Duration::from_millis(refused.retry_ms.unwrap_or(1_000));
                self.desk.send_again(&at, expected, Some(hold));
            }
            // Of `bad_event` the number is used up: its `ack` follows and the run goes on.
            (_, _) => {}
        }
    }

    /// Starts the thread of a run whose start is acknowledged.
    fn execute(&mut self, ask: Ask) {
        let Some(agent) = self.agents.iter().find(|agent| agent.name() == ask.agent).map(Arc::clone) else {
            return;
        };
        let (ask, theirs, desk) = (Arc::new(ask), Arc::clone(&self.desk), Arc::clone(&self.desk));
        let asked = Arc::clone(&ask);
        let thread = std::thread::Builder::new().name(format!("agent-{}", ask.agent));
        if let Err(error) = thread.spawn(move || perform(&*agent, &asked, theirs)) {
            let message = format!("the worker's machine grants no thread: {error}");
            Out::new(Arc::clone(&desk), &ask).finish(Some(Err(AgentError::failed("no_thread", message))));
            desk.thread_ended(&ask.agent);
        }
    }
}

/// A run's thread.
pub(super) fn perform(agent: &dyn Agent, ask: &Ask, desk: Arc<Desk>) {
    let mut out = Out::new(Arc::clone(&desk), ask);
    let result = catch_unwind(AssertUnwindSafe(|| agent.run(ask, &mut out)));
    out.finish(result.ok());
    desk.thread_ended(&ask.agent);
}

impl Terms {
    /// How long the daemon may keep silent before its `welcome`.
    const BEFORE_WELCOME: Duration = Duration::from_secs(25);
}

impl Offer {
    fn into_ask(self) -> Ask {
        let Self { run, attempt, thread, user, agent, input, timeout_ms } = self;
        Ask { run, attempt, thread, user, agent, input, timeout_ms }
    }
}

/// What to do after a connection was lost, or came not about, for the `tries`th time (PROTOCOL §5, close
/// codes). What is wrong with certificates ends a worker that was never welcome, so that whoever starts it
/// sees that; later it is waited for until they are renewed.
fn after(lost: &Lost, tries: u32, was_welcome: bool) -> After {
    match lost {
        Lost::BadUrl { .. } | Lost::Closed { code: 4510, .. } => After::Never,
        Lost::NoTrust(_) | Lost::Untrusted { .. } if !was_welcome => After::Never,
        Lost::Closed { code: 4506, .. } => After::Wait(jittered(tries)),
        Lost::Closed { code: 4500..=4599, .. } => After::Wait(REFUSED_WAIT),
        Lost::Refused { status: 429 | 500..=599, retry_ms, .. } => {
            After::Wait(Duration::from_millis(retry_ms.unwrap_or(0)).min(REFUSED_WAIT) + jittered(tries))
        }
        Lost::Refused { .. } => After::Wait(REFUSED_WAIT),
        Lost::Closed { .. }
        | Lost::Unreachable { .. }
        | Lost::NoTrust(_)
        | Lost::Untrusted { .. }
        | Lost::Broken(_) => After::Wait(jittered(tries)),
    }
}

/// Full jitter: anything from nothing to the bound, which doubles with each try.
fn jittered(tries: u32) -> Duration {
    let bound = BACKOFF_MIN.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(BACKOFF_MAX);
    bound.mul_f64(rand::random::<f64>())
}
