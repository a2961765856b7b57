//! Who wishes the daemon ill, in a process of its own: thousands of connections from one address, which is
//! not that of the honest. Some say their head a letter at a time, some nonsense, some come with a bad token
//! or with frames that nobody may send, some say nothing at all.

use super::child::until_told;
use crate::cli::{Exit, say};
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use rustix::process::setpriority_process;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// Where it comes from.
const FROM: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 2), 0);
/// How often it looks what is due.
const TICK: Duration = Duration::from_millis(5);
/// How often each slow head says one letter more.
const LETTER_EVERY: Duration = Duration::from_secs(1);

/// Its priority: the lowest.
const NICENESS: i32 = 19;

/// How much ill it does.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Siege {
    /// New connections a second.
    pub(super) per_second: u64,
    /// It keeps so many, and drops the oldest then.
    pub(super) held: usize,
}

/// What it has done. What is neither made nor failed was on its way when it was over.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Done {
    /// Connections that were begun.
    pub(super) tried: u64,
    /// Those of them that came about and have said what they say first.
    pub(super) made: u64,
    /// Those that did not: the system refused, nobody accepted, or it took too long.
    pub(super) failed: u64,
    /// Those that the daemon had ended when it was over, of those that were held.
    pub(super) ended: u64,
    /// Those that were held.
    pub(super) held: u64,
}

/// Besieges what is at this address until standard input ends, and says what it has done.
pub(crate) fn main(at: SocketAddr, per_second: u64, held: usize) -> Exit {
    let over = until_told();
    // Whoever besieges a daemon does it with processors of its own: here it has what the others leave.
    setpriority_process(None, NICENESS).unwrap_or_default();
    let siege = Siege { per_second, held };
    let (begun, mut done) = (Instant::now(), Done::default());
    let (mut open, mut letter_at) = (VecDeque::with_capacity(held), begun);
    while !over.is_finished() {
        let due = begun.elapsed().as_millis() as u64 * siege.per_second / 1_000;
        while done.tried < due {
            if open.len() >= siege.held {
                let oldest: Option<Attack> = open.pop_front();
                done.failed += u64::from(oldest.is_some_and(|it| !it.is_made));
            }
            // Its own ports or the daemon's backlog may be used up: then the next one is tried.
            match Attack::begin(at, done.tried) {
                Ok(attack) => open.push_back(attack),
                Err(_) => done.failed += 1,
            }
            done.tried += 1;
        }
        go_on(&mut open, &mut done);
        if letter_at <= Instant::now() {
            letter_at += LETTER_EVERY;
            open.iter_mut().for_each(Attack::say_a_letter);
        }
        thread::sleep(TICK);
    }
    open.retain(|attack| attack.is_made);
    done.held = open.len() as u64;
    done.ended = open.iter_mut().filter_map(|it| is_over(&mut it.socket).then_some(())).count() as u64;
    say(&serde_json::json!(done).to_string());
    Exit::Done
}

/// Goes on with those that are on their way.
fn go_on(open: &mut VecDeque<Attack>, done: &mut Done) {
    open.retain_mut(|attack| {
        if attack.is_made {
            return true;
        }
        let opened = attack.open();
        done.made += u64::from(attack.is_made);
        done.failed += u64::from(opened.is_err());
        opened.is_ok()
    });
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    SlowHead,
    Garbage,
    BadToken,
    BadFrame,
    Silence,
}

const KINDS: [Kind; 5] = [Kind::SlowHead, Kind::Garbage, Kind::BadToken, Kind::BadFrame, Kind::Silence];

/// One connection.
#[derive(Debug)]
struct Attack {
    kind: Kind,
    socket: TcpStream,
    /// What it says first, and has not said yet.
    unsaid: Vec<u8>,
    /// It is connected and has said that.
    is_made: bool,
}

impl Attack {
    /// Begins a connection of the kind whose turn it is.
    fn begin(at: SocketAddr, number: u64) -> io::Result<Self> {
        let kind = KINDS[(number % KINDS.len() as u64) as usize];
        let fd = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(&fd, &FROM)?;
        // Its own ports are free again at once.
        set_socket_linger(&fd, Some(Duration::ZERO))?;
        let socket = TcpStream::from(fd);
        socket.set_nonblocking(true)?;
        match connect(&socket, &at) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Self { kind, socket, unsaid: opening(kind, number), is_made: false })
    }

    /// Says what it says first, as soon as it is connected and as far as the other side takes it.
    fn open(&mut self) -> io::Result<()> {
        if let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        match self.socket.peer_addr() {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(()),
            there => there?,
        };
        while !self.unsaid.is_empty() {
            match self.socket.write(&self.unsaid) {
                Ok(said) => drop(self.unsaid.drain(..said)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.is_made = true;
        Ok(())
    }

    /// One letter more of a head that never ends.
    fn say_a_letter(&mut self) {
        if self.is_made && self.kind == Kind::SlowHead {
            // The daemon may have had enough of it.
            let _ = self.socket.write(b"x");
        }
    }
}

/// What a connection of this kind says first.
fn opening(kind: Kind, number: u64) -> Vec<u8> {
    match kind {
        Kind::SlowHead => b"GET /ws HTTP/1.1\r\nHost: ".to_vec(),
        Kind::Garbage => (0..4096).map(|index: u64| (index * (number | 1) % 251) as u8).collect(),
        Kind::BadToken => {
            b"GET /v1/runs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer eyJhbGciOiJIUzI1NiJ9.e30.AAAA\r\n\r\n"
                .to_vec()
        }
        Kind::BadFrame => b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
              Sec-WebSocket-Protocol: runcast.v1\r\n\r\n\x81\xff\0\0\0\0\x7f\xff\xff\xff"
            .to_vec(),
        Kind::Silence => Vec::new(),
    }
}

fn is_over(socket: &mut TcpStream) -> bool {
    let mut bytes = [0; 1024];
    loop {
        match socket.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}
