//! Clients that mean no good: no token, garbage, other people's runs, forged positions, frames that must not
//! be.
//!
//! Each call plays one trick, and checks the typed answer where PROTOCOL names one. That nobody else notices
//! is what all other oracles see to.

use super::{Ctx, backoff, is_of_before};
use crate::dice::Dice;
use crate::link::{Incoming, Link, Upgrade, frame};
use crate::oracles::Who;
use crate::plan::Network;
use crate::said::Said;
use crate::schedule::{MS, Micros, SECOND};
use crate::trace::Of;

/// A trick is given up after this.
const PATIENCE: Micros = 20 * SECOND;

/// What it does on one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trick {
    Garbage,
    SlowHead,
    NoToken,
    Mute,
    BeforeHello,
    BadToken,
    TwiceHello,
    Binary,
    BadJson,
    Oversize,
    OthersRun,
    AckAhead,
    ForgedPosition,
    Unmasked,
    ManyEarly,
    OperatorsTopic,
    TopicAhead,
}

const TRICKS: [Trick; 17] = [
    Trick::Garbage,
    Trick::SlowHead,
    Trick::NoToken,
    Trick::Mute,
    Trick::BeforeHello,
    Trick::BadToken,
    Trick::TwiceHello,
    Trick::Binary,
    Trick::BadJson,
    Trick::Oversize,
    Trick::OthersRun,
    Trick::AckAhead,
    Trick::ForgedPosition,
    Trick::Unmasked,
    Trick::ManyEarly,
    Trick::OperatorsTopic,
    Trick::TopicAhead,
];

/// One hostile client, with a user of its own.
#[derive(Debug)]
pub struct Hostile {
    user: usize,
    name: String,
    network: Network,
    dice: Dice,
    link: Option<Link>,
    trick: Trick,
    /// The key that its token is signed with.
    key: u64,
    /// It was told what PROTOCOL says that it must be told.
    is_told: bool,
    /// The incarnation of its stream that it was told last, and its head.
    known: Option<(String, u64)>,
    /// The position that it says it has, in a call that does.
    forged: Option<(String, u64)>,
    at: Micros,
}

impl Hostile {
    /// A client that will call soon.
    pub fn new(user: usize, network: Network, mut dice: Dice) -> Self {
        let at = dice.below(5 * SECOND);
        let name = format!("mallory-{user}");
        let (trick, known, forged) = (Trick::Garbage, None, None);
        Self { user, name, network, link: None, trick, key: 0, is_told: false, known, forged, at, dice }
    }

    /// When it wants to be stepped again.
    pub fn deadline(&self) -> Micros {
        self.at
    }

    /// Plays on.
    pub fn step(&mut self, ctx: &mut Ctx<'_>) {
        self.read(ctx);
        if ctx.now < self.at {
            return;
        }
        if self.link.take().is_some() || ctx.healed {
            let pause = if ctx.healed { 3600 * SECOND } else { self.dice.log_uniform(10 * MS, 5 * SECOND) };
            self.at = ctx.now + pause;
            return;
        }
        self.call(ctx);
    }

    fn call(&mut self, ctx: &mut Ctx<'_>) {
        self.trick = self.dice.pick(&TRICKS);
        (self.is_told, self.forged, self.key) = (false, None, ctx.keys.newest());
        ctx.trace.note(Of::Other, format_args!("{:<12} tries {:?}", self.name, self.trick));
        let upgrade = self.upgrade(ctx);
        let route = ctx.route(&self.network);
        let (link, who) = match self.trick {
            Trick::Garbage => (
                Link::raw(ctx.net, route, b"\x16\x03\x01\x02\x00\r\n\r\n no http at all".to_vec()),
                Who::Stranger,
            ),
            Trick::SlowHead => {
                (Link::raw(ctx.net, route, b"GET /ws HTTP/1.1\r\nHost: ".to_vec()), Who::Stranger)
            }
            Trick::NoToken | Trick::BadToken => (Link::call(ctx.net, route, &upgrade), Who::Stranger),
            Trick::Mute
            | Trick::BeforeHello
            | Trick::TwiceHello
            | Trick::Binary
            | Trick::BadJson
            | Trick::Oversize
            | Trick::OthersRun
            | Trick::AckAhead
            | Trick::ForgedPosition
            | Trick::Unmasked
            | Trick::ManyEarly
            | Trick::OperatorsTopic
            | Trick::TopicAhead => (Link::call(ctx.net, route, &upgrade), Who::User(self.user)),
        };
        if let Some(pipe) = link.pipe() {
            ctx.oracles.calls(pipe, who, Some(256), false);
        }
        self.link = Some(link);
        self.at = ctx.now + PATIENCE;
    }

    fn upgrade(&mut self, ctx: &Ctx<'_>) -> Upgrade {
        let token = ctx.keys.token(&self.name, "user", ctx.expiry(3600 * SECOND));
        let hello = |more: &str| format!("{{\"type\":\"hello\",\"device\":\"evil\"{more}}}");
        let bad_token = token.replace('.', ".A");
        let (token, early) = match self.trick {
            Trick::Garbage | Trick::SlowHead => (None, vec![]),
            Trick::NoToken => (None, vec![hello("")]),
            Trick::Mute => (Some(token), vec![]),
            Trick::BadToken => (Some(bad_token), vec![hello("")]),
            Trick::ForgedPosition => (Some(token), vec![hello(&self.forge())]),
            Trick::BeforeHello => (Some(token), vec!["{\"type\":\"run\",\"agent\":\"write\"}".to_owned()]),
            Trick::ManyEarly => {
                let pings = std::iter::repeat_n("{\"type\":\"ping\"}".to_owned(), 80);
                (Some(token), std::iter::once(hello("")).chain(pings).collect())
            }
            Trick::TwiceHello
            | Trick::Binary
            | Trick::BadJson
            | Trick::Oversize
            | Trick::OthersRun
            | Trick::AckAhead
            | Trick::OperatorsTopic
            | Trick::Unmasked => (Some(token), vec![hello("")]),
            Trick::TopicAhead => (Some(token), vec![hello(",\"topics\":[\"news\",\"agents\"]")]),
        };
        Upgrade { path: "/ws", protocol_token: token, header_token: None, early }
    }

    /// Where it says that it was: nowhere, in another incarnation, or (as good as each second time) past the
    /// head of its own. One draw, as ever: worlds that are kept stay what they were.
    fn forge(&mut self) -> String {
        let choice = self.dice.below(3);
        self.forged = match (choice, self.known.clone()) {
            (0, Some((epoch, head))) if self.at.is_multiple_of(2) => {
                Some((epoch, head + 1 + self.at % 1_000))
            }
            (0, _) => Some(("e-1".to_owned(), (1 << 53) - 1)),
            (1, _) => return ",\"from\":{\"epoch\":\"e-1\",\"seq\":-1}".to_owned(),
            (_, _) => return ",\"from\":\"yesterday\"".to_owned(),
        };
        let forged = self.forged.iter();
        forged.map(|(epoch, seq)| format!(",\"from\":{{\"epoch\":\"{epoch}\",\"seq\":{seq}}}")).collect()
    }

    /// It is welcome: where it begins is judged, if it has lied about where it was.
    fn judge_welcome(&mut self, ctx: &mut Ctx<'_>, said: &Said<'_>) {
        let told = said.epoch.as_deref().zip(said.head);
        self.known = told.map(|(epoch, head)| (epoch.to_owned(), head));
        if self.trick == Trick::ForgedPosition {
            let forged = self.forged.as_ref().map(|(epoch, _)| epoch.as_str());
            let judgement = is_told(forged, said).map_err(|what| format!("{} {what}", self.name));
            ctx.oracles.judge("B3", Some(self.user), judgement);
        }
    }

    fn read(&mut self, ctx: &mut Ctx<'_>) {
        while let Some(incoming) = self.link.as_mut().and_then(Link::poll) {
            match incoming {
                Incoming::Opened | Incoming::Alive => {}
                Incoming::Text(text) => self.hear(ctx, &text),
                Incoming::Refused(_) | Incoming::Closed(_) => {
                    ctx.trace.note(Of::Other, format_args!("{:<12} ← {incoming:?}", self.name));
                    self.judge_end(ctx, &incoming);
                    self.link = None;
                    self.at = ctx.now + backoff(&mut self.dice, 5);
                }
            }
        }
    }

    /// Whether the connection ended as PROTOCOL says; that it broke is no answer.
    fn judge_end(&self, ctx: &mut Ctx<'_>, end: &Incoming) {
        let expected: &[u16] = match self.trick {
            Trick::Garbage => &[400],
            Trick::SlowHead => &[408],
            Trick::NoToken | Trick::BadToken => &[4501],
            Trick::Mute => &[4503],
            Trick::BeforeHello => &[4503, 4504],
            Trick::TwiceHello | Trick::Binary => &[4504],
            Trick::Oversize => &[4505],
            Trick::ManyEarly => &[4502],
            Trick::Unmasked => &[1002],
            Trick::ForgedPosition
            | Trick::BadJson
            | Trick::OthersRun
            | Trick::AckAhead
            | Trick::OperatorsTopic
            | Trick::TopicAhead => return,
        };
        let (Incoming::Refused(code) | Incoming::Closed(Some(code))) = end else { return };
        let is_old = *code == 4501 && is_of_before(ctx, self.key, None);
        if !expected.contains(code) && !is_common(*code) && !is_old {
            let what =
                format!("{} plays {:?}, is answered {code} and not {expected:?}", self.name, self.trick);
            ctx.oracles.judge("B3", Some(self.user), Err(what));
        }
    }

    fn hear(&mut self, ctx: &mut Ctx<'_>, text: &str) {
        ctx.trace.message(Of::User(self.user), &self.name, "←", text);
        let Ok(said) = Said::read(text) else { return };
        match (said.kind.as_ref(), self.trick) {
            ("welcome", _) => {
                self.judge_welcome(ctx, &said);
                self.play(ctx);
            }
            ("error", Trick::OthersRun) => self.expect(ctx, &said, "run_not_found"),
            ("error", Trick::OperatorsTopic) => self.expect(ctx, &said, "topic_forbidden"),
            ("error", Trick::AckAhead | Trick::TopicAhead) => self.expect(ctx, &said, "ack_ahead"),
            ("error", Trick::BadJson) => self.expect(ctx, &said, "bad_json"),
            ("ok", Trick::OthersRun) => {
                let what = format!("{} has cancelled a run of another", self.name);
                ctx.oracles.judge("O17", Some(self.user), Err(what));
            }
            _ => {}
        }
    }

    fn expect(&mut self, ctx: &mut Ctx<'_>, said: &Said<'_>, code: &str) {
        self.is_told = true;
        let is_common =
            matches!(said.code.as_deref(), Some("storage_unavailable" | "rate_limited" | "overloaded"));
        let is_common = is_common || is_of_before(ctx, self.key, said.code.as_deref());
        if said.code.as_deref() != Some(code) && !is_common {
            let what = format!("{} plays {:?}, is told {said:?} and not {code}", self.name, self.trick);
            ctx.oracles.judge("B3", Some(self.user), Err(what));
        }
    }

    /// What it does once it is welcome.
    fn play(&mut self, ctx: &mut Ctx<'_>) {
        let Some(link) = &mut self.link else { return };
        match self.trick {
            Trick::TwiceHello => link.send("{\"type\":\"hello\"}"),
            Trick::Binary => link.write_raw(&frame(0x82, b"\0\x01\x02")),
            Trick::BadJson => link.send("{\"type\":\"ping\""),
            Trick::Oversize => link.send(&format!("{{\"type\":\"ping\",\"x\":\"{}\"}}", "y".repeat(70_000))),
            Trick::AckAhead => link.send("{\"type\":\"ack\",\"seq\":4000000000}"),
            Trick::OperatorsTopic => {
                link.send(
                    "{\"type\":\"subscribe\",\"topics\":[\"news\",{\"topic\":\"ops\",\"from\":\"oldest\"}]}",
                );
            }
            Trick::TopicAhead => {
                link.send("{\"type\":\"ack\",\"topic\":\"news\",\"seq\":4000000000}");
            }
            Trick::Unmasked => link.write_raw(&[0x81, 2, b'{', b'}']),
            Trick::OthersRun => {
                let pick = self.dice.below(ctx.book.runs.len() as u64) as usize;
                if let Some((_, run)) = ctx.book.runs.get(pick) {
                    link.send(&format!("{{\"type\":\"cancel\",\"run\":\"{run}\"}}"));
                }
            }
            Trick::Garbage
            | Trick::SlowHead
            | Trick::NoToken
            | Trick::Mute
            | Trick::BeforeHello
            | Trick::BadToken
            | Trick::ForgedPosition
            | Trick::ManyEarly => {}
        }
    }
}

/// Whether a connection may end with this for what happens to everybody.
pub(super) fn is_common(code: u16) -> bool {
    matches!(code, 4400..=4411 | 4503 | 408 | 429 | 503)
}

/// Whoever says that it was past the head of an incarnation is told that it was not, and why, and begins at
/// the floor; whoever names no place at all is not welcome.
fn is_told(forged: Option<&str>, said: &Said<'_>) -> Result<(), String> {
    let reason = forged.map(|epoch| if said.epoch.as_deref() == Some(epoch) { "ahead" } else { "epoch" });
    let resume = said.resume.as_ref();
    let found = resume.map(|resume| (resume.status.as_ref(), resume.reason.as_deref(), resume.from + 1));
    if reason.is_some() && found == said.floor.map(|floor| ("reset", reason, floor)) {
        return Ok(());
    }
    Err(format!("says that it was in {forged:?}, and is told {said:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forged_position_must_be_told_to_be_none() {
        let judge = |forged, resume: &str| {
            let text = format!(
                "{{\"type\":\"welcome\",\"epoch\":\"e-2\",\"floor\":4,\"head\":9,\"resume\":{resume}}}"
            );
            is_told(forged, &Said::read(&text).unwrap()).is_ok()
        };
        let ahead = "{\"status\":\"reset\",\"reason\":\"ahead\",\"from\":3}";
        assert!(judge(Some("e-2"), ahead));
        assert!(!judge(Some("e-1"), ahead), "of another incarnation");
        assert!(judge(Some("e-1"), "{\"status\":\"reset\",\"reason\":\"epoch\",\"from\":3}"));
        assert!(!judge(Some("e-2"), "{\"status\":\"resumed\",\"from\":9}"));
        assert!(
            !judge(Some("e-2"), "{\"status\":\"reset\",\"reason\":\"ahead\",\"from\":9}"),
            "not the floor"
        );
        assert!(!judge(None, ahead), "a position that is none is no position");
    }
}
