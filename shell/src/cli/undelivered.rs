//! `runcast undelivered`: ended runs that nobody has got, for an operator.

use super::show::{ago, token};
use super::table::{Table, finish};
use super::{Exit, UndeliveredOptions};
use crate::ask::ask;
use serde_json::Value;
use std::time::SystemTime;

/// Lists them, newest first. Under a table that is not all of them stands how many there are.
pub fn undelivered(options: &UndeliveredOptions) -> Exit {
    let connection = &options.connection;
    let path = format!("/v1/undelivered?limit={}", options.limit);
    finish(ask(&connection.place(), &token(connection), "GET", &path).map(|answer| {
        let runs = answer["undelivered"].as_array().cloned().unwrap_or_default();
        if connection.json {
            return super::runs::lines(&runs);
        }
        let mut shown = table(&runs, SystemTime::now());
        match answer["count"].as_u64() {
            Some(count) if count > runs.len() as u64 => {
                shown.push_str(&format!("\n\n{} of {count}; --limit shows more", runs.len()));
            }
            Some(_) | None => {}
        }
        shown
    }))
}

fn table(runs: &[Value], now: SystemTime) -> String {
    let mut table = Table::new(&["USER", "RUN", "AGENT", "STATUS", "ENDED", "WEBHOOK", "CALLS"]);
    for run in runs {
        let text = |field: &str| run[field].as_str().unwrap_or_default();
        let ended = run["ended_ts"].as_u64().map(|ts| ago(ts, now)).unwrap_or_default();
        let calls = run["calls"].to_string();
        table.row(&[
            text("user"),
            text("run"),
            text("agent"),
            text("status"),
            &ended,
            text("webhook"),
            &calls,
        ]);
    }
    table.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    #[test]
    fn what_nobody_got_is_shown_with_its_age_and_the_webhook() {
        let run = json!({"user": "alice", "run": "run_t_00000000", "thread": "t", "agent": "a", "status": "ok",
            "ended_ts": 5_000, "webhook": "told", "calls": 2});
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(5 + 3 * 3_600);
        let lines: Vec<String> = table(&[run], now).lines().map(str::to_owned).collect();
        assert_eq!(lines[0], "USER   RUN             AGENT  STATUS  ENDED    WEBHOOK  CALLS");
        assert_eq!(lines[1], "alice  run_t_00000000  a      ok      3 h ago  told     2");
    }
}
