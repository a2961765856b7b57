//! What the daemon says at the core's face, as far as the witness there (`watch.rs`) must tell words apart,
//! at each of its steps: by their first and last bytes, without reading them whole.

/// Words of the daemon, known by their first bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told<'a> {
    /// `event`: of which topic, its seq, and which redelivery it is.
    Event(Option<&'a str>, u64, Option<u64>),
    /// `subscribed`: other topics are read from here on.
    Topics,
    /// The `ok` to a newer token, which may not read all topics.
    Refreshed,
    /// `run`: which, and the time for it in milliseconds.
    Offer(&'a str, u64),
    /// `withdraw`: which run.
    Withdraw(&'a str),
    /// `cancel`: which run, and why.
    Cancel(&'a str, &'a str),
    /// The notice `timeout_soon`: of which run.
    TimeoutSoon(&'a str),
    /// `welcome`.
    Welcome,
    /// `heartbeat`.
    Heartbeat,
    /// `error`.
    Error,
    /// Anything else.
    Other,
}

impl<'a> Told<'a> {
    /// Reads what begins like one of them.
    pub fn read(text: &'a [u8]) -> Self {
        let Some(rest) = text.strip_prefix(b"{\"type\":\"") else { return Self::Other };
        let Some(end) = rest.iter().position(|byte| *byte == b'"') else { return Self::Other };
        match &rest[..end] {
            b"event" => {
                let topic = rest.strip_prefix(b"event\",\"topic\":\"").map(until_quote);
                Self::Event(topic, number(rest, b"\"seq\":").unwrap_or(0), redelivery(text))
            }
            b"subscribed" => Self::Topics,
            b"ok" if rest.starts_with(b"ok\",\"of\":\"refresh\"") => Self::Refreshed,
            b"run" => Self::Offer(word(rest, b"\"run\":\""), last_number(text, b"\"timeout_ms\":")),
            b"withdraw" => Self::Withdraw(word(rest, b"\"run\":\"")),
            b"cancel" => Self::Cancel(word(rest, b"\"run\":\""), word(rest, b"\"reason\":\"")),
            b"notice" if rest.starts_with(b"notice\",\"notice\":\"timeout_soon\"") => {
                Self::TimeoutSoon(word(rest, b"\"run\":\""))
            }
            b"welcome" => Self::Welcome,
            b"heartbeat" => Self::Heartbeat,
            b"error" => Self::Error,
            _ => Self::Other,
        }
    }
}

/// Which event a stored one is.
pub fn event(bytes: &[u8]) -> &str {
    word(bytes, b"\"event\":\"")
}

/// The worker that says `hello`.
pub fn worker_of_hello(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("{\"type\":\"hello\",\"worker\":\"")?;
    Some(until_quote(rest.as_bytes()))
}

/// Where what follows a mark begins. Marks are looked for in the envelope only.
fn after<'a>(text: &'a [u8], mark: &[u8]) -> Option<&'a [u8]> {
    let envelope = &text[..text.len().min(400)];
    let at = envelope.windows(mark.len()).position(|window| window == mark)?;
    Some(&text[at + mark.len()..])
}

fn number(text: &[u8], mark: &[u8]) -> Option<u64> {
    let rest = after(text, mark)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
}

fn word<'a>(text: &'a [u8], mark: &[u8]) -> &'a str {
    after(text, mark).map(until_quote).unwrap_or_default()
}

fn until_quote(text: &[u8]) -> &str {
    let end = text.iter().position(|byte| *byte == b'"').unwrap_or(0);
    std::str::from_utf8(&text[..end]).unwrap_or_default()
}

/// The number after a mark that is at the end of a message.
fn last_number(text: &[u8], mark: &[u8]) -> u64 {
    let tail = &text[text.len().saturating_sub(mark.len() + 12)..];
    number(tail, mark).unwrap_or(u64::MAX)
}

/// The mark of a retry is the last field of its event.
fn redelivery(text: &[u8]) -> Option<u64> {
    let mark = b",\"redelivery\":";
    let tail = &text[text.len().saturating_sub(mark.len() + 12)..];
    number(tail, mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_known_by_their_first_and_last_bytes() {
        let read = |text: &'static str| Told::read(text.as_bytes());
        assert_eq!(read(r#"{"type":"event","seq":17,"ts":1,"data":{}}"#), Told::Event(None, 17, None));
        let again = r#"{"type":"event","seq":17,"ts":1,"data":{"x":"\"redelivery\":9"},"redelivery":2}"#;
        assert_eq!(read(again), Told::Event(None, 17, Some(2)));
        let offer = r#"{"type":"run","run":"run_a_1","attempt":1,"input":{"timeout_ms":1},"meta":{},"timeout_ms":30000}"#;
        assert_eq!(read(offer), Told::Offer("run_a_1", 30_000));
        let cancel = r#"{"type":"cancel","run":"run_a_1","attempt":1,"i":1,"reason":"timeout"}"#;
        assert_eq!(read(cancel), Told::Cancel("run_a_1", "timeout"));
        let warning = r#"{"type":"notice","notice":"timeout_soon","run":"run_a_1","running_ms":8}"#;
        assert_eq!(read(warning), Told::TimeoutSoon("run_a_1"));
        let of_topic = r#"{"type":"event","topic":"news","seq":4,"ts":1,"event":"x","data":{"seq":9}}"#;
        assert_eq!(read(of_topic), Told::Event(Some("news"), 4, None));
        assert_eq!(read(r#"{"type":"pong"}"#), Told::Other);
    }
}
