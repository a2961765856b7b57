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
