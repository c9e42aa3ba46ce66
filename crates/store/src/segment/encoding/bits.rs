//! Streams of bits: fields of up to 64 bits behind each other, lowest bit first.
//!
//! The reader knows how many bits there are and refuses to go further; the bits that
//! fill the last byte must be zeros, so that a stream has one form only.

use super::BlockError;

/// Appends fields to a byte vector.
#[derive(Debug)]
pub(super) struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    /// Bits that do not make a whole word yet.
    word: u64,
    /// How many, at most 63.
    held: u32,
}

impl<'a> BitWriter<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> BitWriter<'a> {
        BitWriter {
            out,
            word: 0,
            held: 0,
        }
    }

    /// Appends the lowest `width` bits of `field`, which has no others set; at most 64.
    #[inline(always)]
    pub(super) fn put(&mut self, field: u64, width: u32) {
        debug_assert!(width <= 64 && (width == 64 || field >> width == 0));
        self.word |= field << self.held;
        let bits = self.held + width;
        if bits < 64 {
            self.held = bits;
            return;
        }
        self.out.extend_from_slice(&self.word.to_le_bytes());
        let taken = 64 - self.held;
        self.word = field.checked_shr(taken).unwrap_or(0);
        self.held = bits - 64;
    }

    /// Writes what is held; the last byte is filled with zeros.
    pub(super) fn finish(self) {
        let bytes = self.held.div_ceil(8) as usize;
        self.out
            .extend_from_slice(&self.word.to_le_bytes()[..bytes]);
    }
}

/// Takes fields from bytes.
#[derive(Debug)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    /// Bits taken, at most `end`.
    at: usize,
    end: usize,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> BitReader<'a> {
        BitReader {
            bytes,
            at: 0,
            end: bytes.len() * 8,
        }
    }

    /// The next `width` bits, at most 64.
    ///
    /// Errors: there are fewer.
    #[inline(always)]
    pub(super) fn take(&mut self, width: u32) -> Result<u64, BlockError> {
        debug_assert!(width <= 64);
        if width as usize > self.end - self.at {
            return Err(BlockError::new("a bit stream that ends early"));
        }
        let mut field = self.peek(self.at);
        if width > PEEKED {
            field = (field & mask(32)) | self.peek(self.at + 32) << 32;
        }
        self.at += width as usize;
        Ok(field & mask(width))
    }

    /// At least [`PEEKED`] bits from `at` on; zeros behind the end.
    #[inline(always)]
    fn peek(&self, at: usize) -> u64 {
        let start = at / 8;
        let word = match self.bytes.get(start..start + 8) {
            Some(bytes) => u64::from_le_bytes(bytes.try_into().unwrap_or_default()),
            None => self.last_word(start),
        };
        word >> (at % 8)
    }

    #[cold]
    fn last_word(&self, start: usize) -> u64 {
        let mut word = [0; 8];
        let rest = self.bytes.get(start..).unwrap_or_default();
        let rest = &rest[..rest.len().min(8)];
        word[..rest.len()].copy_from_slice(rest);
        u64::from_le_bytes(word)
    }

    /// Errors: more than the zeros that fill the last byte is left.
    pub(super) fn finish(self) -> Result<(), BlockError> {
        let left = self.end - self.at;
        if left >= 8 || self.peek(self.at) & mask(left as u32) != 0 {
            return Err(BlockError::new("bits follow the last value"));
        }
        Ok(())
    }
}

/// Bits that one look gives whatever the position in its byte.
const PEEKED: u32 = 57;

#[inline(always)]
fn mask(width: u32) -> u64 {
    u64::MAX.checked_shr(64 - width).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn fields_come_back(fields in prop::collection::vec((any::<u64>(), 0..=64u32), 0..100)) {
            let mut bytes = vec![9];
            let mut writer = BitWriter::new(&mut bytes);
            for (field, width) in &fields {
                writer.put(field & mask(*width), *width);
            }
            writer.finish();
            let bits: usize = fields.iter().map(|(_, width)| *width as usize).sum();
            prop_assert_eq!(bytes.len(), 1 + bits.div_ceil(8));
            let mut reader = BitReader::new(&bytes[1..]);
            for (field, width) in &fields {
                prop_assert_eq!(reader.take(*width).unwrap(), field & mask(*width));
            }
            prop_assert!(reader.take(8).is_err());
            reader.finish().unwrap();
        }
    }

    #[test]
    fn what_is_left_over_is_refused() {
        let rest = |bytes: &[u8], taken| {
            let mut reader = BitReader::new(bytes);
            reader.take(taken).unwrap();
            reader.finish()
        };
        assert!(rest(&[0b0000_0111], 3).is_ok());
        assert!(rest(&[0b0000_1111], 3).is_err());
        assert!(rest(&[0b0000_0111, 0], 3).is_err());
        assert!(rest(&[], 0).is_ok());
    }
}
