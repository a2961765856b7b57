//! What is wrong with a machine is told in one line with what to do, by `serve`, `check` and `doctor` alike;
//! and with a machine on which nothing is wrong, `doctor` and `selftest` are content.

use runcast_tests::{Daemon, SECRET, runcast, runcast_on_small_disk, token};
use serde_json::Value;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// A data directory, a configuration with keys, and an address.
struct Machine {
    directory: TempDir,
    data: String,
    listen: String,
}

impl Machine {
    fn new() -> Self {
        let directory = TempDir::new().expect("a directory");
        fs::write(directory.path().join("secret"), SECRET).expect("the secret is written");
        let config = "[auth]\nkeys = [{ alg = \"HS256\", secret_file = \"secret\" }]\n";
        fs::write(directory.path().join("runcast.toml"), config).expect("the configuration is written");
        let data = directory.path().join("data").to_string_lossy().into_owned();
        // Free a moment ago; taken by nobody who asks for any port.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        Self { directory, data, listen: free.expect("a free port").to_string() }
    }

    fn store(&self) -> std::path::PathBuf {
        Path::new(&self.data).join("store.redb")
    }

    /// A store as a daemon leaves it.
    fn with_store(self) -> Self {
        let mut daemon = Daemon::start(&[]);
        daemon.signal("TERM");
        assert_eq!(daemon.exit_code(), 0);
        fs::create_dir_all(&self.data).expect("a directory");
        fs::copy(daemon.data().join("store.redb"), self.store()).expect("the store is copied");
        self
    }

    fn words<'w>(&'w self, command: &'w str, config: &'w str) -> Vec<&'w str> {
        let limits = ["--set", "server.connections=256"];
        let words = [command, "--config", config, "--data", &self.data, "--listen", &self.listen];
        [&words[..], &limits].concat()
    }

    /// What each of the three ends with, and says.
    fn told(&self) -> [(i32, String); 3] {
        let config = self.directory.path().join("runcast.toml").to_string_lossy().into_owned();
        ["serve", "check", "doctor"].map(|command| {
            let (code, printed, errors) = runcast(&self.words(command, &config));
            (code, printed + &errors)
        })
    }

    /// All three say this, and end as they should.
    fn all_say(&self, what: &str, fix: &str) {
        let [serve, check, doctor] = self.told();
        for ((code, told), wanted) in [(serve, 78), (check, 78), (doctor, 1)] {
            assert_eq!(code, wanted, "{told}");
            let is_told = told.lines().any(|line| line.contains(what) && line.contains(fix));
            assert!(is_told, "{what} … {fix} in:\n{told}");
        }
    }
}

#[test]
fn a_damaged_store_is_told() {
    let machine = Machine::new().with_store();
    let mut bytes = fs::read(machine.store()).expect("a store");
    bytes[8_192..].fill(0x5a);
    fs::write(machine.store(), &bytes).expect("it is damaged");
    machine.all_say("the store is damaged", "restore it from a backup");
    assert_eq!(fs::read(machine.store()).expect("a store"), bytes, "nobody touches it");
}

#[test]
fn another_file_in_the_stores_place_is_told() {
    let machine = Machine::new();
    fs::create_dir_all(&machine.data).expect("a directory");
    fs::write(machine.store(), "a letter to the editor").expect("it is written");
    machine.all_say("is not a Runcast store", "move it away, or use another data directory");
}

#[test]
fn a_port_that_is_taken_is_told() {
    let mut machine = Machine::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    machine.listen = taken.local_addr().expect("it is bound").to_string();
    drop(std::thread::spawn(move || while taken.accept().is_ok() {}));
    machine.all_say(&format!("cannot listen on {}", machine.listen), "end what listens there");
}

#[test]
fn a_directory_that_cannot_be_written_to_is_told() {
    let mut machine = Machine::new();
    // Not even root may make a file here.
    machine.data = "/proc/runcast-data".to_owned();
    machine.all_say("/proc cannot be written to", "give a directory that can be written to");
}

#[test]
fn a_clock_that_is_wrong_is_told() {
    let machine = Machine::new().with_store();
    let ahead = SystemTime::now() + Duration::from_secs(3 * 86_400);
    let store = File::options().write(true).open(machine.store()).expect("a store");
    store.set_modified(ahead).expect("it is from the future");
    let config = machine.directory.path().join("runcast.toml").to_string_lossy().into_owned();
    let (check, doctor) =
        (runcast(&machine.words("check", &config)), runcast(&machine.words("doctor", &config)));
    // It would serve; the port that is taken keeps it from that. It comes last, since it writes.
    let _taken = TcpListener::bind(&machine.listen).expect("the port is still free");
    let serve = runcast(&machine.words("serve", &config));
    assert_eq!((serve.0, check.0, doctor.0), (78, 0, 0), "{serve:?} {check:?} {doctor:?}");
    for (_, printed, errors) in [serve, check, doctor] {
        let told = printed + &errors;
        let is_told =
            |line: &str| line.contains("the clock is wrong") && line.contains("set the clock (NTP)");
        assert!(told.lines().any(is_told), "{told}");
    }
}

#[test]
fn a_full_disk_is_told() {
    let machine = Machine::new();
    let config = machine.directory.path().join("runcast.toml").to_string_lossy().into_owned();
    for (command, wanted) in [("serve", 78), ("check", 78), ("doctor", 1)] {
        let words = machine.words(command, &config);
        // Without the right to mount there is no small disk to be had.
        let Some((code, told)) = runcast_on_small_disk(Path::new(&machine.data), &words) else { return };
        assert_eq!(code, wanted, "{command}: {told}");
        let is_told = |line: &str| {
            line.contains("the disk of") && line.contains("is full") && line.contains("free some space")
        };
        assert!(told.lines().any(is_told), "{command}: {told}");
    }
}

#[test]
fn a_live_daemon_is_found_well_and_passes_its_test() {
    let daemon = Daemon::start(&[]);
    let url = format!("http://{}", daemon.door().address());
    let both = token("selftest", "user worker");
    let (code, printed, errors) = runcast(&["selftest", "--url", &url, "--token", &both, "--json"]);
    assert_eq!((code, errors.as_str()), (0, ""));
    let told: Value = serde_json::from_str(&printed).expect("JSON");
    let steps = told["steps"].as_array().expect("steps").iter();
    let steps: Vec<&str> = steps.filter_map(|step| step["step"].as_str()).collect();
    let five = ["agent_started", "agent_thinking", "tool_executing", "tool_completed", "agent_completed"];
    assert_eq!(steps, [&["welcome", "accepted", "run_queued"][..], &five].concat());
    let (code, printed, _) = runcast(&["selftest", "--url", &url, "--token", &both]);
    assert!(code == 0 && printed.contains("tool_completed"), "{printed}");
    let short = ["selftest", "--url", &url, "--token", &token("selftest", "user"), "--within", "300ms"];
    let (code, _, errors) = runcast(&short);
    assert!(
        code == 1 && errors.contains("no run was accepted") || errors.contains("has not ended"),
        "{errors}"
    );
    assert_eq!(runcast(&["selftest", "--url", "http://127.0.0.1:1", "--token", &both]).0, 69);

    let (config, data) = (daemon.config(), daemon.data());
    let (config, data) = (config.to_string_lossy(), data.to_string_lossy());
    let operator = token("olga", "operate");
    let words =
        ["doctor", "--config", &config, "--data", &data, "--url", &url, "--token", &operator, "--json"];
    let listen = daemon.door().address().to_string();
    let (code, printed, errors) = runcast(&[&words[..], &["--listen", &listen]].concat());
    assert_eq!(code, 0, "{printed}{errors}");
    let looks: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let state = |what: &str| looks.iter().find(|look| look["what"] == what).map(|look| look["state"].clone());
    for what in
        ["configuration", "keys", "directory", "store", "disk", "address", "limits", "daemon", "clocks"]
    {
        let state = state(what);
        assert!(
            state == Some("good".into()) || what == "disk" && state == Some("warning".into()),
            "{what}: {printed}"
        );
    }
}
