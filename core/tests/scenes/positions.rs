//! Positions that have moved are stored some at a time (PROTOCOL §3 "A device's position"): however many
//! devices acknowledge at once, no turn has to write all of their rows.

use crate::daemon::Daemon;
use runcast_core::time::Span;
use serde_json::json;

const USERS: usize = 200;
/// The core's own limit of users, of one device each here.
const AT_ONCE: usize = 64;

#[test]
fn of_many_positions_that_have_moved_a_few_are_stored_at_a_time_and_all_soon() {
    let mut daemon = Daemon::new(|_| {});
    let name = |user: usize| format!("user-{user}");
    let conns: Vec<_> = (0..USERS).map(|user| daemon.user(&name(user))).collect();
    conns.iter().for_each(|conn| drop(daemon.ask(*conn)));
    daemon.pass(Span::secs(1));
    conns.iter().for_each(|conn| daemon.says(*conn, &json!({"type": "ack", "seq": 1})));
    let mut moved = daemon.core.inspect().sizes().moved;
    assert_eq!(moved, USERS);
    daemon.pass(Span::millis(49));
    while moved > 0 {
        daemon.pass(Span::millis(1));
        let rest = daemon.core.inspect().sizes().moved;
        assert_eq!(rest, moved.saturating_sub(AT_ONCE));
        moved = rest;
    }
    daemon.restart();
    for user in 0..USERS {
        let conn = daemon.user(&name(user));
        assert_eq!(daemon.heard(conn)[0]["resume"]["from"], 1, "{}", name(user));
    }
}

/// Whoever moves while others have their turn has one after them, also if nobody else moves any more.
#[test]
fn a_position_that_moves_while_others_are_stored_is_stored_soon_too() {
    let mut daemon = Daemon::new(|_| {});
    let conns: Vec<_> = (0..=AT_ONCE).map(|user| daemon.user(&format!("user-{user}"))).collect();
    conns.iter().for_each(|conn| drop([daemon.ask(*conn), daemon.ask(*conn)]));
    daemon.pass(Span::secs(1));
    conns.iter().for_each(|conn| daemon.says(*conn, &json!({"type": "ack", "seq": 1})));
    daemon.pass(Span::millis(50));
    assert_eq!(daemon.core.inspect().sizes().moved, 1, "one has its turn in a millisecond");
    daemon.says(conns[0], &json!({"type": "ack", "seq": 2}));
    daemon.pass(Span::millis(52));
    assert_eq!(daemon.core.inspect().sizes().moved, 0);
}
