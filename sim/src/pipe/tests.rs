//! What a pipe does that a TCP connection does.

use super::*;
use crate::schedule::MS;
use runcast::conn::Edge;
use std::io::{self, ErrorKind, Read, Write};

struct Bench {
    schedule: Schedule,
    net: Net,
    server: Option<End>,
}

impl Bench {
    fn new() -> Self {
        let schedule = Schedule::default();
        let net = Net::new(schedule.clone(), Dice::new(1, 1));
        Self { schedule, net, server: None }
    }

    fn route(buffer: usize) -> Route {
        Route { owner: 5, zone: 0, latency: MS, bytes_per_s: 1_000_000, buffer, tiny: false }
    }

    /// Lets everything happen until `time`, and tells whom it woke.
    fn run(&mut self, time: Micros) -> (Vec<usize>, Vec<PipeId>) {
        while self.schedule.next().is_some_and(|at| at <= time) {
            match self.schedule.pop() {
                Some(Event::Call(id)) => self.server = self.net.answer(id, true),
                Some(Event::Arrive(id, way)) => self.net.arrive(id, way),
                Some(Event::Room(id, way)) => self.net.room(id, way),
                other => panic!("nothing else was planned: {other:?}"),
            }
        }
        let (mut actors, mut server) = (Vec::new(), Vec::new());
        self.net.take_woken_actors(&mut actors);
        self.net.take_woken_server(&mut server);
        (actors, server)
    }

    fn connected(buffer: usize) -> (Self, End) {
        let mut bench = Self::new();
        let client = bench.net.call(Self::route(buffer));
        assert_eq!(client.status(), Status::Calling);
        assert_eq!(bench.run(10 * MS).0, [5]);
        assert_eq!(client.status(), Status::Connected);
        (bench, client)
    }
}

fn blocks(result: io::Result<usize>) -> bool {
    result.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn the_daemons_end_is_woken_once_until_it_has_read_all_there_is() {
    let (mut bench, mut client) = Bench::connected(100);
    let mut server = bench.server.take().unwrap();
    let mut buffer = [0; 10];
    client.write_all(b"one").unwrap();
    assert_eq!(bench.run(20 * MS).1, [client.id()]);
    assert_eq!(server.edge(), Edge::UntilShort);
    client.write_all(b"two").unwrap();
    assert!(bench.run(30 * MS).1.is_empty(), "it has not read the first");
    assert_eq!(server.read(&mut buffer[..4]).unwrap(), 4);
    client.write_all(b"three").unwrap();
    assert!(bench.run(40 * MS).1.is_empty(), "it was not told that there is no more");
    assert_eq!(server.read(&mut buffer).unwrap(), 7);
    client.write_all(b"four").unwrap();
    assert_eq!(bench.run(50 * MS).1, [client.id()]);
    drop(client);
    assert_eq!(bench.run(60 * MS).1, [server.id()]);
    assert_eq!(server.edge(), Edge::UntilBlocked, "an end is the last that it is woken for");
    assert_eq!((server.read(&mut buffer).unwrap(), server.read(&mut buffer).unwrap()), (4, 0));
}

#[test]
fn a_clients_end_is_woken_once_until_it_would_block() {
    let (mut bench, mut client) = Bench::connected(100);
    let mut server = bench.server.take().unwrap();
    assert!(blocks(client.read(&mut [0; 10])));
    server.write_all(b"one").unwrap();
    assert_eq!(bench.run(20 * MS).0, [5]);
    assert_eq!(client.read(&mut [0; 10]).unwrap(), 3);
    server.write_all(b"two").unwrap();
    assert!(bench.run(30 * MS).0.is_empty(), "it has not asked for more");
    assert_eq!(client.read(&mut [0; 10]).unwrap(), 3);
    assert!(blocks(client.read(&mut [0; 10])));
    server.write_all(b"three").unwrap();
    assert_eq!(bench.run(40 * MS).0, [5]);
}

#[test]
fn a_full_pipe_blocks_its_writer_and_wakes_it_when_there_is_room() {
    let (mut bench, mut client) = Bench::connected(4);
    assert_eq!(client.write(b"sixty").unwrap(), 4);
    assert!(blocks(client.write(b"y")));
    assert!(bench.run(20 * MS).0.is_empty());
    let mut server = bench.server.take().unwrap();
    assert_eq!(server.read(&mut [0; 2]).unwrap(), 2);
    assert_eq!(bench.run(30 * MS).0, [5]);
    assert_eq!(client.write(b"ty!").unwrap(), 2);
}

#[test]
fn what_is_blocked_waits_and_comes_later() {
    let (mut bench, mut client) = Bench::connected(100);
    bench.net.set_blocked(0, Way::Up, true);
    client.write_all(b"hello").unwrap();
    assert!(bench.run(500 * MS).1.is_empty());
    bench.net.set_blocked(0, Way::Up, false);
    assert_eq!(bench.run(600 * MS).1, [client.id()]);
    assert_eq!(bench.server.as_mut().unwrap().read(&mut [0; 10]).unwrap(), 5);
}

#[test]
fn a_closed_end_is_an_end_of_stream_and_then_a_reset_for_the_other() {
    let (mut bench, mut client) = Bench::connected(100);
    bench.server.take();
    assert_eq!(bench.run(20 * MS).0, [5]);
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    client.write_all(b"?").unwrap();
    assert_eq!(bench.run(30 * MS).0, [5]);
    assert!(client.read(&mut [0; 1]).is_err());
}

#[test]
fn after_a_loss_of_power_nobody_is_told_before_asking() {
    let (mut bench, mut client) = Bench::connected(100);
    bench.net.set_host(false);
    bench.server.take();
    assert!(bench.run(SECOND).0.is_empty());
    bench.net.set_host(true);
    assert!(bench.run(2 * SECOND).0.is_empty());
    client.write_all(b"?").unwrap();
    assert_eq!(bench.run(3 * SECOND).0, [5]);
    assert!(client.read(&mut [0; 1]).is_err());
}

#[test]
fn nobody_listening_is_a_refusal() {
    let bench = Bench::new();
    let client = bench.net.call(Bench::route(100));
    assert!(bench.schedule.pop().is_some());
    assert!(bench.net.answer(client.id(), false).is_none());
    while let Some(Event::Arrive(id, way)) = bench.schedule.pop() {
        bench.net.arrive(id, way);
    }
    assert_eq!(client.status(), Status::Refused);
}

#[test]
fn tiny_connections_move_a_few_bytes_at_a_time() {
    let mut bench = Bench::new();
    let mut client = bench.net.call(Route { tiny: true, ..Bench::route(10_000) });
    bench.run(10 * MS);
    assert!(client.write(&[0; 1000]).unwrap() <= 64);
}
