//! Hostile load beside honest users: slow heads, garbage, floods of bad tokens, of frames that nobody may
//! send and of connections that say nothing. Each is answered as the protocol says, and counted; nothing of
//! the honest is lost, memory stays in its budget at its peak (and the process within a limit of the system),
//! and how much slower they are is printed.

use runcast_tests::{Ask, Daemon, Door, Ended, PATIENCE, Socket, User, Worker, dial, eventually};
use serde_json::json;
use std::collections::VecDeque;
use std::fs;
use std::io::{ErrorKind, Read, Write};
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
/// Connections of one attacker at the same time.
const HELD: usize = 50;
/// Every kind of attack is answered so often at least before it is over.
const ANSWERED: u64 = 50;

/// What is done to the daemon, and what it answers.
#[derive(Clone, Copy, Debug)]
enum Attack {
    /// A head that comes letter by letter and never ends: 408, `bad_message`.
    SlowHead,
    /// Nothing at all: the same.
    Silence,
    /// What is no HTTP: 400, `bad_message`.
    Garbage,
    /// A token that nobody has signed: 401, `token_signature`.
    BadToken,
    /// A frame of eight exabytes: close 4505.
    LongFrame,
    /// A binary frame: close 4504.
    BinaryFrame,
    /// A frame that is not masked: close 1002.
    BareFrame,
}

impl Attack {
    const ALL: [Self; 7] = [
        Self::SlowHead,
        Self::Silence,
        Self::Garbage,
        Self::BadToken,
        Self::LongFrame,
        Self::BinaryFrame,
        Self::BareFrame,
    ];

    /// What is said at once.
    fn opening(self) -> Vec<u8> {
        let upgrade = b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                        Sec-WebSocket-Protocol: runcast.v1\r\n\r\n";
        let token = b"GET /v1/runs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer eyJhbGciOiJIUzI1NiJ9.e30.AAAA\r\n\r\n";
        match self {
            Self::SlowHead => b"GET /ws HTTP/1.1\r\nHost: ".to_vec(),
            Self::Silence => Vec::new(),
            Self::Garbage => (0..4096).map(|at| (at * 7 % 251) as u8).collect(),
            Self::BadToken => token.to_vec(),
            Self::LongFrame => [&upgrade[..], &[0x81, 0xff, 0x7f], &[0xff; 7], &[0; 4]].concat(),
            Self::BinaryFrame => [&upgrade[..], &[0x82, 0x82, 0, 0, 0, 0, 1, 2]].concat(),
            Self::BareFrame => [&upgrade[..], b"\x81\x02{}"].concat(),
        }
    }

    /// Whether a connection on which this was said is answered as it should be. Given back while it is not
    /// answered.
    fn judge(self, mut socket: TcpStream) -> Result<bool, TcpStream> {
        let code = match self {
            Self::SlowHead | Self::Silence => return is_timed_out(self, socket),
            Self::Garbage => return Ok(begins(&mut socket, "HTTP/1.1 400 ")),
            Self::BadToken => return Ok(begins(&mut socket, "HTTP/1.1 401 ")),
            Self::LongFrame => 4505,
            Self::BinaryFrame => 4504,
            Self::BareFrame => 1002,
        };
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") && socket.read(&mut byte).is_ok_and(|read| read > 0) {
            head.push(byte[0]);
        }
        Ok(head.starts_with(b"HTTP/1.1 101 ")
            && Socket::upgraded(socket, Vec::new()).end() == Ended(Some(code)))
    }
}

/// Whether an answer begins so.
fn begins(socket: &mut TcpStream, with: &str) -> bool {
    let mut text = String::new();
    socket.read_to_string(&mut text).is_ok() && text.starts_with(with)
}

/// Waits a moment for an answer, and says one letter more if there is none.
fn is_timed_out(attack: Attack, mut socket: TcpStream) -> Result<bool, TcpStream> {
    socket.set_read_timeout(Some(Duration::from_millis(1))).expect("a socket has time-outs");
    match socket.peek(&mut [0]) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            if matches!(attack, Attack::SlowHead) {
                // That it is over is found out by reading.
                let _ = socket.write(b"x");
            }
            Err(socket)
        }
        Ok(_) | Err(_) => {
            socket.set_read_timeout(Some(PATIENCE)).expect("a socket has time-outs");
            Ok(begins(&mut socket, "HTTP/1.1 408 "))
        }
    }
}

/// Attacks until it is over, with many connections at a time, and counts those that were answered as they
/// should be.
fn besiege(door: &Door, attack: Attack, is_over: &AtomicBool, answered: &AtomicU64) {
    let mut held = VecDeque::new();
    while !is_over.load(Ordering::SeqCst) {
        while held.len() < HELD {
            // Its own ports may be used up: then there are less at a time.
            let Ok(mut socket) = dial(door.address()) else { break };
            let _ = socket.write_all(&attack.opening());
            held.push_back(socket);
        }
        for _ in 0..held.len() {
            match held.pop_front().map(|socket| attack.judge(socket)) {
                Some(Ok(is_right)) => drop(answered.fetch_add(u64::from(is_right), Ordering::SeqCst)),
                Some(Err(open)) => held.push_back(open),
                None => {}
            }
        }
    }
}

/// Ends the attacks when it is dropped, also in a test that fails.
struct Siege<'a>(&'a AtomicBool);

impl Drop for Siege<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
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

/// The most memory that the process ever had in use.
fn peak_mib(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.id())).expect("it runs, on Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.expect("the system tells it") >> 10
}

/// What the daemon has counted under one code.
fn counted(metrics: &str, series: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("no {series} in\n{metrics}"))
}

/// Every attack that was answered was counted, under what it was refused or closed for.
fn judge_counts(door: &Door, answered: &[AtomicU64; Attack::ALL.len()]) {
    let of = |attack: Attack| answered[attack as usize].load(Ordering::SeqCst);
    let wanted = [
        (
            "runcast_refusals_total{code=\"bad_message\"}",
            of(Attack::SlowHead) + of(Attack::Silence) + of(Attack::Garbage),
        ),
        ("runcast_refusals_total{code=\"token_signature\"}", of(Attack::BadToken)),
        ("runcast_connections_closed_total{code=\"4505\"}", of(Attack::LongFrame)),
        ("runcast_connections_closed_total{code=\"4504\"}", of(Attack::BinaryFrame)),
        ("runcast_connections_closed_total{code=\"1002\"}", of(Attack::BareFrame)),
        ("runcast_connections_opened_total", Attack::ALL.map(of).iter().sum()),
    ];
    let metrics = Ask::new("GET", "/metrics").send(door).body;
    for (series, wanted) in wanted {
        let found = counted(&metrics, series);
        assert!(found >= wanted, "{series} is {found}, and {wanted} were told so");
    }
    assert_eq!(
        counted(&metrics, "runcast_refusals_total{code=\"rate_limited\"}"),
        0,
        "no attack was kept out"
    );
}

/// Does all that the honest users do once, at the same time; the times from asking to the ends.
fn measure(users: &mut [User; 3], from: usize) -> Vec<Duration> {
    thread::scope(|scope| {
        let threads: Vec<_> = users
            .iter_mut()
            .zip(USERS)
            .map(|(user, name)| scope.spawn(move || use_honestly(user, name, from)))
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("an honest user")).collect()
    })
}

#[test]
#[allow(clippy::print_stderr, reason = "how much slower is told, not judged")]
fn honest_users_lose_nothing_under_hostile_load() {
    let memory = format!("store.memory={BUDGET_MIB}MiB");
    // The limits that would keep the attacks out before they are looked at are tried elsewhere.
    let settings = [
        &*memory,
        "runs.active_per_user=3",
        "server.hello_timeout=2s",
        "server.connections_per_address=4096",
        "limits.unauthenticated_per_address_per_minute=1000000",
    ];
    let daemon = Daemon::limited(&settings, ADDRESS_SPACE_KIB);
    let door = daemon.door();
    let mut users = USERS.map(|name| User::connected(name, "laptop", &door));
    let worker = thread::spawn({
        let door = door.clone();
        move || work(&door)
    });
    let quiet = p99(measure(&mut users, 0));
    let (is_over, answered) = (AtomicBool::new(false), [const { AtomicU64::new(0) }; Attack::ALL.len()]);
    let loaded = thread::scope(|scope| {
        let _siege = Siege(&is_over);
        for attack in Attack::ALL {
            let (door, is_over, answered) = (&door, &is_over, &answered[attack as usize]);
            scope.spawn(move || besiege(door, attack, is_over, answered));
        }
        let times = measure(&mut users, RUNS);
        // Who says too little is answered when its time is over.
        eventually("that every kind of attack is answered often", || {
            let is_enough = answered.iter().all(|count| count.load(Ordering::SeqCst) >= ANSWERED);
            if is_enough { Ok(()) } else { Err(&answered) }
        });
        p99(times)
    });
    worker.join().expect("every run was executed");
    // Each `User` has checked that its events come without a gap; these are all that there are.
    for user in &users {
        assert_eq!(user.position(), 2 * RUNS as u64 * (MESSAGES + 3));
    }
    assert_eq!(Ask::new("GET", "/livez").send(&door).status, 200, "that is answered always");
    judge_counts(&door, &answered);
    let ratio = loaded.as_secs_f64() / quiet.as_secs_f64();
    eprintln!("answered {answered:?} of {:?}", Attack::ALL);
    eprintln!("p99 of a run {quiet:?} without, {loaded:?} with: {ratio:.2} times");
    let peak = peak_mib(&daemon);
    eprintln!("{peak} MiB of {BUDGET_MIB} MiB were in use at most");
    assert!(peak < BUDGET_MIB, "{peak} MiB were in use");
}
