//! Going down (PROTOCOL §5 `drain`), with more connections than are told at once.

use crate::daemon::Daemon;
use runcast_core::input::Input;
use runcast_core::time::Span;

#[test]
fn each_of_many_connections_is_told_and_closed() {
    let mut daemon = Daemon::new(|config| config.server.connections_per_address = 10_000);
    let users: Vec<_> = (0..600).map(|user| daemon.user(&format!("user-{user}"))).collect();
    daemon.feed(Input::Drain);
    daemon.pass(Span::secs(60));
    for user in users {
        let told = daemon.heard(user).iter().filter(|said| said["notice"] == "drain").count();
        assert_eq!(told, 1, "{user:?}");
        assert_eq!(daemon.closed(user).map(|code| code as u16), Some(4400));
    }
}
