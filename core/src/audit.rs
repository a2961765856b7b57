//! Who was refused for want of a right, and what operators did: one [`Effect::Audit`] each, without anything
//! of a token.

use crate::Core;
use crate::conn::Role;
use crate::effect::{Audit, Effect, Effects};
use crate::ids::{ConnId, User};
use crate::wire::error::{Code, Refusal};
use alloc::string::String;

impl Core {
    /// An operator's request is about to be carried out.
    pub(crate) fn audit_operator(&self, id: ConnId, out: &mut Effects) {
        let Some(conn) = self.conns.get(&id) else { return };
        let Role::Request(request) = &conn.role else { return };
        if !request.is_audited() {
            return;
        }
        let by = request.identity.as_ref().map(|identity| identity.user.clone());
        let (action, about) = (request.action(), request.about());
        out.push(Effect::Audit(Audit { conn: id, peer: conn.peer, by, action, about, refused: None }));
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
