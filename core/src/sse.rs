//! A user's events as a stream of server-sent events (PROTOCOL §7 `GET /v1/stream`): a connection like one
//! over a WebSocket, whose messages leave as text of an answer that goes on. It is paced by the socket, and
//! acknowledges nothing.

use crate::Core;
use crate::caller::Caller;
use crate::conn::clear_timers;
use crate::deadlines::Timer;
use crate::effect::{Effect, Effects};
use crate::ids::{Device, Epoch, NAME_RULE, Thread};
use crate::wire::error::{CloseCode, Refusal};
use crate::wire::event::is_of_thread;
use crate::wire::json::{INTEGER_MAX, Object, wrong};
use crate::wire::query::Params;
use crate::wire::user::{From, Hello};
use alloc::format;
use bytes::{BufMut, Bytes, BytesMut};

/// What makes a user's connection a stream.
#[derive(Debug)]
pub(crate) struct Sse {
    /// Only this thread's events.
    pub(crate) thread: Option<Thread>,
}

impl Sse {
    /// An event as it leaves, if it does.
    pub(crate) fn event(&self, epoch: &Epoch, seq: u64, event: &Bytes) -> Option<Bytes> {
        let is_wanted = self.thread.as_ref().is_none_or(|thread| is_of_thread(event, thread));
        is_wanted.then(|| frame(None, Some((epoch, seq)), event))
    }

    /// A sign of life. Whoever is not sent all events learns from it how far they are.
    pub(crate) fn comment(&self, epoch: &Epoch, sent: u64) -> Bytes {
        let id = self.thread.as_ref().map(|_| format!("id: {epoch}:{sent}\n")).unwrap_or_default();
        Bytes::from(format!(":\n{id}\n"))
    }
}

/// The first words: from them on, whoever comes back knows where it was.
pub(crate) fn welcome(epoch: &Epoch, from: u64, welcome: Object) -> Bytes {
    frame(Some("welcome"), Some((epoch, from)), welcome.finish().as_bytes())
}

/// A notice.
pub(crate) fn notice(notice: &Bytes) -> Bytes {
    frame(Some("notice"), None, notice)
}

/// The last words.
pub(crate) fn close(code: CloseCode, reason: &str) -> Bytes {
    let close = Object::new().raw("code", code as u16).str("reason", reason);
    frame(Some("close"), None, close.finish().as_bytes())
}

/// One event of the stream. Its data may have line breaks between words: each line is one of `data`.
fn frame(kind: Option<&str>, id: Option<(&Epoch, u64)>, data: &[u8]) -> Bytes {
    let mut text = BytesMut::with_capacity(data.len() + 64);
    if let Some(kind) = kind {
        text.put_slice(format!("event: {kind}\n").as_bytes());
    }
    if let Some((epoch, seq)) = id {
        text.put_slice(format!("id: {epoch}:{seq}\n").as_bytes());
    }
    for line in data.split(|byte| matches!(byte, b'\n' | b'\r')) {
        text.put_slice(b"data: ");
        text.put_slice(line);
        text.put_u8(b'\n');
    }
    text.put_u8(b'\n');
    text.freeze()
}

/// How a stream is to begin.
#[derive(Debug)]
pub(crate) struct Begin {
    device: Option<Device>,
    thread: Option<Thread>,
    from: From,
}

impl Begin {
    /// What a query asks for, and the header `Last-Event-ID`, which counts more.
    pub(crate) fn read(params: &Params, last_event_id: Option<&str>) -> Result<Self, Refusal> {
        const FROM: &str = "epoch:seq, device, oldest, head or live";
        let thread = params.read("thread", NAME_RULE, Thread::parse)?;
        let device = params.read("device", NAME_RULE, Device::parse)?.filter(|_| thread.is_none());
        let resumed = last_event_id.filter(|id| !id.is_empty());
        let resumed = resumed.map(|id| position(id).ok_or_else(|| wrong("Last-Event-ID", "epoch:seq", id)));
        let asked = params.read("from", FROM, from)?;
        if device.is_none() && asked == Some(From::Device) {
            return Err(wrong("from", "another beginning: a viewer has no device", "device"));
        }
        let default = if device.is_some() { From::Device } else { From::Live };
        Ok(Self { device, thread, from: resumed.transpose()?.or(asked).unwrap_or(default) })
    }
}

fn from(text: &str) -> Option<From> {
    match text {
        "device" => Some(From::Device),
        "oldest" => Some(From::Oldest),
        "head" => Some(From::Head),
        "live" => Some(From::Live),
        _ => position(text),
    }
}

fn position(text: &str) -> Option<From> {
    let (epoch, seq) = text.rsplit_once(':')?;
    let seq = seq.parse().ok().filter(|seq| *seq <= INTEGER_MAX)?;
    Some(From::Position { epoch: Epoch::parse(epoch)?, seq })
}

impl Core {
    /// The answer begins, and the connection is a user's from here on.
    pub(crate) fn begin_stream(&mut self, caller: Caller, begin: Begin, out: &mut Effects) {
        let id = caller.conn;
        if self.is_draining() {
            return self.respond_refusal(id, &Self::draining(), out);
        }
        clear_timers(id, &mut self.deadlines);
        self.deadlines.set(Timer::Heartbeat(id), self.now.mono + self.config.server.heartbeat);
        out.push(Effect::Stream { conn: id });
        let hello = Hello {
            viewer: begin.device.is_none(),
            device: begin.device,
            from: begin.from,
            ..Hello::default()
        };
        self.enter_user(id, caller.identity, hello, Some(Sse { thread: begin.thread }), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_break_in_an_event_begins_a_new_line_of_data() {
        let epoch = Epoch::parse("e-1").unwrap();
        let text = frame(Some("notice"), Some((&epoch, 4)), b"{\"a\":\r\n1}");
        assert_eq!(text, "event: notice\nid: e-1:4\ndata: {\"a\":\ndata: \ndata: 1}\n\n");
    }

    #[test]
    fn a_stream_begins_where_it_ended_or_where_it_is_told() {
        let begin = |query, id| Begin::read(&Params::parse(Some(query)).unwrap(), id);
        let at = |epoch, seq| From::Position { epoch: Epoch::parse(epoch).unwrap(), seq };
        assert_eq!(begin("", None).unwrap().from, From::Live);
        assert_eq!(begin("", Some("")).unwrap().from, From::Live);
        assert_eq!(begin("device=d", None).unwrap().from, From::Device);
        assert_eq!(begin("from=oldest", Some("e:x:4")).unwrap().from, at("e:x", 4));
        assert_eq!(begin("from=e-1:4", None).unwrap().from, at("e-1", 4));
        assert_eq!(begin("device=d&thread=t", None).unwrap().device, None);
        for (query, id) in [("from=device", None), ("from=4", None), ("", Some("4")), ("device=a%20b", None)]
        {
            assert!(begin(query, id).is_err(), "{query} {id:?}");
        }
    }
}
