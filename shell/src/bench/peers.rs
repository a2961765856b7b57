//! What people would use instead: other servers that do this job, each as its own documentation recommends.
//! Their programs and configurations lie in `shell/benches/peers`, whose script `install` installs them. Each
//! is one process of its own, and is published to through its public interface, as the daemon is.

use super::BenchError;
use super::load::nats;
use super::order::Tongue;
use super::process::Process;
use super::stop::{self, Lines};
use super::system::Usage;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a start may take.
const START_WITHIN: Duration = Duration::from_secs(30);

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Ws,
    SocketIo,
    FastApi,
    Mosquitto,
    Nats,
}

impl Peer {
    pub(super) const ALL: [Self; 5] = [Self::Ws, Self::SocketIo, Self::FastApi, Self::Mosquitto, Self::Nats];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ws => "ws",
            Self::SocketIo => "socket.io",
            Self::FastApi => "FastAPI",
            Self::Mosquitto => "Mosquitto",
            Self::Nats => "NATS JetStream",
        }
    }

    pub(super) const fn tongue(self) -> Tongue {
        match self {
            Self::Ws | Self::FastApi => Tongue::WebSocket,
            Self::SocketIo => Tongue::SocketIo,
            Self::Mosquitto => Tongue::Mqtt,
            Self::Nats => Tongue::Nats,
        }
    }

    /// What becomes of an event, as it is run here: its figure is for so much and no more.
    pub(super) const fn promise(self) -> &'static str {
        match self {
            Self::Ws | Self::FastApi => {
                "nothing is stored or acknowledged; what is published while a device is away is lost to it"
            }
            Self::SocketIo => {
                "nothing is acknowledged; kept in memory for devices that come back within two minutes, lost when \
                 the process ends"
            }
            Self::Mosquitto => {
                "acknowledged by server and device (QoS 1); kept for devices that come back; on disk every half an \
                 hour and at its end, so that a kill loses what came since"
            }
            Self::Nats => {
                "acknowledged by server and device; kept for devices that come back; written to a file, which is \
                 synced every two minutes, so that a loss of power loses what came since"
            }
        }
    }

    /// What is missing to start it with what lies in this folder.
    pub(super) fn lacks(self, folder: &Path) -> Option<String> {
        let lies = |path: &str| match folder.join(path) {
            path if path.exists() => None,
            path => Some(format!("{} is not there", path.display())),
        };
        let runs = |program: &str| match program_path(program) {
            Some(_) => None,
            None => Some(format!("`{program}` is not installed")),
        };
        match self {
            Self::Ws => runs("node").or_else(|| lies("ws.js")).or_else(|| lies("node_modules/ws")),
            Self::SocketIo => {
                runs("node").or_else(|| lies("socketio.js")).or_else(|| lies("node_modules/socket.io"))
            }
            Self::FastApi => lies("fastapi_app.py").or_else(|| lies("venv/bin/uvicorn")),
            Self::Mosquitto => runs("mosquitto").or_else(|| lies("mosquitto.conf")),
            Self::Nats => runs("nats-server").or_else(|| lies("nats.conf")),
        }
    }

    /// Starts it with what lies in `folder`; what it stores goes to a directory below `data`.
    ///
    /// # Errors
    /// When it does not start.
    pub(super) fn start(self, folder: &Path, data: &Path) -> Result<Running, BenchError> {
        let home = tempfile::Builder::new().prefix("runcast-bench-").tempdir_in(data)?;
        match self {
            Self::Ws => Running::telling(Command::new("node").arg(folder.join("ws.js")), home),
            Self::SocketIo => Running::telling(Command::new("node").arg(folder.join("socketio.js")), home),
            Self::FastApi => {
                let python = folder.join("venv/bin/python");
                Running::telling(Command::new(python).arg(folder.join("fastapi_app.py")), home)
            }
            Self::Mosquitto => mosquitto(folder, home),
            Self::Nats => jetstream(folder, home),
        }
    }
}

/// A peer that runs. It is killed when this is dropped, and what it stored is removed.
#[derive(Debug)]
pub(super) struct Running {
    child: Process,
    address: SocketAddr,
    _home: TempDir,
}

impl Running {
    /// One that prints its address as its first line.
    fn telling(command: &mut Command, home: TempDir) -> Result<Self, BenchError> {
        let mut child = Process::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let told = Lines::of(child.0.stdout.take().ok_or(BenchError::Pipe)?);
        let mut running = Self { child, address: SocketAddr::from(([0, 0, 0, 0], 0)), _home: home };
        let line = told.next(Some(Instant::now() + START_WITHIN))?.unwrap_or_default();
        running.address =
            line.parse().map_err(|_| failed(&format!("its first line is {line:?}, no address")))?;
        running.wait()?;
        Ok(running)
    }

    /// One that was told where to listen.
    fn told(command: &mut Command, address: SocketAddr, home: TempDir) -> Result<Self, BenchError> {
        let child = Process::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))?;
        let mut running = Self { child, address, _home: home };
        running.wait()?;
        Ok(running)
    }

    /// Until it accepts connections.
    fn wait(&mut self) -> Result<(), BenchError> {
        let until = Instant::now() + START_WITHIN;
        while let Err(error) = TcpStream::connect(self.address) {
            stop::check()?;
            if let Some(status) = self.child.0.try_wait()? {
                return Err(failed(&format!("it ended with {status}, and accepted no connections")));
            }
            if Instant::now() > until {
                return Err(failed(&format!("it accepts no connections: {error}")));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn usage(&self) -> Result<Usage, BenchError> {
        self.child.usage()
    }
}

fn failed(why: &str) -> BenchError {
    BenchError::Peer(why.to_owned())
}

/// Where a program is, if it is installed; servers often lie where only root looks.
fn program_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(program)).find(|path| path.is_file())
}

fn program(name: &str) -> Result<Command, BenchError> {
    let path = program_path(name).ok_or_else(|| failed(&format!("`{name}` is not installed")))?;
    Ok(Command::new(path))
}

/// An address of the loopback that nobody listens on, for those that cannot tell which they took.
fn free_address() -> Result<SocketAddr, BenchError> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

fn mosquitto(folder: &Path, home: TempDir) -> Result<Running, BenchError> {
    let (address, own) = (free_address()?, home.path().join("mosquitto.conf"));
    let config = fs::read_to_string(folder.join("mosquitto.conf"))?;
    let (port, data) = (address.port(), home.path().display());
    // Started by root it would become somebody who cannot write there.
    let more = format!("listener {port} 127.0.0.1\npersistence_location {data}/\nuser root\n");
    fs::write(&own, config + &more)?;
    Running::told(program("mosquitto")?.arg("-c").arg(own), address, home)
}

fn jetstream(folder: &Path, home: TempDir) -> Result<Running, BenchError> {
    let address = free_address()?;
    let mut command = program("nats-server")?;
    command.arg("-c").arg(folder.join("nats.conf")).args(["-a", "127.0.0.1", "-p"]);
    command.arg(address.port().to_string()).arg("-sd").arg(home.path());
    let running = Running::told(&mut command, address, home)?;
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(START_WITHIN))?;
    socket.write_all(nats::CONNECT.as_bytes())?;
    socket.write_all(b"SUB _INBOX.bench 1\r\n")?;
    socket.write_all(&nats::publication("$JS.API.STREAM.CREATE.EVENTS", "bench", nats::STREAM.as_bytes()))?;
    let (mut heard, mut buffer) = (String::new(), [0; 4096]);
    while !heard.contains("stream_create_response") || !heard.ends_with("\r\n") {
        match socket.read(&mut buffer)? {
            0 => return Err(failed(&format!("no stream was made: {heard}"))),
            length => heard.push_str(&String::from_utf8_lossy(&buffer[..length])),
        }
    }
    if heard.contains(r#""error""#) {
        return Err(failed(&format!("no stream was made: {heard}")));
    }
    Ok(running)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_installed_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let lacks = Peer::FastApi.lacks(folder.path()).unwrap();
        assert!(lacks.ends_with("fastapi_app.py is not there"), "{lacks}");
        assert!(Peer::Ws.lacks(folder.path()).is_some());
    }
}
