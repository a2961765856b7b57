//! The WebSocket of a connection: tungstenite reads it, frames leave as they are written.
//!
//! Most connections are silent most of the time. What reading needs, a state and a buffer, a connection has
//! from the first byte of a message to the last one; between messages it is lent to others.

use super::wire::Wire;
use std::io::{self, Read, Write};
use tungstenite::error::{Error, Result};
use tungstenite::protocol::frame::{Frame, FrameHeader};
use tungstenite::protocol::{Message, Role, WebSocketConfig, WebSocketContext};

/// What was needed to read a connection and has nothing of it inside, to be lent to the next: one for each
/// length of messages, of which there are as many as there are kinds of connections.
#[derive(Debug, Default)]
pub struct Readers(Vec<(usize, Box<WebSocketContext>)>);

impl Readers {
    /// One for messages of at most so many bytes.
    fn lend(&mut self, message_bytes: usize) -> Box<WebSocketContext> {
        match self.0.iter().position(|(length, _)| *length == message_bytes) {
            Some(index) => self.0.swap_remove(index).1,
            None => Box::new(reader(message_bytes, Vec::new())),
        }
    }

    fn take_back(&mut self, message_bytes: usize, reader: Box<WebSocketContext>) {
        // One that was made for shorter messages reads less at once, and is of no use to others.
        let is_right = reader.get_config().read_buffer_size == buffer_bytes(message_bytes);
        if is_right && self.0.iter().all(|(length, _)| *length != message_bytes) {
            self.0.push((message_bytes, reader));
        }
    }
}

/// A WebSocket, the server's side of it.
#[derive(Debug)]
pub(super) struct Socket {
    /// The longest message that it takes.
    message_bytes: usize,
    /// None while no message is being read.
    reader: Option<Box<WebSocketContext>>,
    /// Bytes that were read, less those of the messages that came of them: what the reader may have inside.
    /// A message that came in pieces, or with a longer header than it needs, leaves some for good: then the
    /// reader stays.
    inside: u64,
}

impl Socket {
    /// One that takes messages of at most so many bytes, and of which `early` was read already.
    pub(super) fn new(message_bytes: usize, early: Vec<u8>) -> Self {
        let inside = early.len() as u64;
        let reader = (inside > 0).then(|| Box::new(reader(message_bytes, early)));
        Self { message_bytes, reader, inside }
    }

    /// Takes messages of at most so many bytes from here on, also of the one that is being read.
    pub(super) fn allow(&mut self, message_bytes: usize) {
        self.message_bytes = message_bytes;
        if let Some(reader) = &mut self.reader {
            reader.set_config(|config| {
                config.max_message_size = Some(message_bytes);
                config.max_frame_size = Some(message_bytes);
            });
        }
    }

    /// Whether nothing more can be read for now: all that came was whole messages, and they were read.
    pub(super) fn is_drained<S>(&self, wire: &Wire<S>) -> bool {
        self.reader.is_none() && !wire.is_readable()
    }

    /// The next message, as [`WebSocketContext::read`].
    pub(super) fn read<S: Read + Write>(
        &mut self,
        wire: &mut Wire<S>,
        readers: &mut Readers,
    ) -> Result<Message> {
        if self.is_drained(wire) {
            return Err(io::Error::from(io::ErrorKind::WouldBlock).into());
        }
        let reader = self.reader.get_or_insert_with(|| readers.lend(self.message_bytes));
        let before = wire.taken();
        let message = reader.read(wire);
        self.inside += wire.taken() - before;
        let is_done = match &message {
            // Nothing is read after it, and it need not be what came.
            Ok(Message::Close(_)) => false,
            Ok(message) => {
                self.inside -= shortest(message);
                // The answer to a ping is in the reader still.
                !wire.is_readable() && !matches!(message, Message::Ping(_))
            }
            // It has said what it had to say before it read.
            Err(Error::Io(error)) => error.kind() == io::ErrorKind::WouldBlock,
            Err(_) => false,
        };
        if is_done && self.inside == 0 {
            let reader = self.reader.take();
            reader.into_iter().for_each(|reader| readers.take_back(self.message_bytes, reader));
        }
        message
    }

    /// Queues a frame, and after it the answer to a ping.
    pub(super) fn write<S: Read + Write>(&mut self, wire: &mut Wire<S>, frame: Frame) -> Result<()> {
        frame.format(wire)?;
        self.flush(wire)
    }

    /// The same with a text message.
    pub(super) fn write_text<S: Read + Write>(&mut self, wire: &mut Wire<S>, text: &[u8]) -> Result<()> {
        wire.put_text(text);
        self.flush(wire)
    }

    /// Queues the answer to a ping or a close frame, if that waits.
    pub(super) fn flush<S: Read + Write>(&mut self, wire: &mut Wire<S>) -> Result<()> {
        self.reader.as_mut().map_or(Ok(()), |reader| reader.flush(wire))
    }
}

/// How much of messages that are so long is read at once.
fn buffer_bytes(message_bytes: usize) -> usize {
    (message_bytes / 64).clamp(1024, 4096)
}

fn reader(message_bytes: usize, early: Vec<u8>) -> WebSocketContext {
    let config = WebSocketConfig::default()
        .read_buffer_size(buffer_bytes(message_bytes))
        .write_buffer_size(0)
        .max_message_size(Some(message_bytes))
        .max_frame_size(Some(message_bytes));
    WebSocketContext::from_partially_read(early, Role::Server, Some(config))
}

/// How many bytes a message was, at least.
fn shortest(message: &Message) -> u64 {
    let length = message.len() as u64;
    let header = FrameHeader { mask: Some([0; 4]), ..FrameHeader::default() };
    length + header.len(length) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn::Edge;
    use std::collections::VecDeque;

    /// What a peer has sent, and nothing for now after it.
    #[derive(Default)]
    struct Peer(VecDeque<u8>);

    impl Read for Peer {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            match self.0.read(into)? {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                bytes => Ok(bytes),
            }
        }
    }

    impl Write for Peer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Says it, and counts the messages that come of it.
    fn say(socket: &mut Socket, wire: &mut Wire<Peer>, bytes: &[u8]) -> usize {
        wire.stream_mut().0.extend(bytes);
        wire.edge(Edge::UntilBlocked);
        wire.allow(bytes.len() + 1);
        let mut readers = Readers::default();
        std::iter::from_fn(|| socket.read(wire, &mut readers).ok()).count()
    }

    /// A frame whose mask changes nothing.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
    }

    #[test]
    fn nothing_is_kept_between_messages() {
        let (mut socket, mut wire) = (Socket::new(1_000, Vec::new()), Wire::new(Peer::default()));
        let messages = [frame(0x81, b"one"), frame(0x81, b""), frame(0x82, b"three")].concat();
        assert_eq!(say(&mut socket, &mut wire, &messages), 3);
        assert!(socket.reader.is_none());
        for end in 1..messages.len() {
            let (first, rest) = messages.split_at(end);
            let (early, late) = (say(&mut socket, &mut wire, first), say(&mut socket, &mut wire, rest));
            assert_eq!((early + late, socket.reader.is_none()), (3, true), "cut after {end} bytes");
        }
        assert_eq!(say(&mut socket, &mut wire, &frame(0x89, b"ping")), 1);
        assert_eq!((wire.output_bytes(), socket.reader.is_none()), (2 + 4, true), "the pong is out");
    }

    #[test]
    fn a_longer_message_is_taken_from_then_on_and_what_read_it_is_lent_to_nobody() {
        let (mut socket, mut wire) = (Socket::new(100, Vec::new()), Wire::new(Peer::default()));
        let mut readers = Readers::default();
        let mut read = |socket: &mut Socket, bytes: &[u8]| {
            wire.stream_mut().0.extend(bytes);
            wire.edge(Edge::UntilBlocked);
            wire.allow(1_000);
            let message = socket.read(&mut wire, &mut readers).map(|message| message.len());
            (message, readers.0.len())
        };
        let long = frame(0x81, &[b'x'; 120]);
        assert!(matches!(read(&mut socket, &long[..1]), (Err(Error::Io(_)), 0)), "there is more to come");
        socket.allow(1_000_000);
        assert!(matches!(read(&mut socket, &long[1..]), (Ok(120), 0)));
        assert!(matches!(read(&mut socket, &[]), (Err(Error::Io(_)), 0)), "it reads too little at once");
        assert!(socket.reader.is_none());
        assert!(matches!(read(&mut socket, &long), (Ok(120), 0)));
        assert!(matches!(read(&mut socket, &[]), (Err(Error::Io(_)), 1)));
        assert!(matches!(read(&mut Socket::new(100, Vec::new()), &long), (Err(Error::Capacity(_)), _)));
    }

    #[test]
    fn what_is_inside_is_kept() {
        let (mut socket, mut wire) = (Socket::new(1_000, frame(0x81, b"early")), Wire::new(Peer::default()));
        assert_eq!(say(&mut socket, &mut wire, &frame(0x01, b"in ")), 1);
        assert!(socket.reader.is_some(), "half a message");
        assert_eq!(say(&mut socket, &mut wire, &frame(0x80, b"pieces")), 1);
        assert_eq!(say(&mut socket, &mut wire, &frame(0x81, b"whole")), 1);
    }
}
