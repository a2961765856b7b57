//! A fuzzer's bytes as a source of choices: one byte for each where it can be, so that a changed byte is a
//! changed choice and seeds can be written by hand. When the bytes are used up every choice is the first.

/// Bytes that are used up from the front.
#[derive(Clone, Copy, Debug)]
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    /// All of these.
    pub fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// Whether they are used up.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte, 0 after the last.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// `0..end`, for an `end` of at most 256 that is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// A number of any magnitude: so many bits as the first byte says, filled from the second.
    pub fn number(&mut self) -> u64 {
        let bits = self.below(65) as u32;
        let fill = u64::from(self.byte()).wrapping_mul(0x0101_0101_0101_0101);
        if bits == 0 { 0 } else { fill >> (64 - bits) }
    }

    /// As many bytes as the next byte says, or are left.
    pub fn some(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.0.len());
        let (some, rest) = self.0.split_at(length);
        self.0 = rest;
        some
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}
