//! The load generator: devices and workers by the thousand, in one process, on one thread and one poll. The
//! bench that started it gives orders on standard input, and reads on standard output what came of them.

mod count;
mod device;
mod foreign;
mod peer;
mod publish;
mod web;
mod worker;

use super::order::{Answer, Crowd, From, Order, Tongue};
use crate::auth::{Secret, sign};
use crate::cli::Exit;
use count::Count;
use device::{ACK_AFTER, Device};
use foreign::Role;
use mio::{Events, Poll, Token, Waker};
use peer::Call;
use runcast_core::input::Claims;
use std::collections::VecDeque;
use std::io::{self, BufRead, ErrorKind, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};
use worker::{Runs, Worker};

pub(super) use foreign::nats;

/// Orders have come.
const WAKER: Token = Token(usize::MAX);
/// Tokens from here on are workers', those before devices'.
const WORKERS: usize = 1 << 32;
/// For so long nothing may happen of what is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it says how far it is.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How often workers say that they are alive.
const BEAT_EVERY: Duration = Duration::from_secs(5);
/// The longest that is waited at once.
const WAIT: Duration = Duration::from_millis(100);

/// Does what standard input says, until it ends.
pub(crate) fn main() -> Exit {
    match Load::new().and_then(Load::obey) {
        Ok(()) => Exit::Done,
        Err(error) => {
            answer(&Answer::Failed { why: error.to_string() });
            Exit::Failed
        }
    }
}

struct Load {
    poll: Poll,
    orders: Receiver<Order>,
    at: SocketAddr,
    tongue: Tongue,
    /// What tokens are signed with; none where no daemon is.
    secret: Option<Secret>,
    devices: Vec<Device>,
    workers: Vec<Worker>,
    runs: Runs,
    /// Of each user: the events published for it, and its devices that get them.
    users: Vec<User>,
    count: Count,
    /// Devices that have something to acknowledge, and when.
    acks: VecDeque<(Instant, usize)>,
    beat_at: Instant,
    tell_at: Instant,
}

#[derive(Clone, Debug, Default)]
struct User {
    published: u64,
    devices: u64,
    has_marked: bool,
}

impl Load {
    fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let (tell, orders) = channel();
        thread::spawn(move || {
            for line in io::stdin().lock().lines().map_while(Result::ok) {
                match serde_json::from_str(&line) {
                    Ok(order) => {
                        if tell.send(order).is_err() || waker.wake().is_err() {
                            return;
                        }
                    }
                    Err(error) => answer(&Answer::Failed { why: format!("no order: {error}") }),
                }
            }
            drop(tell);
            let _ = waker.wake();
        });
        Ok(Self {
            poll,
            orders,
            at: SocketAddr::from(([127, 0, 0, 1], 0)),
            tongue: Tongue::Relay,
            secret: None,
            devices: Vec::new(),
            workers: Vec::new(),
            runs: Runs::default(),
            users: Vec::new(),
            count: Count::new(),
            acks: VecDeque::new(),
            beat_at: Instant::now() + BEAT_EVERY,
            tell_at: Instant::now() + TELL_EVERY,
        })
    }

    fn obey(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            match self.orders.try_recv() {
                Err(TryRecvError::Disconnected) => return Ok(()),
                Err(TryRecvError::Empty) => {
                    if let Err(why) = self.turn(&mut events, WAIT) {
                        answer(&Answer::Failed { why });
                        return Ok(());
                    }
                }
                Ok(order) => {
                    self.count.begin();
                    match self.obey_one(order, &mut events) {
                        Ok(()) => answer(&Answer::Done(self.count.tally())),
                        Err(why) => answer(&Answer::Failed { why }),
                    }
                }
            }
        }
    }

    fn obey_one(&mut self, order: Order, events: &mut Events) -> Result<(), String> {
        match order {
            Order::Aim { at, tongue } => {
                self.secret = None;
                if let Tongue::Runcast { secret } = &tongue {
                    let secret = std::fs::read(secret).map_err(|error| format!("the secret: {error}"))?;
                    self.secret = Some(Secret::new(&secret));
                }
                (self.at, self.tongue) = (at, tongue);
                Ok(())
            }
            Order::Connect(crowd) => self.connect(&crowd, events),
            Order::Work { workers } => {
                self.workers.resize_with(workers, Worker::default);
                self.rejoin(events)
            }
            Order::Rejoin => self.rejoin(events),
            Order::Run { users } => self.run(users.min(self.users.len()), events),
            Order::Stall { devices } => {
                for device in self.devices.iter_mut().filter(|it| it.is_marked).take(devices) {
                    device.is_stalled = true;
                    device.peer.narrow().map_err(|error| error.to_string())?;
                    self.users[device.user].devices -= 1;
                }
                Ok(())
            }
            Order::Publish(flow) => self.publish(&flow, events),
            Order::Cut { workers } => {
                self.workers.iter_mut().filter(|_| workers).for_each(|worker| worker.peer.cut());
                for device in &mut self.devices {
                    device.peer.cut();
                    (device.ack_at, device.is_queued) = (None, false);
                }
                self.acks.clear();
                Ok(())
            }
            Order::Back { from } => self.back(from, events),
            Order::End => {
                self.count.ends = 0;
                self.runs.complete(&mut self.workers)?;
                let seeing =
                    self.devices.iter().filter(|it| it.peer.is_connected() && !it.is_stalled).count();
                self.wait("ends seen", events, move |count| (count.ends, seeing as u64))
            }
            Order::Rest { ms } => {
                let until = Instant::now() + Duration::from_millis(ms);
                while Instant::now() < until {
                    self.turn(events, WAIT.min(until.saturating_duration_since(Instant::now())))?;
                }
                Ok(())
            }
        }
    }

    fn connect(&mut self, crowd: &Crowd, events: &mut Events) -> Result<(), String> {
        let marked = |user: usize, device: usize| device == 0 && user < crowd.marked;
        self.users = (0..crowd.users)
            .map(|user| User { published: 0, devices: crowd.devices as u64, has_marked: marked(user, 0) })
            .collect();
        self.devices = (0..crowd.users * crowd.devices)
            .map(|number| {
                let (user, device) = (number % crowd.users, number / crowd.users);
                Device::new(user, marked(user, device))
            })
            .collect();
        self.back(From::Position, events)
    }

    /// Connects every device, all at once.
    fn back(&mut self, from: From, events: &mut Events) -> Result<(), String> {
        self.count.welcome = 0;
        for index in 0..self.devices.len() {
            let jwt = self.token(&format!("u-{}", self.devices[index].user), "user");
            let (registry, device) = (self.poll.registry(), &mut self.devices[index]);
            let got = device.got;
            if let Some(jwt) = jwt {
                let hello = device.hello(index, from == From::Oldest);
                let call = Call { at: self.at, path: "/ws", jwt: &jwt, hello };
                device.peer.connect(registry, Token(index), call)?;
            } else {
                let role = device.role(index, from == From::Oldest);
                device.peer.connect_foreign(registry, Token(index), (self.at, &self.tongue), &role)?;
            }
            self.count.missing += got - device.got;
        }
        let all = self.devices.len() as u64;
        self.wait("devices welcome", events, move |count| (count.welcome, all))?;
        self.settle(events)
    }

    /// Waits until every device has all that was published for it.
    fn settle(&mut self, events: &mut Events) -> Result<(), String> {
        let missing = self.count.missing;
        self.wait("events missing", events, move |count| (missing - count.missing.min(missing), missing))?;
        for device in self.devices.iter().filter(|device| !device.is_stalled) {
            let due = self.users[device.user].published;
            if device.got != due {
                return Err(format!("a device has {} events of {due}", device.got));
            }
        }
        Ok(())
    }

    fn rejoin(&mut self, events: &mut Events) -> Result<(), String> {
        self.count.workers = 0;
        for index in 0..self.workers.len() {
            let (registry, token) = (self.poll.registry(), Token(WORKERS + index));
            if let Some(jwt) = self.token("bench", "worker") {
                let hello = Worker::hello(index, &self.runs);
                let call = Call { at: self.at, path: "/worker", jwt: &jwt, hello };
                self.workers[index].peer.connect(registry, token, call)?;
            } else {
                let (role, peer) = (Role::Publisher(index), &mut self.workers[index].peer);
                peer.connect_foreign(registry, token, (self.at, &self.tongue), &role)?;
            }
        }
        let all = self.workers.len() as u64;
        self.wait("workers welcome", events, move |count| (count.workers, all))
    }

    fn run(&mut self, users: usize, events: &mut Events) -> Result<(), String> {
        if self.secret.is_none() {
            self.runs = Runs::bare(users, self.workers.len());
            return Ok(());
        }
        self.count.live = 0;
        for device in self.devices.iter_mut().take(users) {
            let ask = r#"{"type":"run","key":"k","thread":"bench","agent":"bench","input":null}"#;
            device.peer.say(ask.to_owned())?;
            device.peer.flush()?;
        }
        self.wait("runs begun", events, move |count| (count.live, users as u64))
    }

    /// Turns until so much is done as shall be; fails when nothing of it happens for long.
    fn wait(
        &mut self,
        what: &str,
        events: &mut Events,
        progress: impl Fn(&Count) -> (u64, u64),
    ) -> Result<(), String> {
        let mut patience = Patience::new();
        loop {
            let (done, all) = progress(&self.count);
            if done >= all {
                return Ok(());
            }
            if patience.is_over(done) {
                return Err(format!("{what}: {done} of {all}, and no more for {} s", PATIENCE.as_secs()));
            }
            self.tell(what, done, all);
            self.turn(events, WAIT)?;
        }
    }

    /// Waits for what comes, once, and hears it.
    fn turn(&mut self, events: &mut Events, wait: Duration) -> Result<(), String> {
        let wait = self.acks.front().map_or(wait, |(at, _)| {
            wait.min(at.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)))
        });
        match self.poll.poll(events, Some(wait)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            polled => polled.map_err(|error| error.to_string())?,
        }
        for event in events.iter() {
            match event.token() {
                WAKER => {}
                Token(number) if number >= WORKERS => {
                    let (index, runs) = (number - WORKERS, &mut self.runs);
                    let heard = self.workers[index].hear(index, runs, &mut self.count);
                    heard.map_err(|why| format!("worker {index}: {why}"))?;
                }
                Token(index) => self.hear(index)?,
            }
        }
        self.acknowledge()
    }

    fn hear(&mut self, index: usize) -> Result<(), String> {
        let device = &mut self.devices[index];
        if device.is_stalled || !device.peer.is_connected() {
            return Ok(());
        }
        device.hear(&mut self.count).map_err(|why| format!("device {index}: {why}"))?;
        if let Some(at) = device.ack_at.filter(|_| !device.is_queued) {
            device.is_queued = true;
            self.acks.push_back((at, index));
        }
        Ok(())
    }

    /// Sends the acknowledgements that are due, and signs of life.
    fn acknowledge(&mut self) -> Result<(), String> {
        let now = Instant::now();
        while let Some((_, index)) = self.acks.pop_front_if(|(at, _)| *at <= now) {
            let device = &mut self.devices[index];
            match device.ack_at {
                // It was acknowledged early, and there is more since.
                Some(at) if at > now => self.acks.push_back((now + ACK_AFTER, index)),
                Some(_) => {
                    device.is_queued = false;
                    device.ack()?;
                    device.peer.flush()?;
                }
                None => device.is_queued = false,
            }
        }
        if now >= self.beat_at {
            self.beat_at = now + BEAT_EVERY;
            for worker in &mut self.workers {
                worker.peer.say(r#"{"type":"beat"}"#.to_owned())?;
                worker.peer.flush()?;
            }
        }
        Ok(())
    }

    fn tell(&mut self, what: &str, done: u64, of: u64) {
        if Instant::now() >= self.tell_at {
            self.tell_at = Instant::now() + TELL_EVERY;
            answer(&Answer::Doing { what: what.to_owned(), done, of: (of < u64::MAX).then_some(of) });
        }
    }

    /// None where no daemon is.
    fn token(&self, user: &str, scope: &str) -> Option<String> {
        let secret = self.secret.as_ref()?;
        let exp = u64::from(u32::MAX);
        let scope = Some(scope.to_owned());
        Some(sign(&Claims { sub: user.to_owned(), exp, scope, ..Claims::default() }, secret, None))
    }
}

/// How long nothing has happened of what is waited for.
#[derive(Debug)]
struct Patience {
    done: u64,
    until: Instant,
}

impl Patience {
    fn new() -> Self {
        Self { done: 0, until: Instant::now() + PATIENCE }
    }

    /// So much is done now: whether that is no more than [`PATIENCE`] ago.
    fn is_over(&mut self, done: u64) -> bool {
        if done != self.done {
            *self = Self { done, ..Self::new() };
        }
        Instant::now() > self.until
    }
}

/// Says something to the bench. If that is gone, so is the end of standard input, which ends this process.
fn answer(answer: &Answer) {
    if let Ok(line) = serde_json::to_string(answer) {
        let _ = writeln!(io::stdout(), "{line}");
    }
}
