//! The memory budget at the pump's face: what is refused and what waits when there is little left, and that
//! what is live goes on.

mod common;

use common::{Forgetful, Pipe, begin, frame, upgrade_request};
use runcast::conn::Edge;
use runcast::pump::Pump;
use runcast_core::config::{AgentConfig, Config};
use runcast_core::ids::{Agent, ConnId};
use runcast_core::time::Now;
use std::net::{IpAddr, Ipv4Addr};

/// The budget, in bytes.
const BUDGET: u64 = 100 << 20;

struct World {
    pump: Pump<Pipe, Forgetful>,
    now: Now,
}

impl World {
    fn new() -> Self {
        let mut config = Config::default();
        config.store.memory = BUDGET;
        let agent = Agent::parse("research").expect("a name");
        config.agents.insert(agent, AgentConfig::default());
        let (pump, now) = begin(config);
        Self { pump, now }
    }

    /// Turns until nothing more comes of it.
    fn settle(&mut self) {
        for _ in 0..20 {
            self.pump.turn(self.now).expect("a store that does not fail");
        }
    }

    fn use_percent(&mut self, percent: u64) {
        self.pump.memory(BUDGET / 100 * percent);
        self.settle();
    }

    fn connect(&mut self, bytes: &[u8]) -> (ConnId, Pipe) {
        let (server, client) = Pipe::pair();
        client.put(bytes);
        let conn = self.pump.accept(server, IpAddr::V4(Ipv4Addr::LOCALHOST));
        self.settle();
        (conn, client)
    }

    /// A request's whole answer.
    fn ask(&mut self, request: &str) -> String {
        let (_, mut client) = self.connect(request.as_bytes());
        String::from_utf8(client.take()).expect("UTF-8")
    }

    /// A device of alice's that is welcome, from the oldest event on.
    fn device(&mut self, name: &str) -> (ConnId, Pipe) {
        let (conn, mut client) =
            self.connect(upgrade_request("Sec-WebSocket-Protocol: runcast.v1\r\n").as_bytes());
        let hello = format!(r#"{{"type":"hello","token":"alice","device":"{name}","from":"oldest"}}"#);
        let said = self.say(conn, &mut client, &hello);
        assert!(said.contains(r#""type":"welcome""#), "{said}");
        (conn, client)
    }

    /// Says something, and hears what comes of it.
    fn say(&mut self, conn: ConnId, client: &mut Pipe, text: &str) -> String {
        client.put(&frame(1, text.as_bytes()));
        self.pump.ready(conn, Edge::UntilBlocked);
        self.settle();
        String::from_utf8_lossy(&client.take()).into_owned()
    }
}

#[test]
fn near_the_budget_new_runs_and_old_pages_wait_and_what_is_live_goes_on() {
    let mut world = World::new();
    let (laptop, mut live) = world.device("laptop");
    let long = "x".repeat(60_000);
    let mut run = String::new();
    for n in 1..=8 {
        let ask = format!(r#"{{"type":"run","thread":"t{n}","agent":"research","input":"{long}"}}"#);
        let said = world.say(laptop, &mut live, &ask);
        assert!(said.contains(r#""event":"run_queued""#), "{n}: {}", &said[..said.len().min(500)]);
        let (_, rest) = said.split_once(r#""run":""#).expect("its id");
        rest.split_once('"').expect("its end").0.clone_into(&mut run);
        world.say(laptop, &mut live, &format!(r#"{{"type":"ack","seq":{n}}}"#));
    }

    let one_more = r#"{"type":"run","thread":"t9","agent":"research","input":1}"#;
    world.use_percent(94);
    assert!(!world.say(laptop, &mut live, one_more).contains("overloaded"), "there is room up to 95 %");
    world.use_percent(95);
    let said = world.say(laptop, &mut live, &one_more.replace("t9", "t10"));
    assert!(said.contains(r#""code":"overloaded""#) && said.contains(r#""retry_ms":5000"#), "{said}");
    let body = r#"{"agent":"research","input":1}"#;
    let head = "Host: x\r\nAuthorization: Bearer alice\r\n";
    let length = body.len();
    let answer =
        world.ask(&format!("POST /v1/runs HTTP/1.1\r\n{head}Content-Length: {length}\r\n\r\n{body}"));
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("overloaded"), "{answer}");
    let answer = world.ask(&format!("GET /v1/events HTTP/1.1\r\n{head}\r\n"));
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("overloaded"), "{answer}");

    // What it begins with is in the store alone; it is not read.
    let (phone, mut behind) = world.device("phone");
    assert_eq!(world.pump.storage_mut().pages, 0);
    let said = world.say(laptop, &mut live, &format!(r#"{{"type":"cancel","run":"{run}"}}"#));
    assert!(said.contains(r#""event":"agent_completed""#), "what is live goes on: {said}");
    let said = world.say(phone, &mut behind, r#"{"type":"ping","n":7}"#);
    assert!(said.contains("pong") && !said.contains(r#""type":"event""#), "{said}");

    world.use_percent(91);
    assert_eq!(world.pump.storage_mut().pages, 0, "there is little until there is clearly less");
    world.use_percent(89);
    assert!(world.pump.storage_mut().pages > 0, "the page is read");
    let said = world.say(laptop, &mut live, &one_more.replace("t9", "t11"));
    assert!(said.contains(r#""type":"accepted""#), "{said}");
}

#[test]
fn operators_are_told_from_four_fifths_of_the_budget_on() {
    let mut world = World::new();
    let told =
        |world: &World| world.pump.core().inspect().alerts().map(|alert| alert.as_str()).collect::<Vec<_>>();
    world.use_percent(79);
    assert_eq!(told(&world), [""; 0]);
    world.use_percent(80);
    assert_eq!(told(&world), ["memory_high"]);
    world.use_percent(70);
    assert_eq!(told(&world), ["memory_high"]);
    world.use_percent(69);
    assert_eq!(told(&world), [""; 0]);
}
