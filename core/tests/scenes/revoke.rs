//! Revoked tokens are remembered of so many users (DESIGN, fifth law): a user more is refused, one of them
//! not.

use crate::daemon::Daemon;

#[test]
fn of_a_user_more_than_are_remembered_no_tokens_can_be_revoked() {
    let mut daemon = Daemon::new(|config| config.limits.revoked = 1);
    assert_eq!(daemon.operator("POST", "/v1/users/alice/revoke").0, 200);
    assert_eq!(daemon.operator("POST", "/v1/users/alice/revoke").0, 200);
    assert_eq!(daemon.operator("POST", "/v1/users/bob/revoke").0, 503);
}
