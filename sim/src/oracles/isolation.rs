//! O10, for PROTOCOL §2.7 "Isolated": the secret that every payload of a user carries is in nothing that is sent to
//! another, whatever it is: an event, an error, a notice, a `welcome`.

use super::truth::secrets;

/// Judges a message to a user.
///
/// # Errors
/// Whose secret it carries.
pub fn judge(user: usize, text: &str) -> Result<(), String> {
    match secrets(text).find(|other| *other != user) {
        Some(other) => Err(format!("user {user} is sent a secret of user {other}: {text}")),
        None => Ok(()),
    }
}
