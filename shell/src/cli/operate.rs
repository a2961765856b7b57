//! `runcast drain`, `disconnect` and `revoke`: what an operator has the daemon do.

use super::show::{seconds, token};
use super::table::finish;
use super::users::encode;
use super::{DisconnectOptions, DrainOptions, Exit, RevokeOptions};
use crate::ask::{ask, ask_with};
use serde_json::{Value, json};

/// Has the daemon go down. Told again, it changes nothing.
pub fn drain(options: &DrainOptions) -> Exit {
    let connection = &options.connection;
    finish(
        ask(&connection.place(), &token(connection), "POST", "/v1/drain")
            .map(|answer| if connection.json { answer.to_string() } else { told(&answer) }),
    )
}

/// Closes a user's connections.
pub fn disconnect(options: &DisconnectOptions) -> Exit {
    let connection = &options.connection;
    let path = format!("/v1/users/{}/disconnect", encode(&options.user));
    let body = json!({ "reconnect": options.reconnect });
    finish(ask_with(&connection.place(), &token(connection), "POST", &path, Some(&body)).map(|answer| {
        let told = format!("{}: {} connections closed", options.user, answer["closed"]);
        if connection.json { answer.to_string() } else { told }
    }))
}

/// Has all tokens of a user refused that were made up to now, and closes the connections.
pub fn revoke(options: &RevokeOptions) -> Exit {
    let connection = &options.connection;
    let path = format!("/v1/users/{}/revoke", encode(&options.user));
    finish(ask(&connection.place(), &token(connection), "POST", &path).map(|answer| {
        let told = format!("{}: tokens revoked, {} connections closed", options.user, answer["closed"]);
        if connection.json { answer.to_string() } else { told }
    }))
}

fn told(answer: &Value) -> String {
    let (active, queued) = (&answer["active"], &answer["queued"]);
    let deadline = seconds(answer["deadline_ms"].as_u64().unwrap_or_default());
    format!("draining: {active} active runs may end within {deadline}, {queued} queued are kept")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_is_told() {
        let answer = json!({"draining": true, "active": 2, "queued": 7, "deadline_ms": 30_000});
        assert_eq!(told(&answer), "draining: 2 active runs may end within 30.0 s, 7 queued are kept");
    }
}
