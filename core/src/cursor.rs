//! How far a connection is in a stream (PROTOCOL §4): what was sent, what was acknowledged, what is to be
//! sent next or again, and as what.

#[cfg(test)]
mod properties;

use crate::planted::{Bug, Planted};
use crate::sometimes::{Seen, Sometimes};
use crate::stream::{Resume, Stream};
use crate::time::Mono;
use crate::view::CursorView;
use crate::wire::event::redelivery;
use crate::wire::joined;
use alloc::collections::VecDeque;
use bytes::Bytes;

/// Bytes of events unacknowledged at once on a connection, or one event (PROTOCOL §4).
const WINDOW_BYTES: usize = 1024 * 1024;

/// How far a connection is in a stream.
#[derive(Debug)]
pub(crate) struct Cursor {
    resume: Resume,
    window: usize,
    is_viewer: bool,
    /// The last seq that was sent, or where it began.
    sent: u64,
    /// The last seq that was acknowledged here, or where it began.
    acked: u64,
    unacked: VecDeque<Unacked>,
    unacked_bytes: usize,
    /// Retries of the oldest unacknowledged event so far.
    round: u32,
    /// Which of the unacknowledged is to be sent again next, while a retry goes out.
    again: Option<usize>,
    page: Page,
    /// Since when it is more than a window behind.
    pub(crate) behind_since: Option<Mono>,
    planted: Planted,
}

/// What was sent as one event and is not acknowledged: one of the stream, or some that were joined.
#[derive(Clone, Copy, Debug)]
struct Unacked {
    /// The position before it.
    prev: u64,
    /// Its seq, the last of those that it stands for.
    seq: u64,
    len: usize,
    /// The count of the connection's bytes at which its last copy ends.
    ends: u64,
}

/// A page from the store.
#[derive(Debug, Default)]
enum Page {
    #[default]
    None,
    /// After this seq.
    Asked(u64),
    Here(VecDeque<(u64, Bytes)>),
}

/// What can be sent next.
pub(crate) enum Next {
    /// An event, as it is to be sent, and the seq of the last that it stands for.
    Event(u64, Bytes),
    /// Nothing, until something happens.
    Nothing,
    /// A page must be read that begins after this seq, and has so many events if they are there.
    Page(u64, usize),
}

impl Cursor {
    pub(crate) fn new(window: u32, is_viewer: bool, planted: Planted) -> Self {
        let resume = Resume { status: "fresh", reason: None, from: 0 };
        Self {
            resume,
            window: window as usize,
            is_viewer,
            sent: 0,
            acked: 0,
            unacked: VecDeque::new(),
            unacked_bytes: 0,
            round: 0,
            again: None,
            page: Page::None,
            behind_since: None,
            planted,
        }
    }

    /// Puts it at its beginning.
    pub(crate) fn begin(&mut self, resume: Resume) {
        self.sent = resume.from;
        self.acked = resume.from;
        self.resume = resume;
    }

    pub(crate) const fn resume(&self) -> &Resume {
        &self.resume
    }

    pub(crate) const fn window(&self) -> usize {
        self.window
    }

    pub(crate) const fn sent(&self) -> u64 {
        self.sent
    }

    pub(crate) const fn acked(&self) -> u64 {
        self.acked
    }

    /// What it still needs begins after this seq. What stands for several may be needed whole again.
    pub(crate) fn needs_after(&self) -> u64 {
        match self.unacked.front() {
            Some(oldest) => oldest.prev,
            None => self.sent,
        }
    }

    /// Events that have not been acknowledged, sent or not; for a viewer, that have not been sent.
    pub(crate) const fn behind(&self, head: u64) -> u64 {
        head.saturating_sub(self.acked)
    }

    /// Events that were sent and not acknowledged, and their bytes.
    pub(crate) fn unacked(&self) -> (usize, usize) {
        (self.unacked.len(), self.unacked_bytes)
    }

    /// Whether its bytes are those of what is unacknowledged.
    pub(crate) fn is_counted(&self) -> bool {
        self.unacked.iter().map(|sent| sent.len).sum::<usize>() == self.unacked_bytes
    }

    /// Whether it needs events that its stream has no longer.
    pub(crate) fn is_overtaken(&self, stream: &Stream) -> bool {
        self.needs_after() + 1 < stream.floor()
    }

    /// Whether a retry is going out.
    pub(crate) const fn is_retrying(&self) -> bool {
        self.again.is_some()
    }

    /// Whether the next event would be sent if it were there.
    pub(crate) fn is_open(&self) -> bool {
        let is_window_open = self.is_viewer
            || self.unacked.is_empty()
            || (self.unacked.len() < self.window && self.unacked_bytes < WINDOW_BYTES);
        is_window_open && !self.is_retrying()
    }

    /// How far it is, as seen from outside.
    pub(crate) const fn view(&self, head: u64, is_open: bool) -> CursorView {
        let is_reading = self.asked().is_some();
        let Self { sent, acked, is_viewer, .. } = *self;
        CursorView { head, sent, acked, is_viewer, is_open, is_reading }
    }

    /// Everything up to `seq` is acknowledged. Returns whether that is news, none if it was never sent.
    pub(crate) fn ack(&mut self, seq: u64) -> Option<bool> {
        if seq > self.sent {
            return None;
        }
        if self.is_viewer || seq <= self.acked {
            return Some(false);
        }
        while let Some(oldest) = self.unacked.pop_front_if(|oldest| oldest.seq <= seq) {
            self.unacked_bytes -= oldest.len;
        }
        if self.unacked.is_empty() {
            // Room that is kept lies among what is long gone, and keeps the memory around it.
            self.unacked = VecDeque::new();
        }
        self.acked = seq;
        self.round = 0;
        // The device lives: the rest was sent once and gets its time anew.
        self.again = None;
        Some(true)
    }

    /// Begins to send all that is unacknowledged again, in order. Not if that was done as often as is
    /// allowed.
    pub(crate) fn begin_retry(&mut self, retries: u32) -> bool {
        if self.round >= retries {
            return false;
        }
        self.round += 1;
        let is_odd = self.planted.is(Bug::RetryLosesOrder);
        self.again = Some(if is_odd { self.unacked.len() - 1 } else { 0 });
        true
    }

    /// In which round its oldest unacknowledged event is, and the count of the connection's bytes at which
    /// that has left; none if its clock stands.
    pub(crate) fn clock(&self) -> Option<(u32, u64)> {
        self.unacked.front().filter(|_| !self.is_retrying()).map(|oldest| (self.round, oldest.ends))
    }

    /// A page is asked for, of what comes after this seq.
    pub(crate) fn page_asked(&mut self, after: u64) {
        self.page = Page::Asked(after);
    }

    /// After which seq a page is asked for, if one is.
    pub(crate) const fn asked(&self) -> Option<u64> {
        match self.page {
            Page::Asked(after) => Some(after),
            Page::None | Page::Here(_) => None,
        }
    }

    /// The page that was asked for.
    pub(crate) fn page_read(&mut self, events: VecDeque<(u64, Bytes)>) {
        self.page = if events.is_empty() { Page::None } else { Page::Here(events) };
    }

    /// The event with this seq, from the stream's memory or the page.
    fn find<'a>(&'a self, stream: &'a Stream, seq: u64) -> Option<&'a Bytes> {
        if let Some(entry) = stream.in_memory(seq) {
            return Some(&entry.bytes);
        }
        let Page::Here(events) = &self.page else { return None };
        let index = usize::try_from(seq.checked_sub(events.front()?.0)?).ok()?;
        events.get(index).filter(|(there, _)| *there == seq).map(|(_, bytes)| bytes)
    }

    /// Lets go of the part of a page that is behind.
    fn turn_page(&mut self, stream: &Stream, prev: u64) {
        let Page::Here(events) = &mut self.page else { return };
        while events.pop_front_if(|(seq, _)| *seq <= prev).is_some() {}
        // From there on all is in memory.
        if events.is_empty() || stream.in_memory(prev + 1).is_some() {
            self.page = Page::None;
        }
    }

    /// Whether it is more than a window behind, which it is told of: in events, or because what waits does
    /// not fit beside a few long ones.
    pub(crate) fn is_behind(&self, head: u64) -> bool {
        self.behind(head) > self.window as u64
            || !self.is_viewer && self.sent < head && self.is_full_of_bytes()
    }

    /// Whether as many events are unacknowledged as the window takes.
    fn is_full(&self) -> bool {
        if self.planted.is(Bug::WindowNeverReopens) {
            return self.sent - self.resume.from >= self.window as u64;
        }
        self.unacked.len() >= self.window + usize::from(self.planted.is(Bug::WindowOneTooMany))
    }

    fn is_full_of_bytes(&self) -> bool {
        self.unacked_bytes >= WINDOW_BYTES && !self.unacked.is_empty()
    }

    /// Counts which window keeps the next event from being sent, if one does.
    pub(crate) fn mark_full(&self, head: u64, seen: &mut Seen) {
        if self.sent < head && !self.is_viewer && self.is_full() {
            seen.mark(Sometimes::WindowFull);
        }
        if self.sent < head && !self.is_viewer && self.is_full_of_bytes() {
            seen.mark(Sometimes::WindowFullOfBytes);
        }
    }

    /// What is to be sent next.
    pub(crate) fn next(&mut self, stream: &Stream) -> Next {
        if let Some(index) = self.again {
            return self.next_again(stream, index);
        }
        let (prev, head) = (self.sent, stream.head());
        if prev >= head {
            self.page = Page::None;
            return Next::Nothing;
        }
        if !self.is_viewer && (self.is_full() || self.is_full_of_bytes()) {
            return Next::Nothing;
        }
        self.turn_page(stream, prev);
        let Some(bytes) = self.find(stream, prev + 1) else { return self.needs_page(prev, 1) };
        let is_far_behind = !self.is_viewer && self.behind(head) > self.window as u64;
        match if is_far_behind { self.join(stream, prev, head) } else { None } {
            Some((count, bytes)) => Next::Event(prev + count, bytes),
            None => Next::Event(prev + 1, bytes.clone()),
        }
    }

    /// What was sent is sent once more, as it was.
    fn next_again(&mut self, stream: &Stream, index: usize) -> Next {
        assert!(self.round > 0, "what is sent again is a retry");
        if index > 0 && self.planted.is(Bug::RetryStopsMidway) {
            return Next::Nothing;
        }
        let Unacked { prev, seq, .. } = self.unacked[index];
        self.turn_page(stream, prev);
        let is_here = (prev + 1..=seq).all(|seq| self.find(stream, seq).is_some());
        if !is_here {
            return self.needs_page(prev, usize::try_from(seq - prev).unwrap_or(usize::MAX));
        }
        let once = if seq == prev + 1 { self.find(stream, seq).cloned() } else { None };
        let again = once.or_else(|| self.join(stream, prev, seq).map(|(_, bytes)| bytes));
        Next::Event(seq, redelivery(&again.expect("what was joined can be joined again"), self.round))
    }

    /// What stands for the events after `prev`, up to `last` at most.
    fn join(&self, stream: &Stream, prev: u64, last: u64) -> Option<(u64, Bytes)> {
        let events = (prev + 1..=last).map_while(|seq| self.find(stream, seq)).map(|event| &event[..]);
        joined::join(prev, events, self.planted.is(Bug::JoiningLosesOne))
    }

    fn needs_page(&mut self, prev: u64, count: usize) -> Next {
        if self.asked().is_some() {
            return Next::Nothing;
        }
        self.page = Page::None;
        Next::Page(prev, count)
    }

    /// A viewer is not sent this event.
    pub(crate) fn pass_over(&mut self) {
        assert!(self.is_viewer, "a device is sent every event");
        self.sent += 1;
        self.acked = self.sent;
    }

    /// An event was sent that stands for all up to `seq`; its bytes end at `ends`.
    pub(crate) fn sent_one(&mut self, seq: u64, len: usize, ends: u64) {
        if let Some(index) = self.again {
            self.unacked[index].ends = ends;
            self.again = Some(index + 1).filter(|next| *next < self.unacked.len());
            if self.planted.is(Bug::RetryLosesOrder) {
                self.again = index.checked_sub(1);
            }
            return;
        }
        let prev = core::mem::replace(&mut self.sent, seq);
        if self.is_viewer {
            self.acked = seq;
        } else {
            self.unacked.push_back(Unacked { prev, seq, len, ends });
            self.unacked_bytes += len;
        }
    }
}
