//! The agent on real folders, asked as people ask; its answers compared with what is there.

use super::Files;
use super::question::{Goal, understand};
use super::tools::{Order, Part};
use crate::worker::rehearsal::{rehearse, rehearse_cancelled};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// Names, contents and ages in hours.
const FILES: &[(&str, &str, u64)] = &[
    ("README.md", "# A project\n\nIt has windows.\nThe tests are run by hand.\n", 5),
    ("Cargo.toml", "[package]\n", 9),
    ("src/main.rs", "fn main() {\n    open_window();\n}\n", 3),
    ("src/deep/window.rs", "pub fn open_window() {}\n// a Window, a window\n", 2),
    (
        "src/deep/big.txt",
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n",
        7,
    ),
    ("docs/guide.md", "one\ntwo\nthree\nfour\nfive\n", 4),
    (".hidden/secret.bin", "\0\0window\0", 8),
    ("target/debug/out.o", "window window\n", 1),
];

fn project() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text, hours) in FILES {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        let changed = SystemTime::now() - Duration::from_secs(3_600 * hours);
        fs::File::options().write(true).open(&path).unwrap().set_modified(changed).unwrap();
    }
    fs::create_dir(folder.path().join("empty")).unwrap();
    folder
}

/// Asks, and gives the output of the run, which must end well.
fn ask(folder: &Path, question: &str) -> Value {
    let messages = rehearse(&Files::new(folder).unwrap(), json!(question));
    let end = messages.last().unwrap();
    assert_eq!((&end["type"], &end["status"]), (&json!("complete"), &json!("ok")), "{question}: {end}");
    let said = messages
        .iter()
        .filter(|m| m["event"] == "agent_output")
        .map(|m| m["data"]["delta"].as_str().unwrap());
    assert_eq!(end["output"]["text"], json!(said.collect::<String>()), "what was streamed is the answer");
    end["output"].clone()
}

#[test]
fn the_true_answers_about_sizes_and_ages() {
    let project = project();
    let path = |question: &str| ask(project.path(), question)["path"].clone();
    for question in [
        "which file under . is the largest?",
        "Which is the biggest file?",
        "what's the largest file in this folder",
        "which file has the most bytes?",
    ] {
        let output = ask(project.path(), question);
        assert_eq!(
            (&output["path"], &output["bytes"]),
            (&json!("src/deep/big.txt"), &json!(90)),
            "{question}"
        );
        assert_eq!(output["files"], FILES.len());
    }
    assert_eq!(path("which file is the smallest?"), ".hidden/secret.bin");
    assert_eq!(path("what is the newest file here?"), "target/debug/out.o");
    assert_eq!(path("which file was changed most recently in src?"), "src/deep/window.rs");
    assert_eq!(path("the oldest file under ."), "Cargo.toml");
    assert_eq!(path("what is the largest .rs file?"), "src/deep/window.rs");
    assert_eq!(path("which markdown file is the largest?"), "README.md");
    assert_eq!(path("which file has the most lines?"), "docs/guide.md");
    assert_eq!(path("which folder is the largest?"), "src");
    assert_eq!(ask(project.path(), "the 2 largest files")["paths"], json!(["src/deep/big.txt", "README.md"]));
}

#[test]
fn the_true_answers_about_numbers() {
    let project = project();
    let fact = |question: &str, fact: &str| ask(project.path(), question)[fact].clone();
    assert_eq!(fact("how many files are under .?", "files"), FILES.len());
    assert_eq!(fact("how many files are in src?", "files"), 3);
    assert_eq!(fact("how many .rs files are there?", "files"), 2);
    assert_eq!(fact("How many rust files are in the src folder?", "files"), 2);
    assert_eq!(fact("how many folders are there", "folders"), 7);
    assert_eq!(fact("how many lines are in README.md?", "lines"), 4);
    assert_eq!(fact("how many lines are in guide.md?", "lines"), 5);
    assert_eq!(fact("how many lines of rust?", "lines"), 5);
    let bytes: usize = FILES.iter().map(|(_, text, _)| text.len()).sum();
    assert_eq!(fact("how big is this folder?", "bytes"), bytes);
    assert_eq!(fact("how big is Cargo.toml", "bytes"), 10);
    assert_eq!(fact("when was README.md last changed?", "path"), "README.md");
    assert_eq!(fact("how many times is 'window' mentioned in src?", "times"), 4);
    assert_eq!(fact("how many files contain open_window", "files"), 2);
}

#[test]
fn a_line_too_long_to_be_shown_is_shown_as_far_as_it_goes() {
    let project = project();
    let path = project.path().join("data.json");
    for (content, found) in
        [("é".repeat(50_000), "all 1 line"), (format!("{}\nshort\n", "é".repeat(20_000)), "line 1 of 2")]
    {
        fs::write(&path, content).unwrap();
        let text = ask(project.path(), "what is in data.json?")["text"].as_str().unwrap().to_owned();
        assert!(text.contains(found), "{}", &text[..100]);
        assert!(text.contains("```\né") && text.contains("é…\n```"), "{} bytes are shown", text.len());
    }
    let last = ask(project.path(), "the last 1 lines of data.json")["text"].as_str().unwrap().to_owned();
    assert!(last.contains("```\nshort\n```"), "{last}");
}

#[test]
fn the_true_answers_about_contents() {
    let project = project();
    let output = ask(project.path(), "where is 'window' mentioned?");
    let matches = json!([
        {"path": "README.md", "line": 3}, {"path": "src/main.rs", "line": 2},
        {"path": "src/deep/window.rs", "line": 1}, {"path": "src/deep/window.rs", "line": 2}]);
    assert_eq!(output["matches"], matches);
    assert!(output["text"].as_str().unwrap().contains("Not searched: `target`"), "{output}");
    assert_eq!(ask(project.path(), "search for window in target")["times"], 2, "asked for by name");
    assert_eq!(ask(project.path(), "search for Window")["times"], 1, "a capital counts");
    let text = |question: &str| ask(project.path(), question)["text"].as_str().unwrap().to_owned();
    assert!(text("what is in README.md?").contains("# A project\n\nIt has windows.\n"));
    assert!(text("what's in the readme?").contains("# A project"));
    let lines = text("show the first 2 lines of docs/guide.md");
    assert!(lines.contains("one\ntwo\n```") && lines.contains("lines 1 to 2 of 5"), "{lines}");
    assert!(text("the last 2 lines of guide.md").contains("```\nfour\nfive\n```"));
    assert!(text("what does README.md say about tests?").contains("The tests are run by hand."));
    assert!(text("what does the readme say about window").contains("It has windows."));
    assert_eq!(ask(project.path(), "where is window.rs?")["path"], "src/deep/window.rs");
    assert_eq!(ask(project.path(), "is there a file called guide.md")["path"], "docs/guide.md");
    let listed = ask(project.path(), "list the files in src");
    assert_eq!((&listed["paths"], &listed["folders"]), (&json!(["src/main.rs"]), &json!(["src/deep"])));
    assert_eq!(ask(project.path(), "list all rust files")["files"], 2);
    assert_eq!(ask(project.path(), "what is in src?")["folders"], json!(["src/deep"]));
    assert_eq!(ask(project.path(), "list the files in empty")["files"], 0);
}

#[test]
fn what_does_not_exist_is_said() {
    let project = project();
    for question in
        ["how many files are in nowhere?", "read src/nope.rs", "what is in nope.md", "how big is no/such"]
    {
        let output = ask(project.path(), question);
        assert!(
            output["problem"].as_str().is_some_and(|problem| problem.contains("there is no")),
            "{question}: {output}"
        );
    }
}

#[test]
fn what_is_not_understood_is_said_with_examples() {
    let project = project();
    let output = ask(project.path(), "should I paint my windows green?");
    assert_eq!(output["understood"], false);
    assert!(output["text"].as_str().unwrap().contains("which file under . is the largest?"));
    assert_eq!(output["sought"], "windows");
}

#[test]
fn nothing_outside_the_folder_is_seen() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(
        outside.path().join("secret.txt"),
        "a treasure, larger than anything inside the folder\n".repeat(99),
    )
    .unwrap();
    let inside = project();
    std::os::unix::fs::symlink(outside.path(), inside.path().join("link")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret.txt"), inside.path().join("link.txt")).unwrap();
    let absolute = format!("read {}/secret.txt", outside.path().display());
    for question in [
        "read ../secret.txt",
        "what is in ..?",
        "read src/../../secret.txt",
        "how many files are in link/?",
        "read link/secret.txt",
        "read link.txt",
        "what is in link?",
        "list the files in /",
        "read /etc/passwd",
        "what does link.txt say about treasure",
        "show the first 3 lines of '../secret.txt'",
        absolute.as_str(),
    ] {
        let output = ask(inside.path(), question);
        assert!(!output["text"].as_str().unwrap().contains("a treasure"), "{question}: {output}");
        assert!(output["problem"].is_string(), "{question}: {output}");
    }
    assert_eq!(ask(inside.path(), "which file is the largest?")["path"], "src/deep/big.txt");
    assert_eq!(ask(inside.path(), "where is 'treasure' mentioned")["lines"], 0);
    let whole =
        format!("how many files are in {}?", inside.path().join("src").canonicalize().unwrap().display());
    assert_eq!(
        ask(inside.path(), &whole)["files"],
        3,
        "an absolute path inside is as good as a relative one"
    );
}

#[test]
fn steps_and_tools_are_shown_in_pairs() {
    let project = project();
    let messages =
        rehearse(&Files::new(project.path()).unwrap(), json!("which file under . is the largest?"));
    let events: Vec<&str> = messages.iter().filter_map(|m| m["event"].as_str()).collect();
    let begin = [
        "agent_thinking",
        "step_started",
        "tool_executing",
        "tool_completed",
        "step_completed",
        "agent_output",
    ];
    assert_eq!(events[..6], begin);
    let (used, completed) = (&messages[2]["data"], &messages[3]["data"]);
    assert_eq!(
        (&used["tool"], &used["args"]["path"], &used["args"]["order"]),
        (&json!("list"), &json!("."), &json!("largest"))
    );
    assert_eq!((&completed["call"], &completed["status"]), (&used["call"], &json!("ok")));
    assert_eq!(completed["result"]["files"][0]["path"], "src/deep/big.txt");
}

#[test]
fn a_cancelled_run_and_a_bad_question_end_as_such() {
    let project = project();
    let agent = Files::new(project.path()).unwrap();
    assert_eq!(rehearse_cancelled(&agent, json!("how big is ."))[0]["status"], "cancelled");
    for input in [json!(7), json!(""), json!({"question": "?"}), json!("x".repeat(5_000))] {
        assert_eq!(rehearse(&agent, input)[0]["error"]["code"], "bad_input");
    }
}

#[test]
fn questions_are_understood() {
    let exists = |name: &str| [".", "core", "core/src", "README.md", "tests", "Cargo.toml"].contains(&name);
    let understood = |text: &str| {
        let question = understand(text, &exists);
        (question.goal, question.place, question.filter.label)
    };
    let search = |text: &str| Goal::Search { text: text.into(), tally: false };
    let tally = |text: &str| Goal::Search { text: text.into(), tally: true };
    let cases: Vec<(&str, Goal, &str, &str)> = vec![
        ("where is foo used in core/src?", search("foo"), "core/src", ""),
        ("search for foo bar", search("foo bar"), ".", ""),
        ("grep 'TODO: x' in *.rs", search("TODO: x"), ".", ".rs"),
        ("find all python files", Goal::List, ".", "python"),
        ("which files mention serde_json in core?", search("serde_json"), "core", ""),
        ("where is the word window mentioned", search("window"), ".", ""),
        ("where's 'README.md' mentioned?", search("README.md"), ".", ""),
        ("Where is Cargo.toml?", Goal::Find { name: "Cargo.toml".into() }, ".", ""),
        (
            "the 5 largest rust files in core",
            Goal::Extreme { order: Order::Largest, keep: 5 },
            "core",
            "rust",
        ),
        ("ten smallest files", Goal::Extreme { order: Order::Smallest, keep: 10 }, ".", ""),
        ("how many lines of code are in core/src", Goal::CountLines, "core/src", ""),
        ("how many unwraps are in tests?", tally("unwraps"), "tests", ""),
        ("how often is foo used", tally("foo"), ".", ""),
        ("which files use tungstenite?", search("tungstenite"), ".", ""),
        ("tail README.md", Goal::Read { part: Part::Last(10) }, "README.md", ""),
        ("README.md", Goal::Read { part: Part::First(60) }, "README.md", ""),
        ("core", Goal::List, "core", ""),
        (
            "what does Cargo.toml say about the edition?",
            Goal::About { topic: "edition".into() },
            "Cargo.toml",
            "",
        ),
        (
            "what is said about fair order in README.md",
            Goal::About { topic: "fair order".into() },
            "README.md",
            "",
        ),
        ("tell me about core", Goal::About { topic: "core".into() }, ".", ""),
        ("what is the total size of the .toml files", Goal::Size, ".", ".toml"),
        ("ls", Goal::List, ".", ""),
    ];
    for (text, goal, place, label) in cases {
        assert_eq!(understood(text), (goal, place.into(), label.into()), "{text}");
    }
}
