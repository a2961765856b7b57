//! What vandals write: the bytes of each trick, and how a connection must end by it.

use crate::dice::Dice;
use crate::link::frame;

/// The number in [`PING`], and in the answer to it.
pub(super) const ASKED: u64 = 77;
/// A question that a healthy connection answers.
pub(super) const PING: &str = "{\"type\":\"ping\",\"n\":77}";
/// Messages that are more than a burst, and than may be refused, at 50 a second.
pub(super) const SHOUTS: usize = 600;
/// Pings of the WebSocket's own.
const PINGS: usize = 500;

/// What a vandal does on one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trick {
    /// A thousand acknowledgements of the same.
    EqualAcks,
    /// A message in frames of one byte, with pings between.
    Fragments,
    /// Head, `hello` and a question, one byte a write.
    Drip,
    /// A head that is not whole in time.
    SlowHead,
    /// Text that is not UTF-8.
    NotUtf8,
    /// A frame, or an order of frames, that RFC 6455 does not have.
    Breach,
    /// The head of a frame that would be too long.
    Announce,
    /// A flood of the WebSocket's pings.
    Pings,
    /// A flood of messages.
    Shouts,
    /// Gone in the middle of a frame.
    MidFrame,
    /// A token whose time is over.
    Expired,
    /// A token that is revoked meanwhile.
    Revoked,
    /// A token that is signed with a key of before.
    OldKey,
    /// The same device twice at once.
    Twins,
}

impl Trick {
    /// All of them.
    pub(super) const ALL: [Self; 14] = [
        Self::EqualAcks,
        Self::Fragments,
        Self::Drip,
        Self::SlowHead,
        Self::NotUtf8,
        Self::Breach,
        Self::Announce,
        Self::Pings,
        Self::Shouts,
        Self::MidFrame,
        Self::Expired,
        Self::Revoked,
        Self::OldKey,
        Self::Twins,
    ];

    /// The code of the error that it is told, if it is told one before the end.
    pub(super) const fn refused(self, is_replayed: bool) -> &'static str {
        match self {
            Self::Announce => "too_large",
            Self::Shouts => "rate_limited",
            Self::Expired => "token_expired",
            Self::Revoked if is_replayed => "token_revoked",
            Self::OldKey => "token_signature",
            Self::EqualAcks
            | Self::Fragments
            | Self::Drip
            | Self::SlowHead
            | Self::NotUtf8
            | Self::Breach
            | Self::Pings
            | Self::MidFrame
            | Self::Revoked
            | Self::Twins => "",
        }
    }

    /// How a connection may end by it: statuses and close codes. `is_replayed` is whether its token is good
    /// no longer.
    pub(super) const fn ends(self, is_replayed: bool) -> &'static [u16] {
        match self {
            Self::EqualAcks | Self::Fragments | Self::Drip | Self::Pings | Self::MidFrame => &[],
            Self::SlowHead => &[408],
            Self::NotUtf8 => &[1007],
            Self::Breach => &[1002],
            Self::Announce => &[4505],
            Self::Shouts => &[4509],
            // If the clock goes back it is good again, for a while.
            Self::Expired => &[401, 4501, 4506],
            Self::Revoked if is_replayed => &[401, 4501],
            Self::OldKey => &[401, 4501],
            Self::Revoked => &[4507],
            Self::Twins => &[4510],
        }
    }
}

/// A text message.
pub(super) fn text(text: &str) -> Vec<u8> {
    frame(0x81, text.as_bytes())
}

/// A message in frames of one byte each, with a ping after every fourth.
pub(super) fn fragments(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (at, byte) in text.bytes().enumerate() {
        let first = if at == 0 { 0x01 } else { 0x00 };
        let last = if at + 1 == text.len() { 0x80 } else { 0x00 };
        bytes.extend(frame(first | last, &[byte]));
        if at % 4 == 3 {
            bytes.extend(frame(0x89, b"?"));
        }
    }
    bytes
}

/// Text that is not UTF-8: a byte that none may have, a character cut off at the end of the message, or one
/// that goes on wrongly in the next frame.
pub(super) fn not_utf8(dice: &mut Dice) -> Vec<u8> {
    match dice.below(3) {
        0 => frame(0x81, b"{\"type\":\"ping\",\"x\":\"\xff\"}"),
        1 => frame(0x81, b"{\"type\":\"ping\",\"x\":\"\xe2\x82"),
        _ => [frame(0x01, b"{\"x\":\"\xe2\x82"), frame(0x80, b"\"}")].concat(),
    }
}

/// A breach of RFC 6455.
pub(super) fn breach(dice: &mut Dice) -> Vec<u8> {
    match dice.below(6) {
        0 => frame(0x80, b"goes on with nothing"),
        1 => [frame(0x01, b"{"), frame(0x81, b"{}")].concat(),
        2 => frame(0x83, b"an operation that is reserved"),
        3 => frame(0xc1, b"a bit that is reserved"),
        4 => frame(0x09, b"a ping in pieces"),
        _ => frame(0x89, &[b'.'; 126]),
    }
}

/// The beginning of a message that is longer than one may be: by a byte, or by more than there is.
pub(super) fn announcement(dice: &mut Dice) -> Vec<u8> {
    let length: u64 = dice.pick(&[64 * 1024 + 1, 1 << 31, (1 << 62) + 1]);
    let mut bytes = vec![0x81, 0x80 | 127];
    bytes.extend(length.to_be_bytes());
    bytes.extend(b"maskand then some");
    bytes
}

/// A flood of pings, each with as much as it may have every tenth time.
pub(super) fn pings() -> Vec<u8> {
    let payload = |n: usize| if n.is_multiple_of(10) { vec![b'!'; 125] } else { Vec::new() };
    (0..PINGS).flat_map(|n| frame(0x89, &payload(n))).collect()
}

/// The beginning of a frame, anywhere up to all but its last byte.
pub(super) fn half_a_frame(dice: &mut Dice) -> Vec<u8> {
    let mut bytes =
        text(&format!("{{\"type\":\"run\",\"agent\":\"write\",\"input\":\"{}\"}}", "z".repeat(200)));
    bytes.truncate(dice.between(1, bytes.len() as u64 - 1) as usize);
    bytes
}
