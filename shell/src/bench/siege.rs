//! Who wishes the daemon ill, in a process of its own: thousands of connections from one address, which is
//! not that of the honest. Some say their head a letter at a time, some nonsense, some come with a bad token
//! or with frames that nobody may send, some say nothing at all.

use super::child::until_told;
use crate::cli::{Exit, say};
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
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

/// How much ill it does.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Siege {
    /// New connections a second.
    pub(super) per_second: u64,
    /// It keeps so many, and drops the oldest then.
    pub(super) held: usize,
}

/// What it has done.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Done {
    /// Connections that were begun.
    pub(super) made: u64,
    /// Those that the daemon had ended when it was over, of those that were held.
    pub(super) ended: u64,
    /// Those that were held.
    pub(super) held: u64,
}

/// Besieges what is at this address until standard input ends, and says what it has done.
pub(crate) fn main(at: SocketAddr, per_second: u64, held: usize) -> Exit {
    let over = until_told();
    let siege = Siege { per_second, held };
    let (begun, mut done) = (Instant::now(), Done::default());
    let (mut open, mut letter_at) = (VecDeque::with_capacity(held), begun);
    while !over.is_finished() {
        let due = begun.elapsed().as_millis() as u64 * siege.per_second / 1_000;
        while done.made < due {
            if open.len() >= siege.held {
                open.pop_front();
            }
            // Its own ports or the daemon's backlog may be used up: then the next one is tried.
            open.extend(attack(at, done.made).ok());
            done.made += 1;
        }
        if letter_at <= Instant::now() {
            letter_at += LETTER_EVERY;
            open.iter_mut().for_each(|(kind, socket)| {
                if *kind == Kind::SlowHead {
                    let _ = socket.write(b"x");
                }
            });
        }
        thread::sleep(TICK);
    }
    done.held = open.len() as u64;
    done.ended = open.iter_mut().filter_map(|(_, socket)| is_over(socket).then_some(())).count() as u64;
    say(&serde_json::json!(done).to_string());
    Exit::Done
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

fn attack(at: SocketAddr, number: u64) -> io::Result<(Kind, TcpStream)> {
    let kind = KINDS[(number % KINDS.len() as u64) as usize];
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&fd, &FROM)?;
    // Its own ports are free again at once.
    set_socket_linger(&fd, Some(Duration::ZERO))?;
    let mut socket = TcpStream::from(fd);
    socket.set_nonblocking(true)?;
    match connect(&socket, &at) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let noise: [u8; 4096] = std::array::from_fn(|index| (index as u64 * (number | 1) % 251) as u8);
    let said: &[u8] = match kind {
        Kind::SlowHead => b"GET /ws HTTP/1.1\r\nHost: ",
        Kind::Garbage => &noise,
        Kind::BadToken => {
            b"GET /v1/runs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer eyJhbGciOiJIUzI1NiJ9.e30.AAAA\r\n\r\n"
        }
        Kind::BadFrame => {
            b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
              Sec-WebSocket-Protocol: runcast.v1\r\n\r\n\x81\xff\0\0\0\0\x7f\xff\xff\xff"
        }
        Kind::Silence => b"",
    };
    // Whatever the other side does not take, it does not get.
    let _ = socket.write(said);
    Ok((kind, socket))
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
