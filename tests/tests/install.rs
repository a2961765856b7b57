//! What is needed to install the daemon: completions, manual pages, the units of systemd, and what the daemon
//! says to it. What asks for tools that are not installed is left out there.

use runcast_tests::{
    PATIENCE, SECRET, binary, eventually, output, raw_request, repository, runcast, skipped,
};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

#[test]
fn every_command_is_completed_and_has_a_page() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, _) = runcast(&["completions", shell]);
        assert!(code == 0 && script.contains("selftest") && script.contains("undelivered"), "{shell}");
    }
    let (code, page, _) = runcast(&["man"]);
    assert!(code == 0 && page.contains(".TH runcast 1"), "{page}");
    let directory = TempDir::new().expect("a directory");
    assert_eq!(runcast(&["man", &directory.path().to_string_lossy()]).0, 0);
    let pages = fs::read_dir(directory.path()).expect("a directory").count();
    assert!(directory.path().join("runcast-serve.1").exists() && pages > 15, "{pages}");
}

#[test]
fn systemd_understands_the_units() {
    let directory = TempDir::new().expect("a directory");
    for name in ["runcast.service", "runcast.socket"] {
        let unit =
            fs::read_to_string(repository().join("shell/ops/systemd").join(name)).expect("it is shipped");
        let unit = unit.replace("/usr/local/bin/runcast", &binary().to_string_lossy());
        fs::write(directory.path().join(name), unit).expect("it is written");
    }
    let mut verify = Command::new("systemd-analyze");
    verify.arg("verify").arg("--man=no").arg(directory.path().join("runcast.service"));
    let Some(output) = output(&mut verify) else { return skipped("systemd-analyze is not installed") };
    let said = String::from_utf8_lossy(&output.stderr);
    let about_ours: Vec<&str> = said.lines().filter(|line| line.contains("runcast.")).collect();
    assert!(about_ours.is_empty(), "{about_ours:?}");
}

/// Ends with the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing to do about another failure here.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_socket_is_taken_over_and_the_supervisor_is_told() {
    let directory = TempDir::new().expect("a directory");
    let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
    fs::write(path("secret"), SECRET).expect("the secret is written");
    let config = "[auth]\nkeys = [{ alg = \"HS256\", secret_file = \"secret\" }]\n";
    fs::write(path("runcast.toml"), config).expect("the configuration is written");
    let supervisor = UnixDatagram::bind(path("notify")).expect("a socket");
    supervisor.set_read_timeout(Some(PATIENCE)).expect("a socket has time-outs");
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let address = free.expect("a free port");

    let mut command = Command::new("systemd-socket-activate");
    command.arg("--listen").arg(address.to_string());
    command.args(["--setenv", &format!("NOTIFY_SOCKET={}", path("notify"))]);
    command.args(["--setenv", "WATCHDOG_USEC=200000"]).arg(binary());
    command.args(["serve", "--config", &path("runcast.toml"), "--data", &path("data")]);
    let Ok(child) = command.stderr(Stdio::null()).spawn() else {
        return skipped("systemd-socket-activate is not installed");
    };
    let _daemon = Killed(child);
    // The connection that starts it is not refused, though nothing serves yet.
    eventually("that somebody listens", || TcpStream::connect(address));
    let hear = || {
        let mut text = [0; 64];
        let len = supervisor.recv(&mut text).expect("it is told");
        String::from_utf8_lossy(&text[..len]).into_owned()
    };
    assert_eq!(hear(), "READY=1");
    assert_eq!((hear(), hear()), ("WATCHDOG=1".to_owned(), "WATCHDOG=1".to_owned()));
    let (status, body) = raw_request(address, "GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert_eq!((status, body.as_str()), (200, "ready\n"));
}
