//! Who was refused for want of a right, and what operators did: one [`Effect::Audit`] each, without anything
//! of a token.

use crate::Core;
use crate::conn::Role;
use crate::effect::{Audit, Effect, Effects};
use crate::ids::{ConnId, User};
use crate::wire::error::{Code, Refusal};
use alloc::collections::BTreeMap;
use alloc::string::String;

/// Operators whose searches are remembered; of more, some are told again.
const SEARCHERS: usize = 64;

/// Whether a request stands in the audit trail.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Trail<'r> {
    /// It does.
    Written,
    /// It is a search for this text, which does when it is another than the operator's last.
    Searched(&'r str),
    /// It does not: it is no operator's, or looks at the daemon as a whole.
    Untold,
}

/// What operators have last searched for.
#[derive(Debug, Default)]
pub(crate) struct Searches(BTreeMap<User, String>);

impl Searches {
    fn is_new(&mut self, by: User, text: &str) -> bool {
        if self.0.len() >= SEARCHERS && !self.0.contains_key(&by) {
            self.0.clear();
        }
        self.0.insert(by, text.into()).as_deref() != Some(text)
    }
}

impl Core {
    /// An operator's request is about to be carried out.
    pub(crate) fn audit_operator(&mut self, id: ConnId, out: &mut Effects) {
        let Some(conn) = self.conns.get(&id) else { return };
        let Role::Request(request) = &conn.role else { return };
        let by = request.identity.as_ref().map(|identity| identity.user.clone());
        let about = match request.trail() {
            Trail::Written => request.about(),
            Trail::Searched(text) => {
                let Some(by) = by.clone() else { return };
                // A console asks for the same every second.
                if !self.searches.is_new(by, text) {
                    return;
                }
                Some(text.into())
            }
            Trail::Untold => return,
        };
        let (peer, action) = (conn.peer, request.action());
        out.push(Effect::Audit(Audit { conn: id, peer, by, action, about, refused: None }));
    }

    /// Somebody is refused: is it for want of a right?
    pub(crate) fn audit_refusal(&self, id: ConnId, refusal: &Refusal, out: &mut Effects) {
        let Some(conn) = self.conns.get(&id) else { return };
        if !matches!(refusal.code.status(), 401 | 403) || refusal.code == Code::OriginForbidden {
            return;
        }
        let (by, action, about): (Option<User>, _, _) = match &conn.role {
            Role::Http => (None, String::new(), None),
            Role::Request(request) => {
                let by = request.identity.as_ref().map(|identity| identity.user.clone());
                (by, request.action(), request.about())
            }
            Role::Greeting(greeting) => (greeting.user().cloned(), "hello".into(), None),
            Role::User(me) => (Some(me.identity.user.clone()), "message".into(), None),
            Role::Worker(me) => (Some(me.key.sub.clone()), "message".into(), None),
        };
        let refused = Some(refusal.code);
        out.push(Effect::Audit(Audit { conn: id, peer: conn.peer, by, action, about, refused }));
    }
}
