//! What the documentation says to type works: every block marked `sh` in `shell/docs` is run, from top to
//! bottom, each document in a directory of its own. A block that begins with `runcast serve` goes on in the
//! background.

use runcast_tests::{binary, eventually, output, raw_request, repository, skipped};
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// The documents with something to type; each is typed by a test below.
const TYPED: [&str; 6] =
    ["clients.md", "console.md", "operating.md", "quick-start.md", "troubleshooting.md", "workers.md"];
/// The address that the documents name; each test has another.
const NAMED: &str = "127.0.0.1:8787";

/// Ends with the test.
struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing to do about another failure here.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The blocks of a document that are to be typed.
fn blocks(text: &str) -> Vec<String> {
    let parts = text.split("```").skip(1).step_by(2);
    parts.filter_map(|block| block.strip_prefix("sh\n")).map(str::to_owned).collect()
}

/// Where one document is typed.
struct Shell {
    directory: TempDir,
    address: SocketAddr,
    /// What blocks before have exported.
    exports: String,
}

impl Shell {
    fn new() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let directory = TempDir::new().expect("a directory");
        Self { directory, address: free.expect("a free port"), exports: String::new() }
    }

    fn command(&self, script: &str) -> Command {
        let folder = binary().parent().unwrap_or(Path::new("."));
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("bash");
        command.args(["-eu", "-o", "pipefail", "-c", script]).current_dir(self.directory.path());
        command.env("PATH", format!("{}:{path}", folder.display())).env_remove("RUNCAST_TOKEN");
        command.env("RUNCAST_URL", format!("http://{}", self.address)).stdin(Stdio::null());
        command.env("RUNCAST_SERVER__LISTEN", self.address.to_string());
        // Fewer than any limit of open files allows.
        command.env("RUNCAST_SERVER__CONNECTIONS", "256");
        command
    }

    /// Types a block, and returns it if it goes on in the background.
    fn block(&mut self, text: &str) -> Option<Background> {
        let text = text.replace(NAMED, &self.address.to_string());
        if text.starts_with("runcast serve") {
            let mut command = self.command(&format!("exec {text}"));
            let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("bash is there");
            self.wait_until_ready();
            return Some(Background(child));
        }
        let output = output(&mut self.command(&format!("{}\n{text}", self.exports)));
        let output = output.expect("bash is there");
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
        assert!(output.status.success(), "{text}\nends {}:\n{}", output.status, said.concat());
        let exported = text.lines().filter(|line| line.starts_with("export "));
        exported.for_each(|line| self.exports.push_str(&format!("{line}\n")));
        None
    }

    fn wait_until_ready(&self) {
        eventually("that what the document starts serves", || TcpStream::connect(self.address));
        let ask = "GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n";
        eventually("that it is ready", || match raw_request(self.address, ask) {
            (200, _) => Ok(()),
            instead => Err(instead),
        });
    }
}

/// Types a whole document, one of [`TYPED`], where there is `curl` to do it with.
fn type_all(document: &str) {
    assert!(TYPED.contains(&document), "{document} is one of those that are typed");
    if output(Command::new("curl").arg("--version")).is_none() {
        skipped(&format!("curl is not installed, so nothing of {document} is typed"));
        return;
    }
    let text = fs::read_to_string(repository().join("shell/docs").join(document)).expect("a document");
    let blocks = blocks(&text);
    assert!(blocks.len() > 1, "{document} has something to type");
    let mut shell = Shell::new();
    let _background: Vec<Background> = blocks.iter().filter_map(|block| shell.block(block)).collect();
}

#[test]
fn every_document_with_something_to_type_is_typed() {
    for entry in fs::read_dir(repository().join("shell/docs")).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if name.ends_with(".md") {
            let has_blocks = !blocks(&fs::read_to_string(&path).expect("a document")).is_empty();
            assert_eq!(TYPED.contains(&name.as_str()), has_blocks, "{name}");
        }
    }
}

#[test]
fn the_quick_start_works() {
    type_all("quick-start.md");
}

#[test]
fn what_operators_type_works() {
    type_all("operating.md");
}

#[test]
fn what_stands_beside_the_console_works() {
    type_all("console.md");
}

#[test]
fn what_writers_of_workers_and_clients_type_works() {
    type_all("workers.md");
    type_all("clients.md");
}

#[test]
fn what_helps_with_trouble_works() {
    type_all("troubleshooting.md");
}

#[test]
fn every_alert_is_in_the_operating_guide_and_every_document_is_linked() {
    let read = |path: &str| fs::read_to_string(repository().join(path)).expect("it is there");
    let (alerts, guide) = (read("shell/ops/prometheus/alerts.yml"), read("shell/docs/operating.md"));
    let alerts = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let missing: Vec<&str> = alerts.filter(|alert| !guide.contains(alert)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let linking = [read("shell/docs/quick-start.md"), read("README.md"), read("shell/docs/configuration.md")];
    for entry in fs::read_dir(repository().join("shell/docs")).expect("a directory") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        let is_linked = linking.iter().any(|text| text.contains(&format!("{name})")));
        assert!(is_linked || !name.ends_with(".md"), "{name} is linked from nowhere");
    }
}
