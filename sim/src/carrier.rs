//! The seam between the two worlds: who carries bytes between a client and the daemon's machine.
//!
//! World 1 carries them through pipes of its own, world 2 through turmoil's streams. Clients and pump see
//! only this, and run the same over both.

use crate::pipe::{PipeId, Route, Status};
use runcast::conn::Edge;
use std::fmt;
use std::io::{Read, Write};

/// One end of a connection. It never blocks, and is watched edge-triggered: after `WouldBlock`, or as soon as
/// [`Socket::edge`] says, its owner is woken once when that changes. Dropping it closes the connection.
pub trait Socket: Read + Write + fmt::Debug {
    /// Which connection. Both ends have the same.
    fn id(&self) -> PipeId;

    /// What the edge promises that its owner is given now.
    fn edge(&self) -> Edge {
        Edge::UntilBlocked
    }

    /// How far a client's call is.
    fn status(&self) -> Status;
}

/// What clients call the daemon over.
pub trait Carrier: fmt::Debug {
    /// Calls the daemon. The end is usable once [`Socket::status`] says so.
    fn call(&self, route: Route) -> Box<dyn Socket>;
}
