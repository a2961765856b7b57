//! What is wrong with a machine is told in one line that says what was expected, what was found and what to
//! do, by `serve`, `check` and `doctor` alike; and with a machine on which nothing is wrong, `doctor` and
//! `selftest` are content.

use runcast_tests::{Ask, Certificate, Daemon, SECRET, User, runcast, runcast_on_disk, skipped, token};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// Something that may be wrong.
struct Situation {
    name: &'static str,
    /// Makes it so.
    make: fn(&mut Machine),
    /// What is told: a part of what was expected and found …
    what: &'static str,
    /// … and of what to do.
    fix: &'static str,
    /// What `serve`, `check` and `doctor` end with. With a warning the daemon serves.
    exits: [i32; 3],
}

const STOPS: [i32; 3] = [78, 78, 1];
const UNREADABLE: [i32; 3] = [78, 78, 78];
const WARNS: [i32; 3] = [78, 0, 0];

const SITUATIONS: [Situation; 19] = [
    Situation {
        name: "configuration wrong",
        make: |machine| machine.configure("[runs]\nactiv = 5\n"),
        what: "runs.activ: there is no such key; did you mean",
        fix: "runs.active",
        exits: UNREADABLE,
    },
    Situation {
        name: "no keys",
        make: |machine| fs::write(machine.config(), "").expect("it is written"),
        what: "auth: no keys, so nobody could connect",
        fix: "set auth.keys or auth.jwks_file, or use --dev",
        exits: STOPS,
    },
    Situation {
        name: "key file missing",
        make: |machine| fs::remove_file(machine.beside("secret")).expect("it is removed"),
        what: "secret cannot be read: No such file or directory",
        fix: "give the path of a file with a key that can be read",
        exits: STOPS,
    },
    Situation {
        name: "webhook without a host",
        make: |machine| {
            machine.settings.push("delivery.webhook=https:///hook".to_owned());
            let secret = machine.beside("secret");
            machine.settings.push(format!("delivery.webhook_secret_file={}", secret.display()));
        },
        what: "delivery.webhook: expected a URL with http or https and a host, found \"https:///hook\"",
        fix: "give the whole URL",
        exits: STOPS,
    },
    Situation {
        name: "store corrupted",
        make: |machine| {
            machine.make_store();
            let mut bytes = fs::read(machine.store()).expect("a store");
            bytes[8_192..].fill(0x5a);
            fs::write(machine.store(), bytes).expect("it is damaged");
        },
        what: "the store is damaged",
        fix: "restore it from a backup",
        exits: STOPS,
    },
    Situation {
        name: "something else in the store's place",
        make: |machine| {
            fs::create_dir_all(&machine.data).expect("a directory");
            fs::write(machine.store(), "a letter to the editor").expect("it is written");
        },
        what: "is not a Runcast store",
        fix: "move it away, or use another data directory",
        exits: STOPS,
    },
    Situation {
        name: "store in use",
        make: |machine| {
            machine.make_store();
            let store = File::options().write(true).open(machine.store()).expect("a store");
            store.try_lock().expect("nobody has it");
            machine.held.push(Box::new(store));
        },
        what: "store.redb is in use by another process",
        fix: "stop that daemon, or give this one its own data directory",
        exits: [1, 78, 1],
    },
    Situation {
        name: "disk full",
        make: |machine| machine.disk = Some("size=2m"),
        what: "is full: 2MiB are free, expected 16MiB at least",
        fix: "free some space",
        exits: STOPS,
    },
    Situation {
        name: "directory read-only",
        make: |machine| machine.disk = Some("ro,size=64m"),
        what: "cannot be written to: Read-only file system",
        fix: "give a directory that can be written to",
        exits: STOPS,
    },
    Situation {
        name: "directory cannot be made",
        // Not even root may make a file here.
        make: |machine| machine.data = "/proc/runcast-data".into(),
        what: "store.dir: /proc cannot be written to",
        fix: "give a directory that can be written to",
        exits: STOPS,
    },
    Situation {
        name: "a file in the directory's place",
        make: |machine| machine.data = machine.beside("secret"),
        what: "secret is no directory",
        fix: "give a directory that can be written to",
        exits: STOPS,
    },
    Situation {
        name: "port taken",
        make: |machine| {
            // Somebody who takes connections and says nothing to them.
            let taken = TcpListener::bind(&machine.listen).expect("the port is still free");
            drop(thread::spawn(move || while taken.accept().is_ok() {}));
        },
        what: "cannot listen on 127.0.0.1:",
        fix: "end what listens there, or give another address with --listen",
        exits: STOPS,
    },
    Situation {
        name: "address of another machine",
        make: |machine| machine.listen = "192.0.2.1:8787".to_owned(),
        what: "cannot listen on 192.0.2.1:8787",
        fix: "give an address of this machine with --listen",
        exits: STOPS,
    },
    Situation {
        name: "certificate expired",
        make: |machine| machine.certify(&Certificate::until(2021)),
        what: "cert.pem: the certificate has expired: it was good until",
        fix: "renew it, or set the clock (NTP)",
        exits: STOPS,
    },
    Situation {
        name: "certificate not yet valid",
        make: |machine| machine.certify(&Certificate::between(2098, 2099)),
        what: "cert.pem: expected a certificate that is good now, found one that is in",
        fix: "set the clock (NTP), or give another",
        exits: STOPS,
    },
    Situation {
        name: "certificate of another key",
        make: |machine| {
            let other = Certificate::until(4000).key;
            machine.certify(&Certificate { key: other, ..Certificate::until(4000) });
        },
        what: "key.pem: it does not go with",
        fix: "give the key that the certificate was made for",
        exits: STOPS,
    },
    Situation {
        name: "certificate missing",
        make: |machine| {
            machine.certify(&Certificate::until(4000));
            fs::remove_file(machine.beside("cert.pem")).expect("it is removed");
        },
        what: "cert.pem: cannot be read: No such file or directory",
        fix: "give the path of a PEM file that can be read",
        exits: STOPS,
    },
    Situation {
        name: "clock wrong",
        make: |machine| {
            machine.make_store();
            let ahead = SystemTime::now() + Duration::from_secs(3 * 86_400);
            let store = File::options().write(true).open(machine.store()).expect("a store");
            store.set_modified(ahead).expect("it is from the future");
        },
        what: "the clock is wrong: expected it past the store's last write, which is 2d from now",
        fix: "set the clock (NTP)",
        exits: WARNS,
    },
    Situation {
        name: "certificate about to expire",
        make: |machine| machine.certify(&Certificate::for_time(Duration::from_secs(7 * 86_400 + 3_600))),
        what: "cert.pem: the certificate is good for 7d more",
        fix: "renew it: a new one is taken over as it comes",
        exits: WARNS,
    },
];

/// A data directory, a configuration with keys, and an address.
struct Machine {
    directory: TempDir,
    data: PathBuf,
    listen: String,
    settings: Vec<String>,
    /// Options of mount, if the data directory is a disk of its own.
    disk: Option<&'static str>,
    /// What has to last as long as the situation.
    held: Vec<Box<dyn std::any::Any>>,
}

impl Machine {
    fn new() -> Self {
        let directory = TempDir::new().expect("a directory");
        let data = directory.path().join("data");
        // Free a moment ago; taken by nobody who asks for any port.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let listen = free.expect("a free port").to_string();
        let settings = vec!["server.connections=256".to_owned()];
        let machine = Self { directory, data, listen, settings, disk: None, held: Vec::new() };
        fs::write(machine.beside("secret"), SECRET).expect("the secret is written");
        machine.configure("");
        machine
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn config(&self) -> PathBuf {
        self.beside("runcast.toml")
    }

    /// Writes the configuration: the keys, and something more.
    fn configure(&self, more: &str) {
        let keys = "[auth]\nkeys = [{ alg = \"HS256\", secret_file = \"secret\" }]\n";
        fs::write(self.config(), format!("{keys}{more}")).expect("the configuration is written");
    }

    fn certify(&mut self, certificate: &Certificate) {
        let (cert, key) = certificate.write(self.directory.path());
        self.settings.push(format!("server.tls_cert={}", cert.display()));
        self.settings.push(format!("server.tls_key={}", key.display()));
    }

    fn store(&self) -> PathBuf {
        self.data.join("store.redb")
    }

    /// A store as a daemon leaves it.
    fn make_store(&self) {
        let mut daemon = Daemon::start(&[]);
        daemon.signal("TERM");
        assert_eq!(daemon.exit_code(), 0);
        fs::create_dir_all(&self.data).expect("a directory");
        fs::copy(daemon.data().join("store.redb"), self.store()).expect("the store is copied");
    }

    /// What a command ends with, and all it says. None without a disk of its own, where that is needed.
    fn told(&self, command: &[&str]) -> Option<(i32, String)> {
        let (config, data) = (self.config(), self.data.to_string_lossy());
        let config = config.to_string_lossy();
        let own = ["--config", &config, "--data", &data, "--listen", &self.listen];
        let settings = self.settings.iter().flat_map(|setting| ["--set", setting]);
        let words: Vec<&str> = command.iter().copied().chain(own).chain(settings).collect();
        match self.disk {
            Some(options) => runcast_on_disk(&self.data, options, &words),
            None => {
                let (code, printed, errors) = runcast(&words);
                Some((code, printed + &errors))
            }
        }
    }
}

/// What a line says: of the log and of `doctor --json`, or as it stands.
fn said(line: &str) -> String {
    let json: Value = serde_json::from_str(line).unwrap_or_default();
    let said = json["fields"]["message"].as_str().or_else(|| json["told"].as_str());
    said.or_else(|| line.strip_prefix("warning: ")).unwrap_or(line).to_owned()
}

/// The one line that all three say. None where the situation cannot be made.
fn line_of(situation: &Situation) -> Option<String> {
    let mut machine = Machine::new();
    (situation.make)(&mut machine);
    let [serves, checks, doctors] = situation.exits;
    let (check, doctor) = (machine.told(&["check"])?, machine.told(&["doctor", "--json"])?);
    // It would serve with a warning: a port that is taken keeps it from that. It comes last, since it writes.
    let taken = (checks == 0).then(|| TcpListener::bind(&machine.listen).expect("the port is still free"));
    let serve = machine.told(&["serve"])?;
    drop(taken);
    let mut lines = Vec::new();
    for (name, (code, told), wanted) in
        [("serve", serve, serves), ("check", check, checks), ("doctor", doctor, doctors)]
    {
        assert_eq!(code, wanted, "{}, {name}: {told}", situation.name);
        let mut found: Vec<String> =
            told.lines().map(said).filter(|line| line.contains(situation.what)).collect();
        assert_eq!(found.len(), 1, "{}, {name}: {told}", situation.name);
        lines.append(&mut found);
    }
    assert!(lines.iter().all(|line| *line == lines[0]), "{}: {lines:#?}", situation.name);
    assert!(lines[0].contains(situation.fix), "{}: {lines:?}", situation.name);
    lines.pop()
}

#[test]
fn each_is_told_in_one_line_by_serve_check_and_doctor_alike() {
    let mut out = std::io::stdout();
    for situation in &SITUATIONS {
        let line = line_of(situation).unwrap_or_else(|| "(skipped: nothing may be mounted here)".to_owned());
        // Seen with --nocapture; a reader that is gone needs none of it.
        let _ = writeln!(out, "{:<36} {:?} {line}", situation.name, situation.exits);
    }
}

#[test]
fn whoever_looks_at_a_store_keeps_no_daemon_from_it() {
    let mut daemon = Daemon::start(&["server.connections=256"]);
    daemon.kill();
    let looked_at = File::open(daemon.data().join("store.redb")).expect("a store");
    looked_at.try_lock_shared().expect("the daemon is gone");
    let (config, data, listen) = (daemon.config(), daemon.data(), daemon.door().address().to_string());
    let (config, data) = (config.to_string_lossy(), data.to_string_lossy());
    for command in ["check", "doctor"] {
        let (code, printed, errors) = runcast(&[
            command,
            "--config",
            &config,
            "--data",
            &data,
            "--listen",
            &listen,
            "--set",
            "server.connections=256",
        ]);
        assert!(!(printed + &errors).contains("in use"), "{command} looks beside another who looks");
        assert!(command != "check" || code == 0, "nothing is wrong");
    }
    let log = daemon.log().clone();
    let looks = thread::spawn(move || {
        log.nth(1, "the store is in use: a start waits for it");
        drop(looked_at);
    });
    daemon.restart();
    looks.join().expect("it was waited for");
}

#[test]
fn nobody_touches_what_is_damaged() {
    let machine = Machine::new();
    machine.make_store();
    let mut bytes = fs::read(machine.store()).expect("a store");
    bytes[8_192..].fill(0x5a);
    fs::write(machine.store(), &bytes).expect("it is damaged");
    for command in ["serve", "check", "doctor"] {
        machine.told(&[command]).expect("it needs no disk of its own");
        assert!(fs::read(machine.store()).expect("a store") == bytes, "{command} has changed it");
    }
}

#[test]
fn a_disk_that_fills_up_while_serving_is_told_and_then_all_goes_on() {
    let Some(daemon) = Daemon::on_disk(&["server.connections=256"], "size=24m") else {
        skipped("nothing may be mounted here");
        return;
    };
    let door = daemon.door();
    let mut user = User::connected("alice", "laptop", &door);
    user.run("before", "t1", &json!(1));
    user.until("run_queued");
    let filler = daemon.fill_disk();
    user.run("while", "t2", &json!(2));
    let words = "the store takes nothing: the disk is full; free some space: until then runs are refused, and \
                 what is stored is delivered";
    daemon.log().nth(1, words);
    let ready = Ask::new("GET", "/readyz").send(&door);
    assert_eq!(ready.status, 503);
    assert!(ready.body.starts_with("not ready: store (it takes nothing"), "{}", ready.body);
    let body = json!({ "agent": "research", "input": 3 }).to_string();
    let refused = Ask::new("POST", "/v1/runs").token(&token("alice", "user")).body(&body).send(&door);
    assert_eq!((refused.status, &refused.json["code"]), (503, &json!("storage_unavailable")));
    let is_warning = |line: &String| line.contains("storage_unavailable") && line.contains("WARN");
    assert_eq!(daemon.log().nth(1, "refused")["code"], "storage_unavailable");
    assert!(daemon.log().lines().iter().any(is_warning), "a refusal for the daemon's own want is a warning");
    assert_eq!(Ask::new("GET", "/livez").send(&door).status, 200);

    let (config, data) = (daemon.config(), daemon.data());
    let listen = door.address().to_string();
    let own = ["--config".as_ref(), config.as_os_str(), "--data".as_ref(), data.as_os_str()];
    let own = [&own[..], &["--listen".as_ref(), OsStr::new(&listen)]].concat();
    for (command, wanted) in [("check", 78), ("doctor", 1)] {
        let (code, told) = daemon.runcast_beside(&[&[OsStr::new(command)], &own[..]].concat());
        let full: Vec<&str> = told.lines().filter(|line| line.contains("is full: 0B are free")).collect();
        assert!(full.len() == 1 && full[0].contains("free some space"), "{command}: {told}");
        assert_eq!(code, wanted, "{command}: {told}");
    }

    fs::remove_file(filler).expect("the disk has room again");
    daemon.log().nth(1, "the store takes what it is given again");
    user.until("run_queued");
    assert_eq!(user.events().len(), 2, "what was asked while it was full is kept");
    assert_eq!(Ask::new("GET", "/readyz").send(&door).status, 200);
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
    for what in [
        "configuration",
        "keys",
        "certificate",
        "directory",
        "store",
        "disk",
        "address",
        "limits",
        "daemon",
        "clocks",
    ] {
        let state = state(what);
        assert!(
            state == Some("good".into()) || what == "disk" && state == Some("warning".into()),
            "{what}: {printed}"
        );
    }
}
