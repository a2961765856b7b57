//! `runcast runs` and `runcast cancel`: a user's runs, and the end of one.

use super::show::{seconds, token};
use super::table::{Table, finish};
use super::{CancelOptions, Exit, RunsOptions};
use crate::ask::ask;
use serde_json::Value;

/// Lists the runs of the token's user, newest first.
pub fn runs(options: &RunsOptions) -> Exit {
    let connection = &options.connection;
    let mut path = format!("/v1/runs?limit={}", options.limit);
    if let Some(state) = &options.state {
        path.push_str(&format!("&state={state}"));
    }
    finish(ask(&connection.place(), &token(connection), "GET", &path).map(|answer| {
        let runs = answer["runs"].as_array().cloned().unwrap_or_default();
        if connection.json { lines(&runs) } else { table(&runs) }
    }))
}

/// Ends a run. That it had ended before is no failure.
pub fn cancel(options: &CancelOptions) -> Exit {
    let connection = &options.connection;
    let path = format!("/v1/runs/{}/cancel", options.run);
    finish(ask(&connection.place(), &token(connection), "POST", &path).map(|answer| {
        let state = answer["state"].as_str().unwrap_or_default();
        if connection.json { answer.to_string() } else { format!("{} {state}", options.run) }
    }))
}

/// One object a line.
pub(super) fn lines(objects: &[Value]) -> String {
    objects.iter().map(Value::to_string).collect::<Vec<_>>().join("\n")
}

fn table(runs: &[Value]) -> String {
    let mut table = Table::new(&["RUN", "AGENT", "THREAD", "STATE", "QUEUED", "RAN"]);
    for run in runs {
        let text = |field: &str| run[field].as_str().unwrap_or_default();
        let time = |field: &str| run[field].as_u64().map(seconds).unwrap_or_default();
        let state = format!("{} {}", text("state"), text("status"));
        let cells = [text("run"), text("agent"), text("thread"), state.trim_end()];
        table.row(&[&cells[..], &[&time("queued_ms"), &time("running_ms")]].concat());
    }
    table.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn runs_are_shown_in_columns_as_wide_as_needed() {
        let runs = [
            json!({"run": "run_t_00000001", "agent": "files", "thread": "t", "state": "running",
                "queued_ms": 12, "running_ms": 2100}),
            json!({"run": "run_t_00000000", "agent": "a", "thread": "thread_1", "state": "ended",
                "status": "ok", "queued_ms": 0, "running_ms": 90}),
        ];
        let lines: Vec<String> = table(&runs).lines().map(str::to_owned).collect();
        assert_eq!(lines[0], "RUN             AGENT  THREAD    STATE     QUEUED  RAN");
        assert!(lines[1].starts_with("run_t_00000001  files  t         running   "), "{}", lines[1]);
        assert!(lines[2].starts_with("run_t_00000000  a      thread_1  ended ok  "), "{}", lines[2]);
        assert_eq!(table(&[]), "RUN  AGENT  THREAD  STATE  QUEUED  RAN");
    }
}
