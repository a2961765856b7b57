//! `runcast workers`: the workers and agents that there are, for an operator.

use super::show::token;
use super::table::{Table, finish};
use super::{Exit, WorkersOptions};
use crate::ask::ask;
use serde_json::Value;

/// Lists workers, and the agents that they serve or have served. With `--json` first a line for each worker,
/// then one for each agent.
pub fn workers(options: &WorkersOptions) -> Exit {
    let connection = &options.connection;
    finish(ask(&connection.place(), &token(connection), "GET", "/v1/workers").map(|answer| {
        let list = |field: &str| answer[field].as_array().cloned().unwrap_or_default();
        let (workers, agents) = (list("workers"), list("agents"));
        if connection.json {
            return super::runs::lines(&[workers, agents].concat());
        }
        format!("{}\n\n{}", worker_table(&workers), agent_table(&agents))
    }))
}

fn worker_table(workers: &[Value]) -> String {
    let mut table = Table::new(&["WORKER", "OF", "STATE", "AGENTS", "RUNS"]);
    for worker in workers {
        let text = |field: &str| worker[field].as_str().unwrap_or_default();
        let serves =
            |agent: &Value| format!("{}×{}", agent["agent"].as_str().unwrap_or_default(), agent["slots"]);
        let agents: Vec<String> = worker["agents"].as_array().into_iter().flatten().map(serves).collect();
        let runs = worker["runs"].as_array().into_iter().flatten();
        let runs: Vec<&str> = runs.filter_map(|run| run["run"].as_str()).collect();
        table.row(&[text("worker"), text("sub"), text("state"), &agents.join(" "), &runs.join(" ")]);
    }
    table.finish()
}

fn agent_table(agents: &[Value]) -> String {
    let mut table = Table::new(&["AGENT", "BREAKER", "ACTIVE", "SLOTS", "FREE"]);
    for agent in agents {
        let text = |field: &str| agent[field].as_str().unwrap_or_default();
        let count = |field: &str| agent[field].to_string();
        table.row(&[text("agent"), text("breaker"), &count("active"), &count("slots"), &count("free")]);
    }
    table.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn workers_and_agents_are_shown_in_columns() {
        let worker = json!({"worker": "w-1", "sub": "ci\u{1b}[2J", "state": "busy",
            "agents": [{"agent": "a", "slots": 2}, {"agent": "b", "slots": 1}],
            "runs": [{"run": "run_t_00000000", "user": "alice"}]});
        let table = worker_table(&[worker]);
        assert!(table.starts_with("WORKER  OF"), "{table}");
        assert!(table.contains("a×2 b×1") && table.contains("run_t_00000000"), "{table}");
        assert!(!table.contains('\u{1b}'), "{table}");
        let agent = json!({"agent": "a", "breaker": "half_open", "active": 1, "slots": 2, "free": 1});
        let expected = "AGENT  BREAKER    ACTIVE  SLOTS  FREE\na      half_open  1       2      1";
        assert_eq!(agent_table(&[agent]), expected);
    }
}
