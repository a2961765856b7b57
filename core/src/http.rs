//! What the port answers to HTTP requests that are no upgrade, and the refusal of those that should be one.

use crate::Core;
use crate::conn::{Role, clear_timers};
use crate::effect::{Content, Effect, Effects, Page, Response};
use crate::ids::ConnId;
use crate::input::{Head, HeadProblem};
use crate::wire::error::{Code, Refusal};
use crate::wire::json::Object;
use crate::wire::user::with_also;
use alloc::format;
use alloc::string::String;

/// The paths there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// A user's WebSocket.
    User,
    /// A worker's WebSocket.
    Worker,
    /// Whether the process lives.
    Live,
    /// Whether it can serve.
    Ready,
    /// The demo chat.
    Chat,
    /// The operators' page.
    Console,
}

impl Path {
    pub(crate) fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/ws" => Self::User,
            "/worker" => Self::Worker,
            "/livez" => Self::Live,
            "/readyz" => Self::Ready,
            "/" => Self::Chat,
            "/console" => Self::Console,
            _ => return None,
        })
    }
}

impl Core {
    pub(crate) fn on_request(&mut self, id: ConnId, head: Head<'_>, out: &mut Effects) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.is_closing {
            return;
        }
        conn.last_in = self.now.mono;
        clear_timers(id, &mut self.deadlines);
        let fine = self.recognise(id, &head).and_then(|()| self.check_attempts(id, &head));
        if let Err(refusal) = fine {
            return self.respond_refusal(id, &refusal, out);
        }
        if head.path.starts_with("/v1/") {
            return self.on_api_request(id, head, out);
        }
        if head.path == "/metrics" {
            return self.on_metrics_request(id, head, out);
        }
        let Some(path) = Path::of(head.path) else {
            let found = shorten(head.path);
            let paths = "/ws, /worker, /livez, /readyz, /metrics, /, /console, /v1/…";
            let message = format!("expected one of {paths}; found {found}");
            let refusal = Refusal::new(Code::NotFound, message, "check the path");
            return self.respond_refusal(id, &refusal, out);
        };
        if !matches!(head.method, "GET" | "HEAD") {
            let message = format!("expected GET, found {}", shorten(head.method));
            let refusal = Refusal::new(Code::MethodNotAllowed, message, "use GET");
            return self.respond_problem(id, refusal.code.status(), Some("GET, HEAD"), &refusal, out);
        }
        match path {
            Path::User | Path::Worker => self.on_upgrade_request(id, path, head, out),
            Path::Live => self.respond(id, 200, Content::Text("alive\n".into()), out),
            Path::Ready => self.respond_ready(id, out),
            Path::Chat => self.respond(id, 200, Content::Page(Page::Chat), out),
            Path::Console => self.respond(id, 200, Content::Page(Page::Console), out),
        }
    }

    /// Anybody may read the metrics, or operators alone.
    fn on_metrics_request(&mut self, id: ConnId, head: Head<'_>, out: &mut Effects) {
        if self.config.metrics.public && matches!(head.method, "GET" | "HEAD") {
            return self.respond(id, 200, Content::Metrics, out);
        }
        self.on_api_request(id, head, out);
    }

    pub(crate) fn on_bad_head(&mut self, id: ConnId, problem: HeadProblem, out: &mut Effects) {
        let refusal = match problem {
            HeadProblem::Malformed(expected) => {
                let message = format!("expected an HTTP/1.1 request head: {expected}");
                Refusal::new(Code::BadMessage, message, "speak HTTP/1.1 to this port")
            }
            HeadProblem::TooLarge => Refusal::new(
                Code::TooLarge,
                "expected a request head of at most 16 KiB and 64 headers, found a larger one",
                "send fewer or shorter headers",
            ),
        };
        self.count_attempt(id);
        self.respond_refusal(id, &refusal, out);
    }

    /// The head, or the body after it, did not come in time.
    pub(crate) fn on_head_timeout(&mut self, id: ConnId, out: &mut Effects) {
        let message = "expected the whole request within the time allowed for it";
        let refusal = Refusal::new(Code::BadMessage, message, "send the head, and then the body, at once");
        self.count_attempt(id);
        self.respond_problem(id, 408, None, &refusal, out);
    }

    pub(crate) fn respond_refusal(&mut self, id: ConnId, refusal: &Refusal, out: &mut Effects) {
        self.respond_problem(id, refusal.code.status(), None, refusal, out);
    }

    /// Refuses with a status of its own, or tells the methods that there are.
    pub(crate) fn respond_problem(
        &mut self,
        id: ConnId,
        status: u16,
        allow: Option<&'static str>,
        refusal: &Refusal,
        out: &mut Effects,
    ) {
        self.note_refusal(id, refusal);
        self.audit_refusal(id, None, None, refusal);
        if refusal.code.is_of_token() {
            self.count_attempt(id);
        }
        let retry_after_secs = refusal.retry_ms.map(|ms| ms.div_ceil(1000));
        let content = Content::Problem(problem(status, refusal).finish());
        self.answer(id, Response { status, content, retry_after_secs, allow }, out);
    }

    pub(crate) fn respond(&mut self, id: ConnId, status: u16, content: Content, out: &mut Effects) {
        self.answer(id, Response::new(status, content), out);
    }

    /// Answers a request, once: what would be said after it is not.
    pub(crate) fn answer(&mut self, id: ConnId, response: Response, out: &mut Effects) {
        if self.conns.get(&id).is_none_or(|conn| conn.is_closing) {
            return;
        }
        clear_timers(id, &mut self.deadlines);
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.role = Role::Http;
        conn.is_closing = true;
        // Whoever does not take the answer is given up like any other who takes nothing.
        self.deadlines.set(crate::Timer::Stuck(id), self.now.mono + self.config.server.stuck_after);
        out.push(Effect::Respond { conn: id, response });
    }
}

/// A refusal as `application/problem+json`.
pub(crate) fn problem(status: u16, refusal: &Refusal) -> Object {
    let problem = Object::new()
        .str("type", "about:blank")
        .str("title", refusal.code.as_str())
        .raw("status", status)
        .str("code", refusal.code.as_str())
        .str("message", &refusal.message)
        .str("detail", &refusal.message)
        .str("hint", refusal.hint)
        .maybe_raw("retry_ms", refusal.retry_ms);
    with_also(problem, refusal)
}

/// The beginning of what was found, for an error.
pub(crate) fn shorten(found: &str) -> String {
    found.chars().take(60).collect()
}
