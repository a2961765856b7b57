//! Ids of older systems, which name a thread by their pattern (REQUIREMENTS C3), for publishers that know no
//! others.
//!
//! A pattern says which thread is meant, never whose it is: that, and whether somebody may see it, is told by
//! the table of runs alone (C4).

use crate::Core;
use crate::caller::{Caller, Form};
use crate::ids::{RunId, Thread};
use crate::scope::Scope;

/// The thread that an id names: one of our own exactly, whatever its thread is called; of others the part
/// after their first `thread`.
pub(crate) fn thread(id: &str) -> Option<Thread> {
    own_thread(id).or_else(|| {
        let mut parts = id.split('_').skip_while(|part| *part != "thread").skip(1);
        let name = parts.next().filter(|name| !name.is_empty())?;
        Thread::parse(&alloc::format!("thread_{name}"))
    })
}

/// The thread of an id that is made like ours: `run_{thread}_{8 hex}`.
fn own_thread(id: &str) -> Option<Thread> {
    let (thread, number) = id.strip_prefix("run_")?.rsplit_once('_')?;
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let is_own = number.len() == 8 && number.bytes().all(is_hex);
    Thread::parse(thread).filter(|_| is_own)
}

impl Core {
    /// The run that a caller means: the one of this id; or, for a publisher that knows a legacy id, the only
    /// run of that thread which it may see and which has not ended. An id that is made like ours means no
    /// other run, even when its own is over.
    pub(crate) fn meant(&self, caller: &Caller, id: RunId) -> RunId {
        let is_publisher = matches!(caller.form, Form::Request) && caller.identity.scopes.has(Scope::Publish);
        if !is_publisher || self.routes.contains_key(&id) || own_thread(id.as_str()).is_some() {
            return id;
        }
        let Some(thread) = thread(id.as_str()) else { return id };
        let mut found = self.routes.iter().filter(|(run, user)| {
            let run = self.users.get(*user).and_then(|context| context.runs.get(*run));
            run.is_some_and(|run| {
                run.spec.thread == thread && !run.is_ended() && caller.may(user, &run.spec.agent)
            })
        });
        match (found.next(), found.next()) {
            (Some((run, _)), None) => run.clone(),
            (None, _) | (_, Some(_)) => id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use proptest::prelude::*;

    #[test]
    fn ids_resolve_by_their_pattern() {
        for (id, expected) in [
            ("thread_12345", Some("thread_12345")),
            ("run_thread_456", Some("thread_456")),
            ("thread_789_run", Some("thread_789")),
            ("user_123_thread_789_session", Some("thread_789")),
            ("run_thread_abc123_xyz789", Some("thread_abc123")),
            ("simple_run_id", None),
            ("run_thread_user_42_ab12cd34", Some("thread_user_42")),
            ("run_thread_1_AB12CD34", Some("thread_1")),
            ("run_chat_ab12cd34", Some("chat")),
            ("thread_", None),
            ("thread__1", None),
            ("threads_1", None),
            ("", None),
        ] {
            assert_eq!(thread(id).as_ref().map(Thread::as_str), expected, "{id}");
        }
    }

    fn ids() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<String>(),
            "[a-z0-9_]{0,40}",
            "((run|user|thread|[a-f0-9]{8}|x)_){0,6}[a-z0-9]{0,9}"
        ]
    }

    proptest! {
        #[test]
        fn our_own_ids_resolve_exactly(name in "[A-Za-z0-9][A-Za-z0-9_.:@-]{0,60}", random in any::<u32>()) {
            let of = Thread::parse(&name).expect("a name");
            prop_assert_eq!(thread(RunId::new(&of, random).as_str()), Some(of));
        }

        #[test]
        fn what_any_text_resolves_to_stands_in_it(id in ids()) {
            if let Some(thread) = thread(&id) {
                prop_assert!(id.contains(thread.as_str()), "{} in {}", thread, id);
            }
        }
    }
}
