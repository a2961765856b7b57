//! `runcast users`: connections, runs and devices of users, for an operator.

use super::show::{ago, seconds, token};
use super::table::{Table, finish};
use super::{Exit, UsersOptions};
use crate::ask::ask;
use runcast_core::ids::User;
use serde_json::Value;
use std::time::SystemTime;

/// Shows each of them, up to the first of whom nothing is known. With `--json` a line for each.
pub fn users(options: &UsersOptions) -> Exit {
    let connection = &options.connection;
    for user in &options.users {
        let path = format!("/v1/users/{}", encode(user));
        let exit = finish(ask(&connection.place(), &token(connection), "GET", &path).map(|answer| {
            if connection.json { answer.to_string() } else { show(&answer, SystemTime::now()) }
        }));
        if exit != Exit::Done {
            return exit;
        }
    }
    Exit::Done
}

/// A user's name as a part of a path.
pub(super) fn encode(user: &User) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    user.as_str().bytes().map(encode).collect()
}

fn show(user: &Value, now: SystemTime) -> String {
    let list = |field: &str| user[field].as_array().cloned().unwrap_or_default();
    let name = super::show::plain(user["user"].as_str().unwrap_or_default());
    let mut text = format!(
        "{name}: events {} to {} of {}, {} undelivered",
        user["floor"],
        user["head"],
        user["epoch"].as_str().unwrap_or_default(),
        user["undelivered"]
    );
    for table in [connections(&list("connections")), runs(&list("runs")), devices(&list("devices"), now)] {
        text.push_str("\n\n");
        text.push_str(&table);
    }
    text
}

fn connections(connections: &[Value]) -> String {
    let mut table = Table::new(&[
        "CONNECTION",
        "KIND",
        "DEVICE",
        "ADDRESS",
        "LAG",
        "UNACKED",
        "WINDOW",
        "IDLE",
        "TOPICS",
    ]);
    for connection in connections {
        let text = |field: &str| connection[field].as_str().unwrap_or_default();
        let count = |field: &str| connection[field].to_string();
        let topic =
            |topic: &Value| format!("{}+{}", topic["topic"].as_str().unwrap_or_default(), topic["lag"]);
        let topics: Vec<String> = connection["topics"].as_array().into_iter().flatten().map(topic).collect();
        let idle = seconds(connection["idle_ms"].as_u64().unwrap_or_default());
        let (lag, unacked, window) = (count("lag"), count("unacked"), count("window"));
        let who = [text("connection"), text("kind"), text("device"), text("address")];
        table.row(&[&who[..], &[&lag, &unacked, &window, &idle, &topics.join(" ")]].concat());
    }
    table.finish()
}

fn runs(runs: &[Value]) -> String {
    let mut table = Table::new(&["RUN", "AGENT", "STATE", "ATTEMPT", "QUEUED", "RAN"]);
    for run in runs {
        let text = |field: &str| run[field].as_str().unwrap_or_default();
        let time = |field: &str| run[field].as_u64().map(seconds).unwrap_or_default();
        let attempt = run["attempt"].to_string();
        let (queued, ran) = (time("queued_ms"), time("running_ms"));
        table.row(&[text("run"), text("agent"), text("state"), &attempt, &queued, &ran]);
    }
    table.finish()
}

fn devices(devices: &[Value], now: SystemTime) -> String {
    let mut table = Table::new(&["DEVICE", "ACKED", "LAG", "HEARD"]);
    for device in devices {
        let heard = device["heard_ts"].as_u64().map(|ts| ago(ts, now)).unwrap_or_default();
        let (acked, lag) = (device["acked"].to_string(), device["lag"].to_string());
        table.row(&[device["device"].as_str().unwrap_or_default(), &acked, &lag, &heard]);
    }
    table.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    #[test]
    fn any_user_can_stand_in_a_path() {
        let encoded = |name: &str| encode(&User::parse(name).unwrap());
        assert_eq!(encoded("alice-1.x_y~z"), "alice-1.x_y~z");
        assert_eq!(encoded("a b/ü?#%"), "a%20b%2F%C3%BC%3F%23%25");
    }

    #[test]
    fn a_user_is_shown_with_all_that_is_alive() {
        let user = json!({"user": "alice\u{1b}[2J", "epoch": "e-1", "floor": 1, "head": 57, "undelivered": 0,
            "connections": [{"connection": "c-7", "kind": "websocket", "device": "laptop", "lag": 3,
                "address": "127.0.0.1", "unacked": 2, "window": 256, "idle_ms": 1200,
                "topics": [{"topic": "news", "lag": 1}]}],
            "runs": [{"run": "run_t_00000000", "agent": "a", "state": "running", "attempt": 1,
                "queued_ms": 12, "running_ms": 2100}],
            "devices": [{"device": "laptop", "acked": 54, "lag": 3, "heard_ts": 1_000}]});
        let shown = show(&user, SystemTime::UNIX_EPOCH + Duration::from_secs(31));
        assert!(!shown.contains('\u{1b}'), "{shown}");
        assert!(shown.contains("events 1 to 57 of e-1, 0 undelivered"), "{shown}");
        for part in
            ["c-7         websocket  laptop", "1.2 s  news+1", "running  1", "laptop  54     3    30 s ago"]
        {
            assert!(shown.contains(part), "{part} in:\n{shown}");
        }
    }
}
