//! Which requests there are under `/v1/`, and who may make them (PROTOCOL §7).

use crate::http::shorten;
use crate::input::BodyLength;
use crate::scope::Scope;
use crate::wire::error::{Code, Refusal};
use crate::wire::json::wrong;
use crate::wire::query::decode;
use alloc::format;
use alloc::string::String;

/// A kind of request.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) method: &'static str,
    /// A part in braces stands for a name.
    pub(super) path: &'static str,
    /// One of these is needed.
    pub(super) scopes: &'static [Scope],
    pub(super) what: What,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    NewRun,
    Run,
    Cancel,
    Input,
    Runs,
    Threads,
    Events,
    Stream,
    Ack,
    Publish,
    Workers,
    Status,
    Drain,
    Undelivered,
    Erase,
    User,
    Metrics,
    Disconnect,
    Revoke,
    Backup,
}

/// Whoever asks about runs.
const ANYONE: &[Scope] = &[Scope::User, Scope::Publish];
/// Whoever may see a run and end it.
const OVERSEERS: &[Scope] = &[Scope::User, Scope::Publish, Scope::Operate];
const OWNER: &[Scope] = &[Scope::User];
const OPERATOR: &[Scope] = &[Scope::Operate];
const PUBLISHER: &[Scope] = &[Scope::Publish];

/// The methods of all of them.
pub(super) const METHODS: &str = "GET, POST, DELETE";

const ROUTES: &[Route] = &[
    Route { method: "POST", path: "/v1/runs", scopes: ANYONE, what: What::NewRun },
    Route { method: "POST", path: "/v1/threads/{thread}/runs", scopes: ANYONE, what: What::NewRun },
    Route { method: "GET", path: "/v1/runs/{run}", scopes: OVERSEERS, what: What::Run },
    Route { method: "POST", path: "/v1/runs/{run}/cancel", scopes: OVERSEERS, what: What::Cancel },
    Route { method: "POST", path: "/v1/runs/{run}/input", scopes: ANYONE, what: What::Input },
    Route { method: "GET", path: "/v1/runs", scopes: OWNER, what: What::Runs },
    Route { method: "GET", path: "/v1/threads", scopes: OWNER, what: What::Threads },
    Route { method: "GET", path: "/v1/events", scopes: OWNER, what: What::Events },
    Route { method: "GET", path: "/v1/stream", scopes: OWNER, what: What::Stream },
    Route { method: "POST", path: "/v1/ack", scopes: OWNER, what: What::Ack },
    Route { method: "POST", path: "/v1/topics/{topic}/events", scopes: PUBLISHER, what: What::Publish },
    Route { method: "GET", path: "/v1/workers", scopes: OPERATOR, what: What::Workers },
    Route { method: "GET", path: "/v1/status", scopes: OPERATOR, what: What::Status },
    Route { method: "POST", path: "/v1/drain", scopes: OPERATOR, what: What::Drain },
    Route { method: "GET", path: "/v1/undelivered", scopes: OPERATOR, what: What::Undelivered },
    Route { method: "GET", path: "/metrics", scopes: OPERATOR, what: What::Metrics },
    Route { method: "GET", path: "/v1/users/{user}", scopes: OPERATOR, what: What::User },
    Route { method: "DELETE", path: "/v1/users/{user}", scopes: OPERATOR, what: What::Erase },
    Route { method: "POST", path: "/v1/users/{user}/disconnect", scopes: OPERATOR, what: What::Disconnect },
    Route { method: "POST", path: "/v1/users/{user}/revoke", scopes: OPERATOR, what: What::Revoke },
    Route { method: "POST", path: "/v1/backups/{name}", scopes: OPERATOR, what: What::Backup },
];

/// Why a head is refused: by a status that its code does not have, or with the methods that there are.
pub(super) struct Refused {
    pub(super) refusal: Refusal,
    pub(super) status: u16,
    pub(super) allow: Option<&'static str>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { status: refusal.code.status(), refusal, allow: None }
    }
}

impl Route {
    /// What a path has in the place of the braces, if it is of this kind.
    fn matches<'p>(&self, path: &'p str) -> Option<Option<&'p str>> {
        let (mut own, mut others, mut name) = (self.path.split('/'), path.split('/'), None);
        loop {
            match (own.next(), others.next()) {
                (None, None) => return Some(name),
                (Some(own), Some(other)) if own.starts_with('{') && !other.is_empty() => name = Some(other),
                (Some(own), Some(other)) if own == other => {}
                (Some(_), Some(_)) | (Some(_), None) | (None, Some(_)) => return None,
            }
        }
    }

    /// Whether it has a body that is to be read: `found` says whether there is one.
    pub(super) const fn has_body(&self, found: BodyLength) -> bool {
        match self.what {
            What::NewRun | What::Input | What::Ack | What::Publish => true,
            What::Disconnect => !matches!(found, BodyLength::None),
            What::Run
            | What::Cancel
            | What::Runs
            | What::Threads
            | What::Events
            | What::Stream
            | What::Workers
            | What::Status
            | What::Drain
            | What::Undelivered
            | What::Erase
            | What::User
            | What::Metrics
            | What::Backup
            | What::Revoke => false,
        }
    }
}

/// The kind of a request, and the name in its path.
pub(super) fn route(method: &str, path: &str) -> Result<(&'static Route, Option<String>), Refused> {
    let of_path = || ROUTES.iter().filter(|route| route.matches(path).is_some());
    let Some(route) = of_path().find(|route| route.method == method) else {
        let has = |method| of_path().any(|route| route.method == method);
        let allow = match (has("GET"), has("POST"), has("DELETE")) {
            (true, true, _) => "GET, POST",
            (true, false, true) => "GET, DELETE",
            (true, false, false) => "GET",
            (false, true, _) => "POST",
            (false, false, true) => "DELETE",
            (false, false, false) => {
                let message = format!("expected a path of the protocol, found {}", shorten(path));
                return Err(Refusal::new(Code::NotFound, message, "see PROTOCOL.md, section 7").into());
            }
        };
        let message = format!("expected {allow}, found {}", shorten(method));
        let refusal = Refusal::new(Code::MethodNotAllowed, message, "use a method that there is");
        return Err(Refused { allow: Some(allow), ..refusal.into() });
    };
    let name = match route.matches(path).flatten() {
        Some(name) => Some(decode(name).ok_or_else(|| wrong("path", "percent-encoded UTF-8", name))?),
        None => None,
    };
    Ok((route, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn a_page_from_elsewhere_is_told_the_methods_of_all_routes_and_no_others() {
        let told: Vec<&str> = METHODS.split(", ").collect();
        assert!(ROUTES.iter().all(|route| told.contains(&route.method)));
        assert!(told.iter().all(|method| ROUTES.iter().any(|route| route.method == *method)));
    }
}
