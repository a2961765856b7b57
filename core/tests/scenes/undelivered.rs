//! Runs whose end nobody has acknowledged (PROTOCOL §4): so many are kept, and no more.

use crate::daemon::Daemon;
use runcast_core::input::Input;
use runcast_core::time::Span;
use serde_json::json;

#[test]
fn as_many_are_kept_as_the_configuration_says() {
    let mut daemon = Daemon::new(|config| config.delivery.undelivered = 2);
    let user = daemon.user("alice");
    for _ in 0..3 {
        let run = daemon.ask(user);
        daemon.says(user, &json!({"type": "cancel", "run": run}));
    }
    daemon.feed(Input::Closed { conn: user });
    daemon.pass(Span::secs(90));
    assert_eq!(daemon.core.inspect().undelivered().count(), 2);
}

/// A daemon with a webhook, and so many runs that have ended, of which nobody has heard.
fn unheard(runs: usize) -> Daemon {
    let mut daemon = Daemon::new(|config| config.delivery.webhook = Some("http://localhost/hook".to_owned()));
    let user = daemon.user("alice");
    for _ in 0..runs {
        let run = daemon.ask(user);
        daemon.says(user, &json!({"type": "cancel", "run": run}));
    }
    daemon.feed(Input::Closed { conn: user });
    daemon.pass(Span::secs(61));
    daemon
}

/// How the calls of which the webhook was called last end.
fn answer(daemon: &mut Daemon, is_taken: bool) {
    for run in std::mem::take(&mut daemon.calls) {
        daemon.feed(Input::Called { run, is_taken });
    }
}

#[test]
fn of_many_runs_the_webhook_is_told_one_after_the_other() {
    let mut daemon = unheard(10);
    for under_way in [4, 4, 2, 0] {
        assert_eq!(daemon.calls.len(), under_way);
        answer(&mut daemon, true);
    }
    daemon.pass(Span::secs(3600));
    assert_eq!(daemon.calls, []);
}

#[test]
fn a_call_that_fails_is_made_six_times_more_also_after_a_start_of_the_daemon() {
    for restarts in [false, true] {
        let mut daemon = unheard(1);
        for times in 1..=7 {
            assert_eq!(daemon.calls.len(), 1, "call {times}");
            let (_, list) = daemon.operator("GET", "/v1/undelivered");
            assert_eq!(list["undelivered"][0]["webhook"], "waiting");
            answer(&mut daemon, false);
            if restarts {
                daemon.restart();
            }
            daemon.pass(Span::secs(3600));
        }
        let (_, list) = daemon.operator("GET", "/v1/undelivered");
        let run = &list["undelivered"][0];
        assert_eq!((&run["webhook"], &run["calls"]), (&json!("failed"), &json!(7)));
        assert_eq!(daemon.calls, []);
    }
}
