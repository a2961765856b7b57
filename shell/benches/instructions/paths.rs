//! The paths whose instructions are counted.

use crate::world::World;
use runcast_core::ids::ConnId;
use runcast_core::wire::worker;
use std::hint::black_box;

/// What is counted, again and again.
pub(crate) trait Steps {
    /// Brings about the state in which a step is made. Not counted.
    fn prepare(&mut self) {}
    /// The step.
    fn step(&mut self);
}

/// One path.
pub(crate) struct Path {
    pub(crate) name: &'static str,
    /// What one step of it is.
    pub(crate) what: &'static str,
    pub(crate) begin: fn() -> Box<dyn Steps>,
}

pub(crate) const PATHS: [Path; 8] = [
    Path {
        name: "decode",
        what: "a worker's event of 254 bytes is read",
        begin: || Box::new(Decode(event("run_bench_00000000", 1))),
    },
    Path {
        name: "append",
        what: "a turn in which a worker's event arrives and is given to the store",
        begin: || Box::new(Turn(Stage::new(0), Stage::event_arrives)),
    },
    Path {
        name: "confirm",
        what: "a turn in which it is durable and the worker is told, nobody watching",
        begin: || Box::new(Turn(Stage::new(0), Stage::event_is_stored)),
    },
    Path {
        name: "deliver",
        what: "the same, and three devices are sent it",
        begin: || Box::new(Turn(Stage::new(3), Stage::event_is_stored)),
    },
    Path {
        name: "ack",
        what: "a turn in which a device acknowledges an event",
        begin: || Box::new(Turn(Stage::new(1), Stage::acks_arrive)),
    },
    Path {
        name: "idle",
        what: "a turn with nothing to do, 1,000 devices connected",
        begin: || Box::new(Turn(Stage::new(1_000), |_| {})),
    },
    Path {
        name: "resume",
        what: "a device comes back: from its request to the last of ten events that it missed",
        begin: || Box::new(Resume::new()),
    },
    Path {
        name: "crowd",
        what: "16 of 1,000 users get an event each, 16 acknowledge theirs: from first to last",
        begin: || Box::new(Crowd::new()),
    },
];

/// Events that a device misses which resumes.
const MISSED: u64 = 10;

/// A worker's event, as it is sent.
fn event(run: &str, n: u64) -> String {
    let text = ".".repeat(150);
    format!(
        r#"{{"type":"event","run":"{run}","attempt":1,"n":{n},"event":"agent_output","data":{{"delta":"{text}"}}}}"#
    )
}

/// A user's run that a worker executes, and devices that watch: of the user, or, if they are many, of others.
struct Stage {
    world: World,
    worker: ConnId,
    devices: Vec<ConnId>,
    run: String,
    n: u64,
}

impl Stage {
    fn new(devices: usize) -> Self {
        let mut world = World::new();
        let hello = r#"{"type":"hello","worker":"w","agents":[{"agent":"bench","slots":10}]}"#;
        let worker = world.connect("/worker", "somebody", hello);
        let asker = world.connect("/ws", "u-0", r#"{"type":"hello","ack":false}"#);
        world.settle();
        world.say(asker, r#"{"type":"run","key":"k","thread":"bench","agent":"bench","input":null}"#);
        world.settle();
        let said = world.written(worker);
        let run = field(&said, "run").expect("the run is offered").to_owned();
        world.say(worker, &format!(r#"{{"type":"started","run":"{run}","attempt":1}}"#));
        world.settle();
        world.leave(asker);
        let devices = (0..devices).map(|number| {
            let user = format!("u-{}", if devices > 3 { number } else { 0 });
            let hello = format!(r#"{{"type":"hello","device":"d-{number}","from":"head"}}"#);
            world.connect("/ws", &user, &hello)
        });
        let devices = devices.collect();
        world.settle();
        world.forget();
        Self { world: world.begun(), worker, devices, run, n: 0 }
    }

    /// An event is on its way to the daemon.
    fn publish(&mut self) {
        self.n += 1;
        self.world.say(self.worker, &event(&self.run, self.n));
    }

    /// Every device acknowledges all so far: `run_queued`, `agent_started` and what was published.
    fn acknowledge(&mut self) {
        for device in self.devices.clone() {
            self.world.say(device, &format!(r#"{{"type":"ack","seq":{}}}"#, self.n + 2));
        }
    }

    /// All that is under way comes to its end.
    fn settle(&mut self) {
        self.world.settle();
        self.world.forget();
    }

    fn event_arrives(&mut self) {
        self.settle();
        self.publish();
    }

    fn event_is_stored(&mut self) {
        self.acknowledge();
        self.event_arrives();
        self.world.turn();
        assert!(self.world.sync(), "the event is stored");
    }

    fn acks_arrive(&mut self) {
        self.publish();
        self.settle();
        self.acknowledge();
    }
}

/// The first text in a field of this name.
fn field<'a>(said: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = said.split_once(&format!(r#""{name}":""#))?;
    rest.split_once('"').map(|(value, _)| value)
}

struct Decode(String);

impl Steps for Decode {
    fn step(&mut self) {
        assert!(black_box(worker::read(black_box(&self.0))).is_ok(), "a worker may say this");
    }
}

/// A turn of the pump, after this was brought about.
struct Turn(Stage, fn(&mut Stage));

impl Steps for Turn {
    fn prepare(&mut self) {
        (self.1)(&mut self.0);
    }

    fn step(&mut self) {
        self.0.world.turn();
    }
}

/// A device that goes and comes back.
struct Resume {
    stage: Stage,
    epoch: String,
}

impl Resume {
    fn new() -> Self {
        let mut stage = Stage::new(1);
        let device = stage.world.connect("/ws", "u-0", r#"{"type":"hello","device":"other"}"#);
        stage.world.settle();
        let said = stage.world.written(device);
        let epoch = field(&said, "epoch").expect("welcome").to_owned();
        stage.world.leave(device);
        stage.world.settle();
        Self { stage, epoch }
    }
}

impl Steps for Resume {
    fn prepare(&mut self) {
        if let Some(device) = self.stage.devices.pop() {
            let said = self.stage.world.written(device);
            assert!(
                self.stage.n == 0 || said.matches(r#""type":"event""#).count() as u64 == MISSED,
                "{said}"
            );
            self.stage.world.leave(device);
        }
        let position = self.stage.n + 2;
        for _ in 0..MISSED {
            self.stage.publish();
        }
        self.stage.settle();
        let hello = format!(
            r#"{{"type":"hello","device":"d-0","from":{{"epoch":"{}","seq":{position}}}}}"#,
            self.epoch
        );
        let device = self.stage.world.connect("/ws", "u-0", &hello);
        self.stage.devices.push(device);
    }

    fn step(&mut self) {
        self.stage.world.settle();
    }
}

/// Many users, each with a device that watches a run: what grows with how many there are is seen here alone.
struct Crowd {
    world: World,
    worker: ConnId,
    /// Each user's device and run, and how many events that has had.
    members: Vec<(ConnId, String, u64)>,
    /// Whose events come next.
    next: usize,
}

/// Users of the crowd.
const CROWD: usize = 1_000;
/// Events of it in one step, as commits under load have them.
const AT_ONCE: usize = 16;

impl Crowd {
    fn new() -> Self {
        let mut world = World::new();
        let hello =
            format!(r#"{{"type":"hello","worker":"w","agents":[{{"agent":"bench","slots":{CROWD}}}]}}"#);
        let worker = world.connect("/worker", "somebody", &hello);
        world.settle();
        let members = (0..CROWD).map(|number| {
            let hello = r#"{"type":"hello","device":"laptop"}"#;
            let device = world.connect("/ws", &format!("user-{number:05}"), hello);
            let run = format!(
                r#"{{"type":"run","key":"k","thread":"thread-{number:05}","agent":"bench","input":null}}"#
            );
            world.say(device, &run);
            world.settle();
            let said = world.written(worker);
            let run = field(&said, "run").expect("the run is offered").to_owned();
            world.say(worker, &format!(r#"{{"type":"started","run":"{run}","attempt":1}}"#));
            world.settle();
            // The acknowledgement of that, which names it too.
            world.written(worker);
            (device, run, 0)
        });
        let members = members.collect();
        world.forget();
        Self { world: world.begun(), worker, members, next: 0 }
    }
}

impl Steps for Crowd {
    /// The next of them have events on their way; those before them acknowledge theirs.
    fn prepare(&mut self) {
        self.world.forget();
        for _ in 0..AT_ONCE {
            let before = (self.next + CROWD - AT_ONCE) % CROWD;
            let (device, _, n) = &self.members[before];
            if *n > 0 {
                self.world.say(*device, &format!(r#"{{"type":"ack","seq":{}}}"#, n + 2));
            }
            let (_, run, n) = &mut self.members[self.next];
            *n += 1;
            self.world.say(self.worker, &event(run, *n));
            self.next = (self.next + 1) % CROWD;
        }
    }

    fn step(&mut self) {
        self.world.settle();
    }
}
