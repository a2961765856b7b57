//! What an operator sees of one user (PROTOCOL §7 `GET /v1/users/{user}`): connections and how far each is,
//! runs that have not ended, devices and their positions. Nothing of what the user has written is in it.

use crate::Core;
use crate::caller::Caller;
use crate::conn::{Conn, Role};
use crate::context::{Context, Position};
use crate::effect::{Content, Effects};
use crate::ids::{ConnId, Device, Lane, User};
use crate::time::Span;
use crate::wire::error::{Code, Refusal};
use crate::wire::json::Object;
use alloc::format;
use alloc::vec::Vec;

impl Core {
    /// An operator asks about a user, whose context is in memory.
    pub(crate) fn respond_user(&mut self, caller: &Caller, user: &User, out: &mut Effects) {
        let context = self.users.get(user).expect("a context in use is in memory");
        if !context.is_stored && context.stream.head() == 0 {
            let message = "expected a user who was ever connected or had a run, found nothing of this one";
            let refusal = Refusal::new(Code::NotFound, message, "check the user, and its percent-encoding");
            return self.refuse(caller, "user", &refusal, out);
        }
        // Of one who was never connected the stream may have nothing but events.
        self.store_stream(user);
        let context = self.users.get(user).expect("a context in use is in memory");
        let (answer, is_durable) = (self.describe_user(user, context), context.is_durable);
        match is_durable {
            true => self.respond(caller.conn, 200, Content::Json(answer.finish()), out),
            // The name of its stream is shown to nobody before.
            false => self.reply(caller, 200, answer),
        }
    }

    fn describe_user(&self, user: &User, context: &Context) -> Object {
        let head = context.stream.head();
        let mut runs: Vec<_> = context.runs.iter().filter(|(_, run)| run.is_listed(head)).collect();
        runs.sort_by_key(|(_, run)| run.ordinal);
        let undelivered = self.undelivered.listed_of(user);
        Object::new()
            .str("user", user.as_str())
            .str("epoch", context.stream.epoch().as_str())
            .raw("floor", context.stream.floor())
            .raw("head", head)
            .raw("undelivered", undelivered)
            .list("connections", context.conns.keys().filter_map(|id| self.describe_conn(*id)))
            .list("runs", runs.into_iter().map(|(id, run)| run.describe(id, head, self.now)))
            .list("devices", context.devices.iter().map(|(device, at)| describe_device(device, at, head)))
    }

    /// A user's connection that is welcome.
    pub(crate) fn describe_conn(&self, id: ConnId) -> Option<Object> {
        let conn = self.conns.get(&id).filter(|conn| conn.is_welcome() && !conn.is_closing)?;
        let Role::User(me) = &conn.role else { return None };
        let kind = match (&me.sse, &me.device) {
            (Some(_), _) => "sse",
            (None, Some(_)) => "websocket",
            (None, None) => "viewer",
        };
        let topics = me.topics.keys().map(|topic| {
            let lane = Lane::Topic(topic.clone());
            let object = Object::new().str("topic", topic.as_str());
            self.describe_cursor(object, conn, &lane)
        });
        let object = Object::new()
            .str("connection", &format!("c-{}", id.0))
            .str("kind", kind)
            .maybe_str("device", me.device.as_ref().map(Device::as_str))
            .str("address", &format!("{}", conn.peer));
        let object = self.describe_cursor(object, conn, &Lane::Own);
        Some(
            object
                .raw("output_bytes", conn.outstanding())
                .raw("idle_ms", self.now.mono.since(conn.last_in).as_millis())
                .maybe_raw("round_trip_ms", conn.round_trip().map(Span::as_millis))
                .list("topics", topics),
        )
    }

    /// How far a connection is in one of its streams: `lag` is what it has not acknowledged (a viewer: not
    /// been sent).
    fn describe_cursor(&self, object: Object, conn: &Conn, lane: &Lane) -> Object {
        let Role::User(me) = &conn.role else { return object };
        let stream = self.stream_of(&me.identity.user, lane);
        let (Some(stream), Some(cursor)) = (stream, me.cursor(lane)) else { return object };
        object
            .raw("lag", cursor.behind(stream.head()))
            .raw("sent", cursor.sent())
            .raw("acked", cursor.acked())
            .raw("unacked", cursor.unacked().0)
            .raw("window", cursor.window())
    }
}

fn describe_device(device: &Device, at: &Position, head: u64) -> Object {
    Object::new()
        .str("device", device.as_str())
        .raw("acked", at.acked)
        .raw("lag", head.saturating_sub(at.acked))
        .raw("heard_ts", at.heard_ms)
}
