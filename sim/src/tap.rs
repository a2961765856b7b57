//! Reads along what the daemon writes to one connection, at the moment it is written.
//!
//! A server's frames are unmasked, so what a peer will see can be known before it travels: that is when the
//! oracles must judge it (durable first, isolation), not when it arrives, if ever.

/// What the daemon has written whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrote {
    /// The answer to the head: its status.
    Head(u16),
    /// A text message.
    Text(String),
    /// A ping or a pong.
    Alive,
    /// A close frame with its code.
    Close(u16),
    /// Bytes that are not what a server may write, and why.
    Broken(&'static str),
}

/// The reader of one connection.
#[derive(Debug, Default)]
pub struct Tap {
    buffer: Vec<u8>,
    upgraded: bool,
    finished: bool,
}

/// The head of a frame: its operation, where its payload begins, and how long that is.
struct Frame {
    operation: u8,
    from: usize,
    length: usize,
}

impl Tap {
    /// Takes in bytes as they are written; what they complete is appended to `out`.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<Wrote>) {
        self.buffer.extend_from_slice(bytes);
        if !self.upgraded {
            let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") else { return };
            let status = status(&self.buffer[..end]);
            self.upgraded = true;
            self.finished = status != 101;
            out.push(Wrote::Head(status));
            self.buffer.drain(..end + 4);
        }
        if self.finished {
            return self.buffer.clear();
        }
        let mut at = 0;
        while let Some(frame) = frame(&self.buffer[at..]) {
            let payload = &self.buffer[at + frame.from..at + frame.from + frame.length];
            out.push(wrote(frame.operation, payload));
            at += frame.from + frame.length;
        }
        self.buffer.drain(..at);
    }
}

fn status(head: &[u8]) -> u16 {
    let text = std::str::from_utf8(head).unwrap_or("");
    text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

/// The frame at the beginning of `bytes`, once it is there whole.
fn frame(bytes: &[u8]) -> Option<Frame> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    let (from, length) = match second & 0x7f {
        126 => (4, u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?) as usize),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize),
        short => (2, short as usize),
    };
    let whole = bytes.len() >= from + length;
    let operation = if second & 0x80 == 0 { first } else { 0 };
    whole.then_some(Frame { operation, from, length })
}

fn wrote(operation: u8, payload: &[u8]) -> Wrote {
    match operation {
        0x81 => match std::str::from_utf8(payload) {
            Ok(text) => Wrote::Text(text.to_owned()),
            Err(_) => Wrote::Broken("text that is not UTF-8"),
        },
        0x88 => Wrote::Close(payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]))),
        0x89 | 0x8a => Wrote::Alive,
        _ => Wrote::Broken("a frame that is masked, split, binary or reserved"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_anywhere_the_same_is_read() {
        let mut bytes = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n".to_vec();
        bytes.extend_from_slice(&[0x81, 2, b'h', b'i', 0x89, 0]);
        bytes.extend_from_slice(&[0x81, 126, 1, 0]);
        bytes.extend_from_slice(&[b'x'; 256]);
        bytes.extend_from_slice(&[0x88, 2, 0x11, 0x34]);
        let whole = vec![
            Wrote::Head(101),
            Wrote::Text("hi".into()),
            Wrote::Alive,
            Wrote::Text("x".repeat(256)),
            Wrote::Close(4404),
        ];
        for step in [1, 2, 3, 7, bytes.len()] {
            let (mut tap, mut out) = (Tap::default(), Vec::new());
            bytes.chunks(step).for_each(|chunk| tap.feed(chunk, &mut out));
            assert_eq!(out, whole, "in pieces of {step}");
        }
    }
}
