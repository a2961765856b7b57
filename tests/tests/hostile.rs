//! Hostile load beside honest users: slow heads, garbage, floods of bad tokens and of connections that say
//! nothing, messages that are too much. Nothing of the honest is lost, memory stays in its budget (and the
//! process within a limit of the system), and how much slower they are is printed.

use runcast_tests::{Ask, Daemon, Door, User, Worker, raw_request};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Runs of each honest user, without the load and again with it.
const RUNS: usize = 20;
/// Events of a run besides its own.
const MESSAGES: u64 = 10;
const USERS: [&str; 3] = ["alice", "bob", "carol"];
/// What the daemon may use, and what the system lets it have (address space, which is more).
const BUDGET_MIB: u64 = 256;
const ADDRESS_SPACE_KIB: u64 = 3 << 20;

/// What is done to the daemon until it is over: one thing after the other, counted.
fn attack(door: &Door, is_over: &AtomicBool, count: &AtomicU64, kind: usize) {
    let mut held: Vec<TcpStream> = Vec::new();
    let mut n = 0_u64;
    while !is_over.load(Ordering::SeqCst) {
        n += 1;
        count.fetch_add(1, Ordering::SeqCst);
        let Ok(mut socket) = TcpStream::connect(door.address()) else { continue };
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a socket has time-outs");
        let mut say = |text: &[u8]| drop(socket.write_all(text));
        match kind {
            // Slow heads: one letter of each that is held, at each turn.
            0 => say(b"GET /ws HTTP/1.1\r\nHost: "),
            // Garbage.
            1 => {
                let noise: Vec<u8> = (0..4096).map(|at| (at * n % 251) as u8).collect();
                say(&noise);
            }
            // Bad tokens.
            2 => {
                say(b"GET /v1/runs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer eyJhbGciOiJIUzI1NiJ9.e30.AAAA\r\n\r\n");
                drop(socket.read(&mut [0; 256]));
            }
            // Upgrades of which nothing comes but frames that are too long, binary, or not masked.
            3 => {
                say(b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                      Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                      Sec-WebSocket-Protocol: runcast.v1\r\n\r\n");
                say(&[[0x81, 0xff, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff], [0x82; 10], [0x81; 10]]
                    [n as usize % 3]);
            }
            // Nothing at all, from very many.
            _ => {}
        }
        held.push(socket);
        if held.len() > 400 {
            held.drain(..200);
        }
        if kind == 0 {
            held.iter().for_each(|mut slow| drop(slow.write(b"x")));
        }
    }
}

/// One honest user: asks for runs one after the other; the times from asking to each end.
fn use_honestly(user: &mut User, name: &str, from: usize) -> Vec<Duration> {
    let run = |n: usize| {
        let begun = Instant::now();
        user.run(&format!("key_{n}"), &format!("thread_{name}"), &json!(n));
        user.until("agent_completed");
        user.ack();
        begun.elapsed()
    };
    (from..from + RUNS).map(run).collect()
}

/// Executes runs until all are done.
fn work(door: &Door) {
    let mut worker = Worker::connect(door, 8, &json!([])).expect("a welcome");
    for _ in 0..2 * RUNS * USERS.len() {
        let run = worker.take();
        for n in 1..=MESSAGES {
            worker.event(&run, n, "agent_output", &json!({ "delta": "word " }));
        }
        worker.complete(&run, MESSAGES + 1, &json!("done"));
    }
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() * 99 / 100]
}

/// Asks until the address is heard again.
fn resident_mib(door: &Door) -> u64 {
    let metrics = loop {
        let (status, metrics) = raw_request(door.address(), "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n");
        if status == 200 {
            break metrics;
        }
    };
    let line = metrics.lines().find(|line| line.starts_with("process_resident_memory_bytes "));
    let bytes = line.and_then(|line| line.split(' ').nth(1)?.parse::<f64>().ok());
    (bytes.expect("the metrics tell it") / f64::from(1 << 20)) as u64
}

#[test]
#[allow(clippy::print_stderr, reason = "how much slower is told, not judged")]
fn honest_users_lose_nothing_under_hostile_load() {
    let memory = format!("store.memory={BUDGET_MIB}MiB");
    let settings = [&*memory, "runs.active_per_user=3", "server.hello_timeout=2s"];
    let daemon = Daemon::limited(&settings, ADDRESS_SPACE_KIB);
    let door = daemon.door();
    // They are there before: from this one address nobody new would be heard during the attack.
    let mut users = USERS.map(|name| User::connected(name, "laptop", &door));
    let worker = thread::spawn({
        let door = door.clone();
        move || work(&door)
    });
    let measure = |users: &mut [User; 3], from: usize| -> Vec<Duration> {
        thread::scope(|scope| {
            let threads: Vec<_> = users
                .iter_mut()
                .zip(USERS)
                .map(|(user, name)| scope.spawn(move || use_honestly(user, name, from)))
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("an honest user")).collect()
        })
    };
    let quiet = p99(measure(&mut users, 0));
    let (is_over, count) = (AtomicBool::new(false), AtomicU64::new(0));
    let loaded = thread::scope(|scope| {
        for kind in 0..5 {
            let (door, is_over, count) = (&door, &is_over, &count);
            scope.spawn(move || attack(door, is_over, count, kind));
        }
        let times = measure(&mut users, RUNS);
        is_over.store(true, Ordering::SeqCst);
        p99(times)
    });
    worker.join().expect("every run was executed");
    // Each `User` has checked that its events come without a gap; these are all that there are.
    for user in &users {
        assert_eq!(user.position(), 2 * RUNS as u64 * (MESSAGES + 3));
    }
    assert_eq!(Ask::new("GET", "/livez").send(&door).status, 200, "that is answered always");
    let attacks = count.load(Ordering::SeqCst);
    let ratio = loaded.as_secs_f64() / quiet.as_secs_f64();
    eprintln!("{attacks} attacks; p99 of a run {quiet:?} without, {loaded:?} with: {ratio:.2} times");
    let resident = resident_mib(&door);
    eprintln!("{resident} MiB of {BUDGET_MIB} MiB are in use");
    assert!(resident < BUDGET_MIB, "{resident} MiB are in use");
}
