//! A text message as a server says it: in one frame, of which nothing is masked (RFC 6455 §5.2).

use bytes::BufMut;

/// The most that comes before the text, in bytes.
pub(super) const HEADER_BYTES: usize = 10;

/// Puts a text message.
pub(crate) fn put_text(out: &mut impl BufMut, text: &[u8]) {
    const TEXT: u8 = 0x81;
    match text.len() {
        length @ ..126 => out.put_slice(&[TEXT, length as u8]),
        length @ ..0x1_0000 => {
            let [high, low] = (length as u16).to_be_bytes();
            out.put_slice(&[TEXT, 126, high, low]);
        }
        length => {
            out.put_slice(&[TEXT, 127]);
            out.put_u64(length as u64);
        }
    }
    out.put_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tungstenite::protocol::frame::Frame;
    use tungstenite::protocol::frame::coding::{Data, OpCode};

    #[test]
    fn a_frame_is_what_tungstenite_makes_of_it() {
        for length in [0, 125, 126, 0xffff, 0x1_0000] {
            let text = ".".repeat(length);
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            put_text(&mut ours, text.as_bytes());
            let made = Frame::message(text.into_bytes(), OpCode::Data(Data::Text), true);
            made.format(&mut theirs).unwrap();
            assert_eq!(ours, theirs, "{length}");
        }
    }
}
