//! O10, for PROTOCOL §2.7 "Isolated": the secret that every payload of a user carries is in nothing that is
//! sent to another, whatever it is: an event, an error, a notice, a `welcome`, the answer to a request over
//! HTTP, the reason of a close; a worker is sent no more than what belongs to the run that a message is
//! about; and what is written down for those who look after the daemon (lines of the log and of the audit
//! trail, `/metrics`, the webhook's body) has nobody's secret in it.

use super::topics::OPERATORS;
use super::truth::{SECRET, Truth, secrets};
use crate::said::Said;
use runcast_core::effect::{Content, Effect};
use runcast_core::ids::ConnId;
use runcast_core::input::{Claims, Input};
use std::collections::{BTreeMap, BTreeSet};

/// Judges a message to a user.
///
/// # Errors
/// Whose secret it carries.
pub fn judge(user: usize, text: &str) -> Result<(), String> {
    match secrets(text).find(|other| *other != user) {
        Some(other) => Err(format!("user {user} is sent a secret of user {other}: {text}")),
        None => Ok(()),
    }
}

/// Judges a message to a worker about a run of this user; of nobody, if it is about none.
///
/// # Errors
/// Whose secret it carries.
pub fn judge_worker(owner: Option<usize>, text: &str) -> Result<(), String> {
    match secrets(text).find(|user| Some(*user) != owner) {
        Some(other) => {
            Err(format!("of a run of {owner:?} a worker is sent a secret of user {other}: {text}"))
        }
        None => Ok(()),
    }
}

/// Judges the runs that a message to a user names, unless it only repeats what its client said.
///
/// # Errors
/// Whose run it names.
pub fn judge_runs(truth: &Truth, user: usize, said: &Said<'_>) -> Result<(), String> {
    if matches!(said.kind.as_ref(), "error" | "ok") {
        return Ok(());
    }
    let entries = said.run_entries();
    let named = said.run.iter().chain(entries.iter().map(|entry| &entry.run));
    for run in named {
        if let Some(owner) = truth.runs.get(run.as_ref()).and_then(|run| run.user)
            && owner != user
        {
            return Err(format!("user {user} is told of {run}, a run of user {owner}: {said:?}"));
        }
    }
    Ok(())
}

/// Words with a secret in them that did not leave on a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overheard {
    /// Who hears them: the `sub` of a token that holds; nobody whose name is known, otherwise.
    pub to: Option<String>,
    /// Whether that token is an operator's.
    operates: bool,
    /// The words.
    pub text: String,
}

impl Overheard {
    /// Judges the words by the number of the user who hears them, if it is a user.
    ///
    /// # Errors
    /// Whose secret they carry.
    pub fn judge(&self, user: Option<usize>) -> Result<(), String> {
        let may_hear = |of: usize| Some(of) == user || (of == OPERATORS && self.operates);
        match secrets(&self.text).find(|of| !may_hear(*of)) {
            Some(of) => Err(format!("{:?} hears a secret of user {of}: {}", self.to, around(&self.text))),
            None => Ok(()),
        }
    }
}

/// The words around a secret: an answer may be long.
fn around(text: &str) -> &str {
    let at = text.find(SECRET).unwrap_or(0);
    let (from, to) = (text.floor_char_boundary(at.saturating_sub(200)), text.floor_char_boundary(at + 200));
    &text[from..to]
}

/// Who hears what the daemon says elsewhere than on WebSockets (these are read as they are written), in one
/// process of the daemon.
#[derive(Debug, Default)]
pub struct Hearers {
    /// Whose token each connection has brought, and whether it is an operator's.
    known: BTreeMap<ConnId, (String, bool)>,
    /// Connections on which an event stream is sent.
    streams: BTreeSet<ConnId>,
    overheard: Vec<Overheard>,
}

impl Hearers {
    /// An input is about to be handled.
    pub fn look(&mut self, input: &Input<'_>) {
        match input {
            Input::Verified { conn, outcome: Ok(claims) } => {
                self.known.insert(*conn, (claims.sub.clone(), operates(claims)));
            }
            Input::Closed { conn } => {
                self.known.remove(conn);
                self.streams.remove(conn);
            }
            Input::Opened { .. }
            | Input::Request { .. }
            | Input::Body { .. }
            | Input::BadHead { .. }
            | Input::Message { .. }
            | Input::Verified { .. }
            | Input::Flushed { .. }
            | Input::Appended { .. }
            | Input::AppendFailed { .. }
            | Input::Loaded { .. }
            | Input::Timer
            | Input::Called { .. }
            | Input::Memory { .. }
            | Input::BackedUp { .. }
            | Input::Drain => {}
        }
    }

    /// Something leaves the core.
    pub fn hear(&mut self, effect: &Effect) {
        match effect {
            Effect::Stream { conn } => drop(self.streams.insert(*conn)),
            Effect::Send { conn, text } if self.streams.contains(conn) => {
                self.told(*conn, &String::from_utf8_lossy(text));
            }
            Effect::Respond { conn, response } => match &response.content {
                Content::Text(text) | Content::Json(text) | Content::Problem(text) => self.told(*conn, text),
                // Pages are the same for all; what is counted is looked at with all else that is (`counted`).
                Content::Nothing | Content::Page(_) | Content::Metrics => {}
            },
            Effect::Close { conn, reason, .. } => self.told(*conn, reason),
            // All that a line of the log, or of the trail, can be made of.
            Effect::Note(note) => self.written(format!("{note:?}")),
            Effect::Audit(audit) => self.written(format!("{audit:?}")),
            Effect::Webhook { body, .. } => self.written(body.clone()),
            Effect::Send { .. }
            | Effect::Upgrade { .. }
            | Effect::Allow { .. }
            | Effect::Share { .. }
            | Effect::Body { .. }
            | Effect::Ping { .. }
            | Effect::Read { .. }
            | Effect::Verify { .. }
            | Effect::Append { .. }
            | Effect::Load { .. }
            | Effect::Backup { .. }
            | Effect::Exit => {}
        }
    }

    /// Somebody is told this.
    fn told(&mut self, conn: ConnId, text: &str) {
        if text.contains(SECRET) {
            let (to, operates) = self.known.get(&conn).cloned().unzip();
            let operates = operates.unwrap_or(false);
            self.overheard.push(Overheard { to, operates, text: text.to_owned() });
        }
    }

    /// This is written where nobody's secret may be.
    fn written(&mut self, text: String) {
        if text.contains(SECRET) {
            self.overheard.push(Overheard { to: None, operates: false, text });
        }
    }

    /// What has a secret in it: for whoever knows the users' numbers.
    pub fn take(&mut self) -> Vec<Overheard> {
        std::mem::take(&mut self.overheard)
    }
}

/// Judges all that is counted, and with it all that `/metrics` can say.
///
/// # Errors
/// Whose secret is in it.
pub fn counted(core: &runcast_core::Core) -> Result<(), String> {
    let view = core.inspect();
    let text = format!("{:?} {:?}", view.counts(), view.gauges());
    secrets(&text).next().map_or(Ok(()), |of| Err(format!("a secret of user {of} is counted: {text}")))
}

/// Whether a token is an operator's.
pub(super) fn operates(claims: &Claims) -> bool {
    claims.scope.as_deref().unwrap_or_default().split(' ').any(|scope| scope == "operate")
}

#[cfg(test)]
mod tests {
    use super::super::truth::secret;
    use super::*;
    use runcast_core::effect::{Audit, Response};
    use runcast_core::note::Note;
    use runcast_core::wire::error::{CloseCode, Code};

    const CONN: ConnId = ConnId(1);

    /// How many of these are found where `ann`, who is user 3, has called.
    fn judge(scope: &str, effects: &[Effect]) -> usize {
        let mut hearers = Hearers::default();
        let claims = Claims { sub: "ann".into(), scope: Some(scope.into()), ..Claims::default() };
        hearers.look(&Input::Verified { conn: CONN, outcome: Ok(claims) });
        effects.iter().for_each(|effect| hearers.hear(effect));
        let number = |heard: &Overheard| (heard.to.as_deref() == Some("ann")).then_some(3);
        hearers.take().iter().filter(|heard| heard.judge(number(heard)).is_err()).count()
    }

    fn answer(conn: ConnId, of: usize) -> Effect {
        let response = Response::new(200, Content::Json(format!("{{\"x\":\"{}\"}}", secret(of))));
        Effect::Respond { conn, response }
    }

    #[test]
    fn an_answer_a_stream_and_a_close_carry_the_own_secret_alone() {
        assert_eq!(judge("user", &[answer(CONN, 3)]), 0);
        assert_eq!(judge("user", &[answer(CONN, 4)]), 1);
        assert_eq!(judge("user", &[answer(ConnId(2), 3)]), 1, "to a stranger");
        let send = |of| Effect::Send { conn: CONN, text: secret(of).into() };
        assert_eq!(judge("user", &[send(4)]), 0, "what is written to a WebSocket is read there");
        assert_eq!(judge("user", &[Effect::Stream { conn: CONN }, send(3), send(4)]), 1);
        let reason = secret(4);
        assert_eq!(judge("user", &[Effect::Close { conn: CONN, code: CloseCode::Violation, reason }]), 1);
    }

    #[test]
    fn the_operators_secret_is_in_answers_to_operators() {
        assert_eq!(judge("user", &[answer(CONN, OPERATORS)]), 1);
        assert_eq!(judge("operate", &[answer(CONN, OPERATORS)]), 0);
        assert_eq!(judge("operate", &[answer(CONN, 4)]), 1);
    }

    #[test]
    fn what_is_written_down_has_nobodys_secret() {
        let note = Note::Refused { conn: CONN, code: Code::BadMessage, message: secret(3) };
        assert_eq!(judge("user", &[Effect::Note(note)]), 1);
        let (peer, by, about) = ([10, 0, 0, 1].into(), None, Some(secret(3)));
        let audit = Audit { conn: CONN, peer, by, action: "GET".into(), about, refused: None };
        assert_eq!(judge("operate", &[Effect::Audit(audit)]), 1);
        let run = runcast_core::ids::RunId::parse("run_t_00000001").unwrap();
        assert_eq!(judge("user", &[Effect::Webhook { run, body: secret(3) }]), 1);
    }

    #[test]
    fn a_worker_is_sent_secrets_of_its_runs_user_alone() {
        assert!(judge_worker(Some(3), &secret(3)).is_ok());
        assert!(judge_worker(Some(3), &secret(4)).is_err());
        assert!(judge_worker(None, &secret(3)).is_err());
        assert!(judge_worker(None, "{}").is_ok());
    }
}
