//! The yardstick: a program that does with the same bytes the least that can be done. A publisher's frames
//! are kept in memory and written to every connection of their group, one write for each connection and turn.
//! No WebSocket, no JSON, no store, no acknowledgement, one thread.
//!
//! A connection says `P` (it publishes), or `D group position` (it wants what comes after that, and what
//! there is of it already). A publisher's frame is the group, the length and the bytes; a device's the length
//! and the bytes. Numbers are four bytes, little-endian; lines end with a newline.

use crate::cli::Exit;
use crate::preflight::let_many_wait;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use std::io::{self, ErrorKind, Read, Write};
use std::thread;

const LISTENER: Token = Token(usize::MAX);
/// Bytes read at once.
const READ_BYTES: usize = 16 << 10;

/// Serves on a free port of the loopback, which it prints, until standard input ends.
pub(crate) fn main() -> Exit {
    until_input_ends("the relay", || Relay::new().and_then(Relay::run))
}

/// Serves as a yardstick: the bench ends it by closing its standard input, and so does the bench's own end.
pub(super) fn until_input_ends(name: &str, serve: impl FnOnce() -> io::Result<()>) -> Exit {
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        std::process::exit(0);
    });
    match serve() {
        Ok(()) => Exit::Done,
        Err(error) => {
            let _ = writeln!(io::stderr(), "runcast: {name}: {error}");
            Exit::Failed
        }
    }
}

struct Relay {
    poll: Poll,
    listener: TcpListener,
    conns: Vec<Option<Conn>>,
    groups: Vec<Group>,
    /// Connections with something to be written in this turn.
    unflushed: Vec<usize>,
}

#[derive(Default)]
struct Group {
    /// Every frame so far, and where each ends.
    bytes: Vec<u8>,
    ends: Vec<usize>,
    conns: Vec<usize>,
}

struct Conn {
    socket: TcpStream,
    role: Role,
    input: Vec<u8>,
    is_queued: bool,
}

enum Role {
    Unknown,
    Publisher,
    /// Of this group; written up to here.
    Device {
        group: usize,
        upto: usize,
    },
}

impl Relay {
    fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
        let_many_wait(&listener)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        writeln!(io::stdout(), "{}", listener.local_addr()?)?;
        Ok(Self { poll, listener, conns: Vec::new(), groups: Vec::new(), unflushed: Vec::new() })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    Token(id) => self.serve(id, &mut buffer),
                }
            }
            for id in std::mem::take(&mut self.unflushed) {
                self.flush(id);
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let (mut socket, _) = match self.listener.accept() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                accepted => accepted?,
            };
            let _unset = socket.set_nodelay(true);
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut socket, Token(self.conns.len()), interest)?;
            let conn = Conn { socket, role: Role::Unknown, input: Vec::new(), is_queued: false };
            self.conns.push(Some(conn));
        }
    }

    /// Reads what there is. An edge may also mean that there is room to write.
    fn serve(&mut self, id: usize, buffer: &mut [u8]) {
        while let Some(conn) = self.conns[id].as_mut() {
            match conn.socket.read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => self.leave(id),
                Ok(length) => {
                    conn.input.extend_from_slice(&buffer[..length]);
                    self.take(id);
                }
            }
        }
        self.queue(id);
    }

    fn leave(&mut self, id: usize) {
        if let Some(Conn { role: Role::Device { group, .. }, .. }) = self.conns[id].take() {
            self.groups[group].conns.retain(|other| *other != id);
        }
    }

    fn take(&mut self, id: usize) {
        let Some(conn) = self.conns[id].as_mut() else { return };
        let mut input = std::mem::take(&mut conn.input);
        let mut at = 0;
        if matches!(conn.role, Role::Unknown)
            && let Some(end) = input.iter().position(|byte| *byte == b'\n')
        {
            at = end + 1;
            let line = String::from_utf8_lossy(&input[..end]).into_owned();
            self.begin(id, &line);
        }
        if matches!(self.conns[id], Some(Conn { role: Role::Publisher, .. })) {
            while let Some((group, frame)) = frame(&input[at..]) {
                at += 4 + frame;
                let frame = &input[at - frame..at];
                self.publish(group, frame);
            }
        }
        input.drain(..at);
        if let Some(conn) = self.conns[id].as_mut() {
            conn.input = input;
        }
    }

    fn begin(&mut self, id: usize, line: &str) {
        let mut words = line.split(' ').skip(1).map_while(|word| word.parse::<usize>().ok());
        let role = match (words.next(), words.next()) {
            (Some(group), Some(position)) => {
                self.group(group).conns.push(id);
                let upto = position.checked_sub(1).and_then(|it| self.groups[group].ends.get(it)).copied();
                Role::Device { group, upto: upto.unwrap_or(0) }
            }
            _ => Role::Publisher,
        };
        if let Some(conn) = self.conns[id].as_mut() {
            conn.role = role;
        }
    }

    fn group(&mut self, group: usize) -> &mut Group {
        if self.groups.len() <= group {
            self.groups.resize_with(group + 1, Group::default);
        }
        &mut self.groups[group]
    }

    fn publish(&mut self, group: usize, frame: &[u8]) {
        let to = self.group(group);
        to.bytes.extend_from_slice(frame);
        to.ends.push(to.bytes.len());
        for index in 0..to.conns.len() {
            let id = self.groups[group].conns[index];
            self.queue(id);
        }
    }

    fn queue(&mut self, id: usize) {
        if let Some(conn) = self.conns[id].as_mut().filter(|conn| !conn.is_queued) {
            conn.is_queued = true;
            self.unflushed.push(id);
        }
    }

    /// One write, if there is anything to be written; more only if that filled no buffer.
    fn flush(&mut self, id: usize) {
        let Some(conn) = self.conns[id].as_mut() else { return };
        conn.is_queued = false;
        let Role::Device { group, upto } = &mut conn.role else { return };
        let bytes = &self.groups[*group].bytes;
        while *upto < bytes.len() {
            match conn.socket.write(&bytes[*upto..]) {
                Ok(taken) if taken > 0 => *upto += taken,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => return self.leave(id),
            }
        }
    }
}

/// A publisher's frame, if it is whole: its group, and the length of the frame that devices get.
fn frame(input: &[u8]) -> Option<(usize, usize)> {
    let number = |at: usize| Some(u32::from_le_bytes(input.get(at..at + 4)?.try_into().ok()?) as usize);
    let (group, length) = (number(0)?, number(4)?);
    (input.len() >= 8 + length).then_some((group, 4 + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_taken_when_it_is_whole() {
        let mut bytes = [7_u32.to_le_bytes(), 3_u32.to_le_bytes()].concat();
        bytes.extend_from_slice(b"ab");
        assert_eq!(frame(&bytes), None);
        bytes.extend_from_slice(b"cd");
        assert_eq!(frame(&bytes), Some((7, 7)));
    }
}
