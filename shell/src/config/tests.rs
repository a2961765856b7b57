//! What is read, what is refused, and how it is told.

use super::table::{AGENT, SETTINGS};
use super::*;
use runcast_core::config::{Readers, TopicConfig};
use runcast_core::ids::{Agent, Topic};
use runcast_core::time::Span;
use std::fs;

/// Writes a file and loads it; what is wrong with it is told without the directory's name.
fn load_with(text: &str, sources: Sources) -> Result<Settings, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("runcast.toml");
    fs::write(&path, text).unwrap();
    let loaded = Settings::load(&Sources { file: Some(path), ..sources });
    loaded.map_err(|problems| problems.to_string().replace(&format!("{}/", dir.path().display()), ""))
}

fn load(text: &str) -> Result<Settings, String> {
    load_with(text, Sources::default())
}

fn flag(key: &str, value: &str) -> Override {
    Override { flag: "--set", key: key.to_owned(), value: value.to_owned() }
}

#[test]
fn nothing_said_is_the_default() {
    let settings = load("").unwrap();
    assert_eq!(settings.core, Config::default());
    assert_eq!(settings.print(), Settings::default().print());
    assert_eq!(*settings.origin("runs.timeout"), Origin::Default);
}

#[test]
fn every_kind_of_value_is_read() {
    let settings = load(
        r#"
        [server]
        listen = "[::1]:9000"
        origins = ["https://chat.example.com", "http://localhost:3000"]
        message = "8KiB"
        [auth]
        issuer = "https://id.example.com/"
        leeway = "0s"
        [runs]
        active = 1_0
        timeout = "1500ms"
        [agents.files]
        timeout = "1m"
        [agents."a.b"]
        timeout = "2m"
        [agents.quiet]
        [topics.news]
        [topics."ops.eu"]
        read = "operate"
        events = 50
        [log]
        level = "debug"
        format = "json"
        "#,
    )
    .unwrap();
    assert_eq!(settings.listen, "[::1]:9000".parse().unwrap());
    assert_eq!(settings.core.server.origins, ["https://chat.example.com", "http://localhost:3000"]);
    assert_eq!(settings.core.server.message, 8192);
    assert_eq!(settings.core.auth.issuer.as_deref(), Some("https://id.example.com/"));
    assert_eq!(settings.core.auth.leeway, Span::ZERO);
    assert_eq!((settings.core.runs.active, settings.core.runs.timeout), (10, Span::millis(1500)));
    let agent = |name| settings.core.agents[&Agent::parse(name).unwrap()].timeout;
    assert_eq!((agent("files"), agent("a.b")), (Some(Span::secs(60)), Some(Span::secs(120))));
    assert_eq!(agent("quiet"), None);
    let topic = |name| settings.core.topics[&Topic::parse(name).unwrap()].clone();
    assert_eq!(topic("news"), TopicConfig::default());
    assert_eq!(topic("ops.eu"), TopicConfig { read: Some(Readers::Operate), events: Some(50) });
    assert_eq!(settings.log, Log { level: Level::Debug, format: Format::Json });
}

#[test]
fn what_is_wrong_is_told_with_its_line_and_a_fix() {
    const DURATION: &str = "a duration like 30s (ms, s, m, h or d)";
    const SIZE: &str = "a size like 64KiB (B, KiB, MiB, GiB or TiB)";
    const ADDRESS: &str = "an address and port like 127.0.0.1:8787 or [::]:8787";
    const ORIGIN: &str = "an origin like https://chat.example.com (no path, lower case, no default port)";
    const LEVEL: &str = "one of error, warn, info, debug, trace";
    let cases = [
        ("[runs]\ntimeout = 30", 2, "runs.timeout", DURATION, "30", "the default is \"30s\""),
        ("[runs]\ntimeout = \"3 s\"", 2, "runs.timeout", DURATION, "\"3 s\"", "the default is \"30s\""),
        ("[server]\n\nmessage = 65536", 3, "server.message", SIZE, "65536", "the default is \"64KiB\""),
        ("[delivery]\nwindow = 2000", 2, "delivery.window", "1 to 1024", "2000", "the default is 256"),
        ("[delivery]\nwindow = 0", 2, "delivery.window", "1 to 1024", "0", "the default is 256"),
        ("[runs]\nlease = \"0s\"", 2, "runs.lease", "300ms to 1h", "\"0s\"", "the default is \"15s\""),
        ("[runs]\nactive = -1", 2, "runs.active", "a whole number", "-1", "the default is 10"),
        ("[runs]\nactive = 1.5", 2, "runs.active", "a whole number", "1.5", "the default is 10"),
        ("[runs]\nactive = \"10\"", 2, "runs.active", "a whole number", "\"10\"", "the default is 10"),
        ("[runs]\nactive = [\n1\n]", 2, "runs.active", "a whole number", "[", "the default is 10"),
        (
            "server.listen = \"a:80\"",
            1,
            "server.listen",
            ADDRESS,
            "\"a:80\"",
            "the default is \"127.0.0.1:8787\"",
        ),
        (
            "[server]\norigins = [\n \"http://a/\"]",
            3,
            "server.origins",
            ORIGIN,
            "\"http://a/\"",
            "the default is []",
        ),
        (
            "[server]\norigins = [\"http://a:80\"]",
            2,
            "server.origins",
            ORIGIN,
            "\"http://a:80\"",
            "the default is []",
        ),
        ("[log]\nlevel = \"loud\"", 2, "log.level", LEVEL, "\"loud\"", "the default is \"info\""),
        ("[auth]\nissuer = \"\"", 2, "auth.issuer", "some text", "\"\"", "correct it"),
    ];
    for (text, line, key, expected, found, fix) in cases {
        let told = format!("runcast.toml:{line}: {key}: expected {expected}, found {found}; {fix}");
        assert_eq!(load(text).map(drop), Err(told), "{text}");
    }
}

#[test]
fn what_nobody_knows_is_told_with_what_was_probably_meant() {
    let cases = [
        ("[runs]\ntimeot = \"3s\"", 2, "runs.timeot: there is no such key", "did you mean runs.timeout?"),
        ("[server]\nwindow = 5", 2, "server.window: there is no such key", "did you mean delivery.window?"),
        ("[run]\nactive = 5", 2, "run.active: there is no such key", "did you mean runs.active?"),
        ("[log]\nzzzzz = 5", 2, "log.zzzzz: there is no such key", "`runcast check --print` shows all keys"),
        (
            "[agents.a]\ntimeuot = \"5s\"",
            2,
            "agents.a.timeuot: there is no such key",
            "did you mean agents.a.timeout?",
        ),
        ("[agents.\" a\"]", 1, "agents. a: \" a\" is no name", &format!("use {}", Agent::RULE)),
        (
            "active = 5",
            1,
            "active: expected a section",
            "write it as a section, [active] with its keys below",
        ),
        (
            "[agents]\na = 5",
            2,
            "agents.a: expected a section",
            "write it as a section, [agents.a] with its keys below",
        ),
        (
            "[runs]\nstart = 1\nstart = 2",
            3,
            "not TOML: duplicate key",
            "correct it as https://toml.io has it",
        ),
    ];
    for (text, line, reason, fix) in cases {
        assert_eq!(load(text).map(drop), Err(format!("runcast.toml:{line}: {reason}; {fix}")), "{text}");
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let told = load("[runs]\nactive = 0\nstart = 5\n[log]\nlevel = 1").unwrap_err();
    let lines: Vec<&str> = told.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(lines, ["runcast.toml:2", "runcast.toml:3", "runcast.toml:5"]);
}

#[test]
fn a_list_of_keys_is_judged_item_by_item() {
    let list =
        "expected a list like [{ kid = \"main\", alg = \"HS256\", secret_file = \"secret\" }], found 5";
    let secret = ("a key for HS256 needs secret_file", "give it secret_file, and only that");
    let public = ("a key for ES256 needs public_key_file", "give it public_key_file, and only that");
    let twice = "the kid \"a\" is given to two keys of one algorithm";
    let a = "{ kid = \"a\", alg = \"HS256\", secret_file = \"k\" }";
    let cases = [
        ("5", (list, "correct it")),
        ("[{ alg = \"HS256\" }]", secret),
        ("[{ alg = \"HS256\", public_key_file = \"k\" }]", secret),
        ("[{ alg = \"ES256\", secret_file = \"k\" }]", public),
        ("[{ alg = \"ES256\", secret_file = \"k\", public_key_file = \"k\" }]", public),
        ("[{ secret_file = \"k\" }]", ("a key without alg", "say alg = \"HS256\" or another")),
        (&format!("[{a}, {a}]"), (twice, "give each key a kid of its own")),
    ];
    for (keys, (reason, fix)) in cases {
        let told = format!("runcast.toml:2: auth.keys: {reason}; {fix}");
        assert_eq!(load(&format!("[auth]\nkeys = {keys}")).map(drop), Err(told));
    }
    let told = load("[auth]\n[[auth.keys]]\nalg = \"HS256\"\nsecret = \"swordfish\"\n").unwrap_err();
    let fix = "a key has kid, alg, secret_file, public_key_file";
    assert_eq!(told, format!("runcast.toml:4: auth.keys.secret: there is no such key; {fix}"));
    let none = load("[auth]\nkeys = [{ alg = \"none\", secret_file = \"k\" }]").unwrap_err();
    assert!(none.starts_with("runcast.toml:2: auth.keys.alg: expected one of HS256, HS384,"), "{none}");
}

#[test]
fn paths_in_a_file_are_relative_to_it_and_others_to_the_working_directory() {
    let text = "[store]\ndir = \"data\"\n[auth]\njwks_file = \"/etc/jwks.json\"\n\
                keys = [{ alg = \"HS256\", secret_file = \"secret\" }]";
    let settings = load(text).unwrap();
    assert!(settings.data.is_absolute() && settings.data.ends_with("data"));
    assert_eq!(settings.auth.jwks_file, Some("/etc/jwks.json".into()));
    assert!(matches!(&settings.auth.keys[0].file, KeyFile::Secret(path) if path.is_absolute()));
    let keys = flag("auth.keys", "[{ kid = \"k\", alg = \"EdDSA\", public_key_file = \"k.pem\" }]");
    let overrides = vec![flag("store.dir", "elsewhere"), keys];
    let settings = load_with(text, Sources { overrides, ..Sources::default() }).unwrap();
    assert_eq!(settings.data, PathBuf::from("elsewhere"));
    assert_eq!(settings.auth.keys[0].file, KeyFile::Public("k.pem".into()));
}

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
    let text = "[runs]\nactive = 4\nqueued = 400\nattempts = 9\n";
    let variable = |name: &str, value: &str| (name.to_owned(), value.into());
    let environment = vec![
        variable("RUNCAST_RUNS__ACTIVE", "5"),
        variable("RUNCAST_RUNS__QUEUED", "500"),
        variable("RUNCAST_AGENTS__FILES__TIMEOUT", "50s"),
        variable("RUNCAST_TOKEN", "not configuration"),
        variable("RUNS__ACTIVE", "not ours"),
    ];
    let overrides = vec![flag("runs.active", "6"), flag("agents.a.b.timeout", "60s")];
    let settings = load_with(text, Sources { environment, overrides, ..Sources::default() }).unwrap();
    let runs = &settings.core.runs;
    assert_eq!((runs.active, runs.queued, runs.attempts), (6, 500, 9));
    assert_eq!(*settings.origin("runs.active"), Origin::Flag("--set"));
    assert_eq!(*settings.origin("runs.queued"), Origin::Environment("RUNCAST_RUNS__QUEUED".to_owned()));
    assert!(settings.origin("runs.attempts").to_string().ends_with("runcast.toml:4"));
    let agent = |name| settings.core.agents[&Agent::parse(name).unwrap()].timeout;
    assert_eq!((agent("files"), agent("a.b")), (Some(Span::secs(50)), Some(Span::secs(60))));
}

#[test]
fn an_unknown_variable_with_a_section_is_an_error() {
    let environment = vec![("RUNCAST_RUNS__ACTIV".to_owned(), "5".into())];
    assert_eq!(
        load_with("", Sources { environment, ..Sources::default() }).unwrap_err(),
        "RUNCAST_RUNS__ACTIV: runs.activ: there is no such key; did you mean runs.active?"
    );
}

#[test]
fn a_warning_comes_before_the_end() {
    assert!(load("runs.warn_at_percent = 99").is_ok());
    let told = load("runs.warn_at_percent = 100").unwrap_err();
    let begins = "runcast.toml:1: runs.warn_at_percent: expected 1 to 99";
    assert!(told.starts_with(begins), "{told}");
}

#[test]
fn contradictions_are_told_where_somebody_said_something() {
    let cases = [
        (
            "[runs]\nactive = 2",
            "runs.active_per_user (3) is over runs.active (2): one user cannot have more than all",
        ),
        (
            "[runs]\ntimeout_max = \"9s\"",
            "runs.timeout (30s) is over runs.timeout_max (9s): the default cannot be",
        ),
        (
            "[agents.a]\ntimeout = \"2h\"",
            "agents.a.timeout (2h) is over runs.timeout_max (1h); lower it or raise runs",
        ),
        (
            "delivery.first_notice = \"6s\"",
            "delivery.first_notice (6s) is over delivery.backlog_every (5s): the first",
        ),
        ("store.events_per_user = 5000", ""),
        (
            "store.events_per_user = 4999",
            "store.events_per_run (5000) is over store.events_per_user (4999): a run must",
        ),
    ];
    for (text, told) in cases {
        let found = load(text).err().unwrap_or_default();
        let line = text.lines().count();
        let begins = if told.is_empty() { String::new() } else { format!("runcast.toml:{line}: {told}") };
        assert!(found.starts_with(&begins) && found.is_empty() == told.is_empty(), "{found}");
    }
}

#[test]
fn development_is_for_loopback_only() {
    let public = |dev| load_with("[server]\nlisten = \"0.0.0.0:80\"", Sources { dev, ..Sources::default() });
    assert!(public(false).is_ok());
    assert!(
        public(true)
            .unwrap_err()
            .starts_with("runcast.toml:2: server.listen: with --dev expected a loopback")
    );
}

#[test]
fn what_is_printed_can_be_read_again_and_says_where_values_come_from() {
    let text = "[runs]\nactive = 4\n[agents.\"a.b\"]\ntimeout = \"40s\"\n\
                [topics.news]\nread = \"operate\"\n[auth]\nissuer = \"x\\\"y\"\n\
                keys = [{ kid = \"k\", alg = \"HS256\", secret_file = \"/secret\" }]";
    let settings = load(text).unwrap();
    let printed = settings.print();
    assert!(printed.contains("active = 4 "), "{printed}");
    assert!(
        printed.contains("runcast.toml:2 · runs executed at once, of all users (1 to 100000)"),
        "{printed}"
    );
    let again = load(&printed).unwrap();
    assert_eq!((again.core, again.auth.keys.len()), (settings.core, 1));
}

#[test]
fn every_key_is_named_once_explained_and_good_by_default() {
    let defaults = Settings::default();
    for (i, key) in SETTINGS.iter().enumerate() {
        let name = key.name();
        assert!(SETTINGS[..i].iter().all(|other| other.name() != name), "{name}");
        assert!(!key.doc().is_empty() && !key.expects().is_empty(), "{name}");
        if let (Some(shown), Some(_)) = (key.show(&defaults), key.amount(&defaults)) {
            let loaded = load_with(
                "",
                Sources { overrides: vec![flag(name, shown.trim_matches('"'))], ..Sources::default() },
            );
            assert!(loaded.is_ok(), "{name}: {loaded:?}");
        }
    }
    let mut names: Vec<_> = AGENT.iter().map(|key| key.name()).collect();
    names.dedup();
    assert_eq!(names.len(), AGENT.len());
    assert!(AGENT.iter().all(|key| !key.doc().is_empty()));
}

#[test]
fn a_file_that_cannot_be_read_is_told() {
    let load = |path: &str| Settings::load(&Sources { file: Some(path.into()), ..Sources::default() });
    let problems = load("/no/such/file.toml").unwrap_err().to_string();
    assert!(problems.starts_with("/no/such/file.toml: cannot be read: "), "{problems}");
}

#[test]
fn every_key_is_documented_and_in_the_example_that_says_nothing_as_it_stands() {
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    for (name, text) in
        [("configuration.md", super::document::document()), ("runcast.toml", super::document::example())]
    {
        if std::env::var_os("BLESS").is_some() {
            fs::write(docs.join(name), &text).unwrap();
        }
        let written = fs::read_to_string(docs.join(name)).unwrap();
        assert!(written == text, "{name} is not as the table has it; BLESS=1 writes it anew");
    }
    let example = super::document::example();
    assert_eq!(load(&example).unwrap().print(), Settings::default().print());
    // What is commented out is right, too.
    let values =
        |line: &&str| !line.starts_with("# ") || (line.contains(" = ") && !line.contains(" is not set"));
    let all: String = example
        .lines()
        .skip(2)
        .filter(values)
        .map(|line| format!("{}\n", line.trim_start_matches("# ")))
        .collect();
    assert_eq!(load(&all).unwrap().core, Config::default());
}
