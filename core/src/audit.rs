//! Who was refused for want of a right, and what operators did, and publishers for others: one
//! [`Effect::Audit`](crate::effect::Effect::Audit) each, without anything of a token.

use crate::Core;
use crate::caller::Caller;
use crate::conn::Role;
use crate::effect::Audit;
use crate::ending::About;
use crate::ids::{ConnId, RunId, Topic, User};
use crate::wire::error::{Code, Refusal};
use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;

/// Operators whose searches are remembered; of more, some are told again.
const SEARCHERS: usize = 64;
/// A token's shortest signature, and its shortest payload, in characters of base64url.
const SIGNATURE: usize = 43;
const PAYLOAD: usize = 16;

/// Whether a request stands in the audit trail.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Trail {
    /// It does, and is about this.
    Written(Option<String>),
    /// It is a search for this text, which does when it is another than the operator's last.
    Searched(String),
    /// It does not: it is of a user's own, or looks at the daemon as a whole; or what it is about has yet to
    /// be found.
    Untold,
}

/// What operators have last searched for.
#[derive(Debug, Default)]
pub(crate) struct Searches(BTreeMap<User, String>);

impl Searches {
    /// How many are remembered.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    fn is_new(&mut self, by: &User, text: &str) -> bool {
        if self.0.len() >= SEARCHERS && !self.0.contains_key(by) {
            self.0.clear();
        }
        self.0.insert(by.clone(), text.into()).as_deref() != Some(text)
    }
}

/// A name from outside, for the trail. One that has a token in it is left out: somebody has put it in the
/// wrong place, and whoever reads the trail could use it.
pub(crate) fn told(name: &str) -> Option<String> {
    let length =
        |part: &str| part.chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).count();
    let mut parts = name.split('.').skip(1).map(|part| (length(part), part.len())).peekable();
    while let Some((payload, whole)) = parts.next() {
        let signature = parts.peek().map_or(0, |(length, _)| *length);
        if payload == whole && payload >= PAYLOAD && signature >= SIGNATURE {
            return None;
        }
    }
    Some(name.into())
}

impl Core {
    /// A request was read, and is about to be carried out.
    pub(crate) fn audit_request(&mut self, caller: &Caller, trail: Trail) {
        let about = match trail {
            Trail::Written(about) => about,
            // A console asks for the same every second.
            Trail::Searched(text) if !self.searches.is_new(&caller.identity.user, &text) => return,
            Trail::Searched(text) => told(&text),
            Trail::Untold => return,
        };
        self.audit(caller, about);
    }

    /// A publisher's request has found the run that it is about: one of another user's stands in the trail.
    /// An operator's does already.
    pub(crate) fn audit_publisher(&mut self, caller: &Caller, user: &User, run: &RunId, about: About) {
        if *user != caller.identity.user && !caller.operates(about) {
            self.audit(caller, told(run.as_str()));
        }
    }

    /// Somebody does what may be done.
    fn audit(&mut self, caller: &Caller, about: Option<String>) {
        let Some(conn) = self.conns.get(&caller.conn) else { return };
        let Role::Request(request) = &conn.role else { return };
        let (by, action) = (Some(caller.identity.user.clone()), request.action());
        self.trail.push(Audit { conn: conn.id, peer: conn.peer, by, action, about, refused: None });
    }

    /// Somebody is refused: is it for want of a right? `of` is the kind of the message, `topic` the one that
    /// it is about, if it is.
    pub(crate) fn audit_refusal(
        &mut self,
        id: ConnId,
        of: Option<&str>,
        topic: Option<&Topic>,
        why: &Refusal,
    ) {
        let Some(conn) = self.conns.get(&id) else { return };
        // Whose page it is says nothing about whose right it is.
        if !matches!(why.code.status(), 401 | 403) || why.code == Code::OriginForbidden {
            return;
        }
        let message = || of.unwrap_or("message").to_owned();
        let about = topic.and_then(|topic| told(topic.as_str()));
        let (by, action, about) = match &conn.role {
            Role::Http => (None, String::new(), None),
            Role::Request(request) => (request.by(), request.action(), request.about()),
            Role::Greeting(greeting) => (greeting.refused(), greeting.action().to_owned(), None),
            Role::User(me) => (Some(&me.identity.user), message(), about),
            Role::Worker(me) => (Some(&me.key.sub), message(), about),
        };
        let (peer, by, refused) = (conn.peer, by.cloned(), Some(why.code));
        self.trail.push(Audit { conn: id, peer, by, action, about, refused });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_told_and_a_token_in_its_place_is_not() {
        let (header, payload) = ("eyJhbGciOiJIUzI1NiJ9", "eyJleHAiOjEsInN1YiI6ImEifQ");
        let signature = "B-_4567890123456789012345678901234567890123";
        for token in
            ["{h}.{p}.{s}", "Bearer {h}.{p}.{s}", "jwt.{h}.{p}.{s}", "a.{h}.{p}.{s}.b", "{h}.{p}.{s}'"]
        {
            let token = token.replace("{h}", header).replace("{p}", payload).replace("{s}", signature);
            assert_eq!(told(&token), None, "{token}");
        }
        for name in
            ["alice", "", "...", "a.b.c", "run_thread_1.2_0123abcd", "anna@mail.example.org", signature]
        {
            assert_eq!(told(name).as_deref(), Some(name));
        }
    }
}
