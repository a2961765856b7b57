//! `runcast drain`: what an operator has the daemon do.

use super::show::{seconds, token};
use super::table::finish;
use super::{DrainOptions, Exit};
use crate::ask::ask;
use serde_json::Value;

/// Has the daemon go down. Told again, it changes nothing.
pub fn drain(options: &DrainOptions) -> Exit {
    let connection = &options.connection;
    finish(
        ask(&connection.url, &token(connection), "POST", "/v1/drain")
            .map(|answer| if connection.json { answer.to_string() } else { told(&answer) }),
    )
}

fn told(answer: &Value) -> String {
    let (active, queued) = (&answer["active"], &answer["queued"]);
    let deadline = seconds(answer["deadline_ms"].as_u64().unwrap_or_default());
    format!("draining: {active} active runs may end within {deadline}, {queued} queued are kept")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_waited_for_is_told() {
        let answer = json!({"draining": true, "active": 2, "queued": 7, "deadline_ms": 30_000});
        assert_eq!(told(&answer), "draining: 2 active runs may end within 30.0 s, 7 queued are kept");
    }
}
