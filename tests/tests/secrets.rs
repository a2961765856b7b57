//! What must stay secret is in nothing that the daemon writes: not in its log (at the finest level), not in
//! errors, metrics, the audit trail or `check --print`.

use runcast_tests::{Ask, Daemon, SECRET, Socket, claims, raw_request, runcast, sign, token};
use serde_json::{Value, json};

#[test]
fn neither_the_key_nor_a_token_is_written_anywhere() {
    let daemon = Daemon::start(&["log.level=trace", "limits.unauthenticated_per_address_per_minute=1000"]);
    let door = daemon.door();
    let operator = token("op", "operate");
    let bad = sign(&claims("mallory", "user"), b"another secret of thirty-two bytes");
    let expired = sign(&json!({ "sub": "alice", "exp": 1 }), SECRET);
    let good = token("alice", "user");
    let mut said = String::new();
    for token in [&bad, &expired, &good, &operator] {
        said += &Ask::new("GET", "/v1/runs").token(token).send(&door).body;
        said += &Ask::new("GET", &format!("/v1/runs?token={token}")).send(&door).body;
        for path in ["runs/", "users/", "status?find=", "users/a.", "users/Bearer%20"] {
            for asker in [&good, &bad, &operator] {
                said += &Ask::new("GET", &format!("/v1/{path}{token}")).token(asker).send(&door).body;
            }
        }
        for path in
            [format!("backups/{token}"), format!("threads/{token}/runs"), format!("topics/{token}/events")]
        {
            said += &Ask::new("POST", &format!("/v1/{path}")).token(&bad).body("").send(&door).body;
        }
        let protocols = format!("runcast.v1, jwt.{token}");
        for protocols in ["runcast.v1", &protocols] {
            let mut socket = Socket::with(door.address(), "/ws", protocols, None).expect("it is upgraded");
            socket.say(&json!({ "type": "hello", "token": token, "device": "d" }));
            said += &socket.hear().map_or_else(|ended| format!("{ended:?}"), |heard| heard.to_string());
            socket.say(&json!({ "type": "refresh", "token": bad }));
            said += &socket.hear().map_or_else(|ended| format!("{ended:?}"), |heard| heard.to_string());
        }
    }
    let user = Ask::new("GET", "/v1/users/alice").token(&operator).send(&door);
    assert_eq!(user.status, 200);
    said += &user.body;
    said += &raw_request(door.address(), "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").1;
    let config = daemon.config();
    let (code, printed, errors) =
        runcast(&["check", "--print", "--config", &config.to_string_lossy(), "--data", "elsewhere"]);
    assert_eq!(code, 0, "{errors}");
    said += &printed;

    // What an operator has looked at, and who was refused, stands in the trail.
    let lines = daemon.log().lines();
    let trail: Vec<Value> = lines
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["target"] == "audit")
        .map(|line| line["fields"].clone())
        .collect();
    let looked = trail.iter().find(|line| line["by"] == "op" && line["about"] == "alice");
    let looked = looked.expect("an operator's request is audited");
    assert_eq!((&looked["action"], &looked["message"]), (&json!("GET /v1/users/{user}"), &json!("allowed")));
    for code in ["token_signature", "token_expired", "token_scope"] {
        assert!(trail.iter().any(|line| line["code"] == code && line["message"] == "refused"), "{code}");
    }
    said += &lines.join("\n");
    let secret = std::str::from_utf8(SECRET).expect("text");
    for token in [&bad, &expired, &good, &operator] {
        let signature = token.rsplit('.').next().expect("three parts");
        assert!(!said.contains(signature), "a token is written: {}", excerpt(&said, signature));
    }
    assert!(!said.contains(secret), "the secret is written: {}", excerpt(&said, secret));
}

/// What stands around something.
fn excerpt(text: &str, word: &str) -> String {
    let at = text.find(word).unwrap_or(0);
    text.chars().skip(at.saturating_sub(200)).take(400).collect()
}
