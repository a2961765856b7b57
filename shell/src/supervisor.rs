//! systemd, or whatever speaks its protocol: told when the daemon is ready, that its loop turns, and when it
//! goes down (sd_notify(3), sd_watchdog_enabled(3)). Without one, nothing is said.

use runcast_core::time::{Mono, Span};
use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Who is told.
#[derive(Debug, Default)]
pub struct Supervisor {
    line: Option<(UnixDatagram, SocketAddr)>,
    /// It wants to hear at least so often that the loop turns.
    every: Option<Span>,
    /// When it is told next.
    next: Mono,
}

impl Supervisor {
    /// The one of the environment, if there is one.
    pub fn from_env() -> Self {
        let path = std::env::var_os("NOTIFY_SOCKET").and_then(|path| path.into_string().ok());
        let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|_| is_ours);
        path.map_or_else(Self::default, |path| Self::at(&path, watchdog))
    }

    /// The one that listens at a path (an abstract one begins with `@`) and wants to hear of the loop within
    /// so many microseconds.
    fn at(path: &str, watchdog: Option<u64>) -> Self {
        match UnixDatagram::unbound().and_then(|socket| Ok((socket, address(path)?))) {
            // Half of the time is left for what may hold it up.
            Ok(line) => Self { line: Some(line), every: watchdog.map(|all| Span(all / 2)), next: Mono(0) },
            Err(error) => {
                tracing::warn!(%error, "NOTIFY_SOCKET cannot be used: whoever waits there is told nothing");
                Self::default()
            }
        }
    }

    /// Connections are taken from now on.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// The daemon goes down.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// The loop turns. Said as often as it is wanted.
    pub fn turns(&mut self, now: Mono) {
        if let Some(every) = self.every
            && now >= self.next
        {
            self.next = now + every;
            self.tell("WATCHDOG=1");
        }
    }

    /// When the loop must turn again, if only for this.
    pub fn deadline(&self) -> Option<Mono> {
        self.every.map(|_| self.next)
    }

    fn tell(&self, what: &str) {
        if let Some((socket, address)) = &self.line
            && let Err(error) = socket.send_to_addr(what.as_bytes(), address)
        {
            tracing::warn!(%error, what, "the supervisor cannot be told");
        }
    }
}

fn address(path: &str) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = path.strip_prefix('@') {
        use std::os::linux::net::SocketAddrExt;
        return SocketAddr::from_abstract_name(name);
    }
    SocketAddr::from_pathname(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_hears_that_the_loop_turns_as_often_as_it_wants() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let there = UnixDatagram::bind(&path).unwrap();
        there.set_nonblocking(true).unwrap();
        let hear = || {
            let mut text = [0; 32];
            there.recv(&mut text).ok().map(|len| String::from_utf8(text[..len].to_vec()).unwrap())
        };
        let mut supervisor = Supervisor::at(path.to_str().unwrap(), Some(2_000_000));
        supervisor.ready();
        assert_eq!(hear().as_deref(), Some("READY=1"));
        for (at, told) in [(5, true), (6, false), (1_000_004, false), (1_000_005, true), (9_000_000, true)] {
            supervisor.turns(Mono(at));
            assert_eq!(hear().is_some(), told, "{at}");
        }
        assert_eq!(supervisor.deadline(), Some(Mono(10_000_000)));
        supervisor.stopping();
        assert_eq!(hear().as_deref(), Some("STOPPING=1"));
    }

    #[test]
    fn without_one_nothing_is_said_and_nothing_waited_for() {
        let mut supervisor = Supervisor::default();
        supervisor.ready();
        supervisor.turns(Mono(1));
        assert_eq!(supervisor.deadline(), None);
    }
}
