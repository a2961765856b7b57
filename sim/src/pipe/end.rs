//! One end of a pipe as its owner has it: a socket that is read and written without waiting.

use super::{Cargo, End, PipeId, Status, Way};
use crate::carrier::Socket;
use crate::schedule::Event;
use runcast::conn::Edge;
use std::io::{self, ErrorKind, Read, Write};

impl Socket for End {
    fn id(&self) -> PipeId {
        self.id
    }

    /// As a system's socket whose edges are told of: reads that are cut short at random tell nothing, and
    /// after an end there is no edge.
    fn edge(&self) -> Edge {
        let net = self.net.0.borrow();
        let pipe = &net.pipes[&self.id];
        let may_end = pipe.reset || pipe.lanes[self.reads() as usize].ended;
        if may_end || pipe.route.tiny { Edge::UntilBlocked } else { Edge::UntilShort }
    }

    fn status(&self) -> Status {
        let net = self.net.0.borrow();
        let pipe = &net.pipes[&self.id];
        match (pipe.connected, pipe.refused) {
            (false, _) if pipe.reset => Status::Refused,
            (false, _) => Status::Calling,
            (true, true) => Status::Refused,
            (true, false) => Status::Connected,
        }
    }
}

impl End {
    fn reads(&self) -> Way {
        if self.writes == Way::Up { Way::Down } else { Way::Up }
    }
}

impl Read for End {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut net = self.net.0.borrow_mut();
        let tiny = net.dice.between(1, 64) as usize;
        let way = self.reads();
        let pipe = net.pipes.get_mut(&self.id).expect("an end keeps its pipe");
        if pipe.reset {
            return Err(ErrorKind::ConnectionReset.into());
        }
        let limit = if pipe.route.tiny { tiny } else { usize::MAX };
        let lane = &mut pipe.lanes[way as usize];
        if lane.arrived == 0 {
            if lane.ended {
                return Ok(0);
            }
            lane.reader_waits = true;
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = lane.arrived.min(into.len()).min(limit);
        lane.bytes.read_exact(&mut into[..count])?;
        lane.arrived -= count;
        // Clients read until they are blocked.
        lane.reader_waits = lane.arrived == 0 && way == Way::Up;
        if lane.writer_waits && !lane.room_due {
            lane.room_due = true;
            let latency = pipe.route.latency;
            net.schedule.after(latency, Event::Room(self.id, way));
        }
        Ok(count)
    }
}

impl Write for End {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let mut net = self.net.0.borrow_mut();
        let tiny = net.dice.between(1, 64) as usize;
        let pipe = net.pipes.get_mut(&self.id).expect("an end keeps its pipe");
        if pipe.reset || pipe.refused {
            return Err(ErrorKind::ConnectionReset.into());
        }
        let limit = if pipe.route.tiny { tiny } else { usize::MAX };
        let buffer = pipe.route.buffer;
        let lane = &mut pipe.lanes[self.writes as usize];
        let count = buffer.saturating_sub(lane.bytes.len()).min(from.len()).min(limit);
        if count == 0 && !from.is_empty() {
            lane.writer_waits = true;
            return Err(ErrorKind::WouldBlock.into());
        }
        lane.bytes.extend(&from[..count]);
        if self.writes == Way::Down {
            let mut wrote = Vec::new();
            pipe.tap.feed(&from[..count], &mut wrote);
            net.written.extend(wrote.into_iter().map(|wrote| (self.id, wrote)));
        }
        net.launch(self.id, self.writes, Cargo::Bytes(count));
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.net.0.borrow_mut().drop_end(self.id, self.writes);
    }
}
