//! The port speaks TLS: everything goes over it as in the clear, the certificate is replaced without anybody
//! noticing, and whoever speaks something else disturbs nobody.

use runcast::agents::echo::Echo;
use runcast::client::{self, Heard, Options};
use runcast::line::Lost;
use runcast::place::Place;
use runcast::tls::Trust;
use runcast::worker::{Agent, spawn};
use runcast_tests::{Certificate, Daemon, Door, Ends, PATIENCE, binary, dial, eventually, runcast, token};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Instant;
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Somebody who trusts a certificate.
trait Client {
    /// A connection of somebody who trusts this certificate alone.
    fn connect(&self, door: &Door) -> Stream;
    /// A request and its whole answer.
    fn get(&self, door: &Door, path: &str) -> std::io::Result<String>;
    /// A WebSocket that is welcome.
    fn socket(&self, door: &Door, path: &str, token: &str, hello: &Value) -> WebSocket<Stream>;
    /// Shows this certificate, good or not, to the first who comes: where.
    fn serve_once(&self) -> SocketAddr;
}

impl Client for Certificate {
    fn connect(&self, door: &Door) -> Stream {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.der.clone())).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().expect("versions");
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("a name");
        let tls = ClientConnection::new(Arc::new(config), name).expect("a connection");
        let socket = dial(door.address()).expect("the daemon listens");
        StreamOwned::new(tls, socket)
    }

    fn get(&self, door: &Door, path: &str) -> std::io::Result<String> {
        let mut stream = self.connect(door);
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        // Read to an end that the daemon has announced: an answer that was cut off is an error.
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn socket(&self, door: &Door, path: &str, token: &str, hello: &Value) -> WebSocket<Stream> {
        let mut request = format!("wss://localhost{path}").into_client_request().expect("a URL");
        let headers = request.headers_mut();
        headers.insert("sec-websocket-protocol", "runcast.v1".parse().expect("a header"));
        headers.insert("authorization", format!("Bearer {token}").parse().expect("a header"));
        let (mut socket, _) = tungstenite::client(request, self.connect(door)).expect("it is upgraded");
        say(&mut socket, hello);
        assert_eq!(hear(&mut socket, "welcome")["type"], "welcome");
        socket
    }

    fn serve_once(&self) -> SocketAddr {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("a key");
        let config = config.with_single_cert(vec![self.der.clone().into()], key).expect("they go together");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        thread::spawn(move || {
            let (socket, _) = listener.accept().expect("somebody comes");
            let tls = ServerConnection::new(Arc::new(config)).expect("a connection");
            // How that ends is the client's to say.
            let _ended = StreamOwned::new(tls, socket).read_to_end(&mut Vec::new());
        });
        address
    }
}

fn say(socket: &mut WebSocket<Stream>, message: &Value) {
    socket.send(Message::text(message.to_string())).expect("it is sent");
}

fn hear(socket: &mut WebSocket<Stream>, kind: &str) -> Value {
    eventually(kind, || {
        let Message::Text(text) = socket.read().expect("a message") else { return Err(Value::Null) };
        let message: Value = serde_json::from_str(&text).expect("JSON");
        if message["type"] == kind || message["event"] == kind { Ok(message) } else { Err(message) }
    })
}

fn start(certificate: &Certificate, settings: &[&str]) -> (Daemon, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let (cert, key) = certificate.write(directory.path());
    let (cert, key) = (cert.display(), key.display());
    let own = [format!("server.tls_cert={cert}"), format!("server.tls_key={key}")];
    let all: Vec<&str> = own.iter().map(String::as_str).chain(settings.iter().copied()).collect();
    (Daemon::start(&all), directory)
}

#[test]
fn a_run_with_long_messages_goes_over_tls_from_end_to_end() {
    let certificate = Certificate::until(4000);
    let (daemon, _directory) = start(&certificate, &["runs.timeout=10m"]);
    let door = daemon.door();
    let answer = certificate.get(&door, "/livez").expect("a whole answer");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("alive\n"), "{answer}");
    let hello = json!({ "type": "hello", "device": "laptop" });
    let mut user = certificate.socket(&door, "/ws", &token("alice", "user"), &hello);
    let hello = json!({ "type": "hello", "agents": [{ "agent": "research", "slots": 1 }] });
    let mut worker = certificate.socket(&door, "/worker", &token("workers", "worker"), &hello);
    let input = "i".repeat(60_000);
    say(&mut user, &json!({ "type": "run", "agent": "research", "input": input }));
    let offer = hear(&mut worker, "run");
    assert_eq!(offer["input"], input);
    let (run, attempt) = (&offer["run"], &offer["attempt"]);
    say(&mut worker, &json!({ "type": "started", "run": run, "attempt": attempt }));
    hear(&mut worker, "ack");
    for n in 1..=4 {
        let text = n.to_string().repeat(900_000);
        say(
            &mut worker,
            &json!({ "type": "event", "run": run, "attempt": attempt, "n": n,
                                  "event": "agent_output", "data": { "text": text } }),
        );
        let event = hear(&mut user, "agent_output");
        assert_eq!(event["data"]["text"], text);
        say(&mut user, &json!({ "type": "ack", "seq": event["seq"] }));
    }
    user.close(None).expect("a close frame is sent");
    assert!(matches!(user.read(), Ok(Message::Close(_))), "it is answered");
}

#[test]
fn a_new_certificate_is_taken_over_and_nobody_is_cut_off() {
    let (first, second) = (Certificate::until(4000), Certificate::until(4001));
    let (daemon, directory) = start(&first, &[]);
    let door = daemon.door();
    let hello = json!({ "type": "hello", "device": "laptop" });
    let mut user = first.socket(&door, "/ws", &token("alice", "user"), &hello);
    let (year_4000, year_4001) = ("64060588800", "64092211200");
    let ends = |certificate: &Certificate, seconds: &str| {
        let line = format!("\nruncast_certificate_expires_timestamp_seconds {seconds}\n");
        // What is told may be a second old.
        eventually("the end of the certificate", || {
            let metrics = certificate.get(&door, "/metrics").expect("an answer");
            if metrics.contains(&line) { Ok(()) } else { Err(metrics) }
        });
    };
    ends(&first, year_4000);
    assert!(second.get(&door, "/livez").is_err(), "it is not known yet");
    second.write(directory.path());
    daemon.signal("HUP");
    daemon.log().nth(1, "the certificate was read again");
    assert!(second.get(&door, "/livez").expect("an answer").contains(" 200 "));
    ends(&second, year_4001);
    assert!(first.get(&door, "/livez").is_err(), "it is known no longer");
    say(&mut user, &json!({ "type": "ping" }));
    hear(&mut user, "pong");

    fs::write(directory.path().join("key.pem"), first.key).expect("another's key");
    daemon.signal("HUP");
    let problem = daemon.log().nth(1, "the certificate of before stays")["problem"].to_string();
    assert!(problem.contains("it does not go with"), "{problem}");
    assert!(second.get(&door, "/livez").expect("an answer").contains(" 200 "));
}

#[test]
fn whoever_speaks_no_tls_or_nothing_is_given_up_in_time() {
    let certificate = Certificate::until(4000);
    let (daemon, _directory) = start(&certificate, &["server.hello_timeout=300ms"]);
    let door = daemon.door();
    let long = [0x16; 40_000];
    let half = [0x16, 3, 1, 1, 0, 1];
    for (what, bytes) in [
        ("plain HTTP", &b"GET / HTTP/1.1\r\n\r\n"[..]),
        ("garbage", &long),
        ("half a hello", &half),
        ("nothing", &[]),
    ] {
        let mut socket = dial(door.address()).expect("the daemon listens");
        // It may be over before all is sent.
        let _unsent = socket.write_all(bytes);
        let mut answer = Vec::new();
        let ended = socket.read_to_end(&mut answer).map_err(|error| error.kind());
        assert!(matches!(ended, Ok(_) | Err(ErrorKind::ConnectionReset)), "{what}: {ended:?}");
        assert!(answer.len() < 64, "{what}: {answer:?}");
    }
    assert!(certificate.get(&door, "/livez").expect("an answer").contains(" 200 "));
}

#[test]
fn what_is_wrong_with_a_certificate_is_told_before_the_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let check = |certificate: &Certificate, key: bool| {
        let (cert, private) = certificate.write(directory.path());
        let mut words =
            vec!["check".to_owned(), "--set".into(), format!("server.tls_cert={}", cert.display())];
        if key {
            words.extend(["--set".to_owned(), format!("server.tls_key={}", private.display())]);
        }
        let secret = directory.path().join("secret");
        fs::write(&secret, "a secret of at least thirty-two bytes").expect("it is written");
        let config = directory.path().join("runcast.toml");
        let text = format!("[auth]\nkeys = [{{ alg = \"HS256\", secret_file = {secret:?} }}]\n");
        fs::write(&config, text).expect("it is written");
        words.extend(["--config".to_owned(), config.display().to_string()]);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (code, printed, errors) = runcast(&words);
        (code, printed + &errors)
    };
    assert_eq!(check(&Certificate::until(4000), true).0, 0);
    let (code, said) = check(&Certificate::until(2021), true);
    assert!(code == 78 && said.contains("has expired") && said.contains("renew it"), "{code} {said}");
    let (code, said) = check(&Certificate::until(4000), false);
    assert!(code == 78 && said.contains("server.tls_cert is set and server.tls_key is not"), "{code} {said}");
    let swapped = Certificate { pem: Certificate::until(4000).pem, ..Certificate::until(4000) };
    let (code, said) = check(&swapped, true);
    assert!(code == 78 && said.contains("it does not go with"), "{code} {said}");
    let no_pem = Certificate { pem: "nothing".into(), ..Certificate::until(4000) };
    let (code, said) = check(&no_pem, true);
    assert!(code == 78 && said.contains("expected 1 to 16 certificates as PEM, found 0"), "{code} {said}");
}

fn command(url: &str, token: &str, words: &[&str]) -> (i32, String) {
    let (code, printed, errors) = runcast(&[words, &["--url", url, "--token", token]].concat());
    (code, printed + &errors)
}

#[test]
fn commands_and_workers_speak_tls_to_a_daemon_that_they_are_told_to_trust() {
    let certificate = Certificate::until(4000);
    let (daemon, directory) = start(&certificate, &[]);
    let port = daemon.door().address().port();
    let ca = directory.path().join("cert.pem").display().to_string();
    let (both, operator) = (token("selftest", "user worker"), token("olga", "operate"));
    for host in ["https://127.0.0.1", "wss://localhost"] {
        let url = format!("{host}:{port}");
        let (code, told) = command(&url, &both, &["selftest", "--ca", &ca]);
        assert!(code == 0 && told.contains("tool_completed"), "{code} {told}");
        let (code, told) = command(&url, &both, &["runs", "--ca", &ca]);
        assert!(code == 0 && told.contains("ended ok"), "{code} {told}");
        let (code, told) = command(&url, &operator, &["workers", "--ca", &ca]);
        assert!(code == 0 && told.contains("WORKER"), "{code} {told}");
    }
    let (config, data) = (daemon.config(), daemon.data());
    let listen = daemon.door().address().to_string();
    let key = directory.path().join("key.pem");
    let (cert, key) = (format!("server.tls_cert={ca}"), format!("server.tls_key={}", key.display()));
    let words = ["doctor", "--config", &config.to_string_lossy(), "--data", &data.to_string_lossy()];
    let more = ["--listen", &listen, "--set", &cert, "--set", &key, "--set", "server.connections=256"];
    let (code, printed, _) = runcast(&[&words[..], &more, &["--token", &operator]].concat());
    assert!(
        code == 0 && printed.contains(" ms apart"),
        "it trusts the certificate that is configured: {printed}"
    );
}

#[test]
fn who_is_not_trusted_or_speaks_something_else_is_told_in_words() {
    let (daemon, directory) = start(&Certificate::until(4000), &[]);
    let plain = Daemon::start(&[]);
    let alice = token("alice", "user");
    let other = tempfile::tempdir().expect("a directory");
    let (other, _) = Certificate::until(4000).write(other.path());
    let other = other.display().to_string();
    let ca = directory.path().join("cert.pem").display().to_string();
    let encrypted = format!("https://{}", daemon.door().address());
    let clear = format!("https://{}", plain.door().address());
    let wrong = format!("http://{}", daemon.door().address());
    for (url, ca, words) in [
        (&encrypted, None, "shows a certificate that is not trusted (UnknownIssuer): give --ca FILE"),
        (
            &encrypted,
            Some(other.as_str()),
            "shows a certificate that is not trusted (BadSignature): give --ca",
        ),
        (&clear, Some(ca.as_str()), "does it speak TLS?"),
        (&wrong, None, "runcast: "),
    ] {
        for name in ["runs", "tail"] {
            let ca = ca.map_or(vec![], |ca| vec!["--ca", ca]);
            let (code, told) = command(url, &alice, &[&[name], &ca[..]].concat());
            assert!(code == 69 && told.contains(words), "{name} {url} {ca:?}: {code} {told}");
        }
    }
    let empty = directory.path().join("empty.pem").display().to_string();
    fs::write(&empty, "nothing\n").expect("it is written");
    for (url, ca, expected, words) in [
        (&encrypted, "none.pem", 78, "none.pem: cannot be read: No such file or directory"),
        (&encrypted, &empty, 78, "expected 1 to 4096 certificates as PEM, found 0; give the certificate"),
        (&"nowhere".to_owned(), &ca, 2, "nowhere cannot be used: expected a URL like"),
    ] {
        for name in ["runs", "tail"] {
            let (code, told) = command(url, &alice, &[name, "--ca", ca]);
            assert!(code == expected && told.contains(words), "{name} {url} {ca:?}: {code} {told}");
            assert!(!told.contains("is it running?"), "{told}");
        }
    }
}

#[test]
fn a_certificate_in_the_file_is_trusted_for_its_name_and_time_though_it_may_sign_others() {
    let own = Certificate::of_authority("127.0.0.1");
    let (daemon, directory) = start(&own, &[]);
    let url = format!("https://{}", daemon.door().address());
    let alice = token("alice", "user");
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name).display().to_string();
        fs::write(&path, text).expect("it is written");
        path
    };
    let others: String = (0..30).map(|_| Certificate::until(4000).pem).collect();
    let (itself, bundle) = (file("itself.pem", &own.pem), file("bundle.pem", &(others.clone() + &own.pem)));
    for ca in [&itself, &bundle] {
        let (code, told) = command(&url, &alice, &["runs", "--ca", ca]);
        assert_eq!(code, 0, "{told}");
    }
    let same_name = file("same_name.pem", &Certificate::of_authority("127.0.0.1").pem);
    for (ca, fix) in [(&same_name, "give --ca FILE"), (&file("others.pem", &others), "give --ca FILE")] {
        let (code, told) = command(&url, &alice, &["runs", "--ca", ca]);
        assert!(code == 69 && told.contains("is not trusted") && told.contains(fix), "{code} {told}");
    }
    for (shown, why) in [
        (Certificate::of_authority("elsewhere.example.org"), "give a URL with a name that it is for"),
        (Certificate::until(2021), "renew it there, or set the clock of this machine"),
        (Certificate::between(3000, 3001), "set the clocks of both machines"),
    ] {
        let url = format!("https://{}", shown.serve_once());
        let (code, told) = command(&url, &alice, &["runs", "--ca", &file("shown.pem", &shown.pem)]);
        assert!(code == 69 && told.contains(why), "{code} {told}");
    }
}

#[test]
fn a_worker_that_was_connected_waits_until_the_certificates_are_mended() {
    let (first, second) = (Certificate::until(4000), Certificate::of_authority("127.0.0.1"));
    let (daemon, directory) = start(&first, &[]);
    let (door, log) = (daemon.door(), daemon.log());
    let ca = directory.path().join("ca.pem");
    fs::write(&ca, &first.pem).expect("it is written");
    let place = Place { url: format!("https://{}", door.address()), trust: Trust::File(ca.clone()) };
    let agents = vec![Box::new(Echo) as Box<dyn Agent>];
    let workers = spawn(place, || token("workers", "worker"), agents, "w-1".into()).expect("it starts");
    log.nth(1, "worker connected");

    second.write(directory.path());
    daemon.signal("HUP");
    log.nth(1, "the certificate was read again");
    fs::remove_file(&ca).expect("it was there");
    let (url, new) = (format!("https://{}", door.address()), directory.path().join("cert.pem"));
    let words = ["disconnect", "workers", "--reconnect", "--ca", &new.to_string_lossy()];
    let (code, told) = command(&url, &token("olga", "operate"), &words);
    assert_eq!(code, 0, "{told}");
    fs::write(&ca, &first.pem).expect("it is written");
    log.nth(1, "gone");
    fs::write(&ca, &second.pem).expect("it is written");
    log.nth(2, "worker connected");
    workers.stop();
}

#[test]
fn a_client_that_was_connected_comes_back_when_the_certificates_are_mended() {
    let (first, second) = (Certificate::until(4000), Certificate::of_authority("127.0.0.1"));
    let (daemon, directory) = start(&first, &[]);
    let url = format!("https://{}", daemon.door().address());
    let ca = directory.path().join("ca.pem");
    fs::write(&ca, &first.pem).expect("it is written");
    let place = Place { url: url.clone(), trust: Trust::File(ca.clone()) };
    let token_of_alice = Box::new(|| token("alice", "user"));
    let options = Options { place, token: token_of_alice, device: None, ack: true, from: json!("device") };
    let mut client = client::Client::new(options).expect("the system has room for it");
    let mut until = |is_it: fn(&Heard) -> bool| {
        let deadline = Some(Instant::now() + PATIENCE);
        loop {
            let heard = client.next(deadline).expect("it does not give up");
            assert!(!matches!(heard, Heard::Late), "it is heard in time");
            if is_it(&heard) {
                break;
            }
        }
    };
    until(|heard| matches!(heard, Heard::Welcome(_)));
    second.write(directory.path());
    daemon.signal("HUP");
    daemon.log().nth(1, "the certificate was read again");
    fs::remove_file(&ca).expect("it was there");
    let new = directory.path().join("cert.pem");
    let words = ["disconnect", "alice", "--reconnect", "--ca", &new.to_string_lossy()];
    let (code, told) = command(&url, &token("olga", "operate"), &words);
    assert_eq!(code, 0, "{told}");
    until(|heard| matches!(heard, Heard::Lost { why: Lost::NoTrust(_), .. }));
    fs::write(&ca, &first.pem).expect("it is written");
    until(|heard| matches!(heard, Heard::Lost { why: Lost::Untrusted { .. }, .. }));
    fs::write(&ca, &second.pem).expect("it is written");
    until(|heard| matches!(heard, Heard::Welcome(_)));
}

#[test]
fn doctor_does_not_take_something_else_that_speaks_tls_for_the_daemon() {
    let (daemon, _directory) = start(&Certificate::until(4000), &[]);
    let own = tempfile::tempdir().expect("a directory");
    let (cert, key) = Certificate::until(4000).write(own.path());
    let (cert, key) =
        (format!("server.tls_cert={}", cert.display()), format!("server.tls_key={}", key.display()));
    let (config, listen) = (daemon.config().display().to_string(), daemon.door().address().to_string());
    let data = own.path().join("data").display().to_string();
    let words =
        ["doctor", "--config", &config, "--data", &data, "--listen", &listen, "--set", &cert, "--set", &key];
    let (_, printed, errors) = runcast(&words);
    let address = printed.lines().find(|line| line.contains("address")).expect("the address is told");
    assert!(address.starts_with("warn") && address.contains("is taken"), "{printed} {errors}");
    assert!(!printed.contains("is the daemon's"), "{printed}");
}

#[test]
fn the_built_in_worker_knows_the_certificate_of_its_own_daemon() {
    let directory = tempfile::tempdir().expect("a directory");
    let (cert, key) = Certificate::until(4000).write(directory.path());
    let data = directory.path().join("data");
    let mut serve = Command::new(binary());
    serve.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data"]).arg(&data);
    serve.args(["--set", &format!("server.tls_cert={}", cert.display())]);
    serve.args(["--set", &format!("server.tls_key={}", key.display())]);
    let serve = serve.current_dir(directory.path()).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut daemon = Ends(serve.stderr(Stdio::null()).spawn().expect("the daemon starts"));
    let said = BufReader::new(daemon.0.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
    let said: Vec<String> = said.take_while(|line| !line.contains("dev-token")).collect();
    let url = said.iter().find_map(|line| line.trim().split_once("/#token=")).expect("a URL").0.to_owned();
    assert!(url.starts_with("https://127.0.0.1:"), "{said:?}");
    let token = fs::read_to_string(data.join("dev-token")).expect("a token for commands");
    let ca = cert.display().to_string();
    let (code, told) = command(&url, token.trim(), &["run", "--agent", "echo", "--ca", &ca, "hello there"]);
    assert!(code == 0 && told.contains("hello there"), "{code} {told}");
}
