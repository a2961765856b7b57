//! The production loop over real sockets.

mod common;

use common::{Forgetful, trusting};
use runcast::metrics::LoopMeter;
use runcast::mio_loop::MioLoop;
use runcast::pump::Pump;
use runcast_core::Core;
use runcast_core::config::Config;
use runcast_core::effect::Effects;
use runcast_core::record::Image;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;
use tungstenite::{ClientRequestBuilder, Message};

/// A daemon without a store, which ends with this process.
fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        let mio = MioLoop::new().expect("descriptors");
        let mut effects = Effects::new();
        let core = Core::open(Config::default(), [7; 32], Image::default(), mio.now(), &mut effects);
        let pump = Pump::new(core, effects, Forgetful::default(), trusting());
        mio.run(listener, pump, None, LoopMeter::default()).expect("a loop that goes on");
    });
    address
}

fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).expect("the daemon listens");
    // Only so that a failure is a failure and not a test that hangs.
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("not zero");
    socket
}

#[test]
fn a_request_in_pieces_is_answered_and_the_end_is_seen() {
    let address = start();
    for _ in 0..3 {
        let mut socket = connect(address);
        for piece in ["GET /livez HT", "TP/1.1\r\nHost: x\r", "\n\r\n and what nobody asked for"] {
            socket.write_all(piece.as_bytes()).unwrap();
        }
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
}

#[test]
fn many_at_once_are_all_answered() {
    let address = start();
    let mut sockets: Vec<_> = (0..200).map(|_| connect(address)).collect();
    for socket in &mut sockets {
        socket.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    }
    for mut socket in sockets {
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
}

#[test]
fn who_sends_too_much_reads_why_it_is_closed() {
    let address = start();
    let uri = format!("ws://{address}/ws").parse::<tungstenite::http::Uri>().unwrap();
    let request = ClientRequestBuilder::new(uri).with_sub_protocol("runcast.v1");
    let (mut client, _) = tungstenite::client(request, connect(address)).unwrap();
    client.send(Message::text("x".repeat(300 * 1024))).unwrap();
    let close = loop {
        if let Message::Close(close) = client.read().unwrap() {
            break close.expect("a reason");
        }
    };
    assert_eq!(u16::from(close.code), 4505, "{close}");
}
