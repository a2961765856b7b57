//! What the bench asks of its load generator, and what that answers: one JSON object a line.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// What the load generator is to do next.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub(super) enum Order {
    /// Here is what is measured, and how to speak with it.
    Aim { at: SocketAddr, tongue: Tongue },
    /// So many users, each with so many devices, say hello; done when all are welcome.
    Connect(Crowd),
    /// So many workers say hello.
    Work { workers: usize },
    /// So many users ask for one run each; done when a worker may execute each of them.
    Run { users: usize },
    /// So many of the marked devices read and acknowledge nothing any more.
    Stall { devices: usize },
    /// Workers publish.
    Publish(Flow),
    /// Every device's connection is cut; the workers' too, if so asked.
    Cut { workers: bool },
    /// Every device comes back at once; done when all have everything.
    Back { from: From },
    /// The daemon was started again: workers come back to their runs, devices stay away.
    Rejoin,
    /// The workers complete all runs; done when every connected device has seen the end of its user's.
    End,
    /// Nothing is asked for so long; what the daemon wants is answered.
    Rest { ms: u64 },
}

/// What the other side speaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "speaks", rename_all = "snake_case")]
pub(super) enum Tongue {
    /// A daemon, and the secret that its tokens are signed with.
    Runcast { secret: PathBuf },
    /// The bench's own yardstick.
    Relay,
    /// Text messages on a WebSocket.
    WebSocket,
    /// Socket.IO 5 on a WebSocket.
    SocketIo,
    /// MQTT 3.1.1 with QoS 1.
    Mqtt,
    /// NATS with JetStream.
    Nats,
}

/// Who connects.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Crowd {
    pub(super) users: usize,
    /// Of each user.
    pub(super) devices: usize,
    /// So many devices, each of another user, that may be stalled: what they get is not timed.
    pub(super) marked: usize,
}

/// What is published.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Flow {
    /// Events a second; as fast as the workers' windows allow when absent.
    pub(super) rate: Option<u64>,
    /// It ends after so many events, all runs in turn,
    pub(super) events: Option<u64>,
    /// or after so long; under a rate, when all that is due by then is sent.
    pub(super) ms: Option<u64>,
    /// The length of an event as a device gets it, more or less.
    pub(super) bytes: usize,
    /// Only to users that have a marked device.
    pub(super) to_marked: bool,
    /// Whether devices are there, and to be waited for.
    pub(super) is_watched: bool,
}

/// Where devices begin that come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum From {
    /// After what they have.
    Position,
    /// With the first event that is kept.
    Oldest,
}

/// What the load generator says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(super) enum Answer {
    /// It goes on: so much of it is done, of so much, if that is known.
    Doing { what: String, done: u64, of: Option<u64> },
    /// What was asked for is done.
    Done(Tally),
    /// A promise was not kept, or it could not be done.
    Failed { why: String },
}

/// What came of an order.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Tally {
    /// How long it took, in microseconds.
    pub(super) elapsed: u64,
    /// Events that workers sent.
    pub(super) published: u64,
    /// Events that devices got, each in its order and without a gap.
    pub(super) delivered: u64,
    /// Bytes that came in on the devices' connections.
    pub(super) wire_bytes: u64,
    /// Events that had to wait because a worker's window was full; none where no rate says when each is due.
    pub(super) held: Option<u64>,
    /// Events that came again.
    pub(super) redelivered: u64,
    /// From a worker's send to a device's receipt, in microseconds; of events that were held, from when they
    /// were due. None when nothing was timed.
    pub(super) latency: Option<Latency>,
}

/// Percentiles, in microseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Latency {
    pub(super) p50: u64,
    pub(super) p99: u64,
    pub(super) p999: u64,
    pub(super) max: u64,
}
