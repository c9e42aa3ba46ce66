//! Writing and reading the small binary pieces that formats are made of:
//! little-endian integers, LEB128 lengths, length-prefixed bytes.
//!
//! [`Decoder`] never panics: bytes that end early or lie about a length are a
//! [`DataError::Damaged`] that names what was read and where.

use crate::DataError;

/// Appends encoded pieces to a buffer.
#[derive(Default, Debug)]
pub struct Encoder {
    /// What was encoded so far.
    pub buffer: Vec<u8>,
}

impl Encoder {
    /// One byte.
    pub fn u8(&mut self, v: u8) {
        self.buffer.push(v);
    }
    /// Four bytes, little-endian.
    pub fn u32(&mut self, v: u32) {
        self.buffer.extend_from_slice(&v.to_le_bytes());
    }
    /// Eight bytes, little-endian.
    pub fn u64(&mut self, v: u64) {
        self.buffer.extend_from_slice(&v.to_le_bytes());
    }
    /// LEB128, one to ten bytes.
    pub fn varint(&mut self, v: u64) {
        put_varint(&mut self.buffer, v);
    }
    /// A varint length and the bytes.
    pub fn bytes(&mut self, v: &[u8]) {
        self.varint(v.len() as u64);
        self.buffer.extend_from_slice(v);
    }
}

pub(crate) fn put_varint(buffer: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        buffer.push(v as u8 | 0x80);
        v >>= 7;
    }
    buffer.push(v as u8);
}

/// Takes encoded pieces off the front of a slice.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    what: &'static str,
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Decoder<'a> {
    /// Decodes `bytes`, which errors will call `what`.
    pub fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Decoder {
            what,
            bytes,
            offset: 0,
        }
    }
    /// The error "damaged `what` at this offset".
    pub fn damaged(&self, reason: &'static str) -> DataError {
        DataError::Damaged {
            what: self.what,
            offset: self.offset,
            reason,
        }
    }
    /// Whether all bytes were taken.
    pub fn is_empty(&self) -> bool {
        self.offset == self.bytes.len()
    }
    /// Bytes taken so far.
    pub fn offset(&self) -> usize {
        self.offset
    }
    /// The next byte, which stays.
    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.offset).copied()
    }
    /// The next `n` bytes.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], DataError> {
        if n > self.bytes.len() - self.offset {
            return Err(self.damaged("it ends too early"));
        }
        let taken = &self.bytes[self.offset..self.offset + n];
        self.offset += n;
        Ok(taken)
    }
    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DataError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }
    /// One byte.
    pub fn u8(&mut self) -> Result<u8, DataError> {
        Ok(self.array::<1>()?[0])
    }
    /// Four bytes, little-endian.
    pub fn u32(&mut self) -> Result<u32, DataError> {
        Ok(u32::from_le_bytes(self.array()?))
    }
    /// Eight bytes, little-endian.
    pub fn u64(&mut self) -> Result<u64, DataError> {
        Ok(u64::from_le_bytes(self.array()?))
    }
    /// LEB128.
    pub fn varint(&mut self) -> Result<u64, DataError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.damaged("a length of more than 64 bits"))
    }
    /// A varint that must fit the bytes left when taken as a count of things of
    /// at least one byte each.
    pub fn count(&mut self) -> Result<usize, DataError> {
        let n = self.varint()?;
        if n > (self.bytes.len() - self.offset) as u64 {
            return Err(self.damaged("a count that exceeds what follows"));
        }
        Ok(n as usize)
    }
    /// Length-prefixed bytes.
    pub fn bytes(&mut self) -> Result<&'a [u8], DataError> {
        let n = self.count()?;
        self.take(n)
    }
    /// Length-prefixed UTF-8.
    pub fn text(&mut self) -> Result<&'a str, DataError> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|_| self.damaged("text that is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_round_trip() {
        let mut e = Encoder::default();
        for v in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            e.varint(v);
        }
        e.bytes(b"abc");
        e.u32(7);
        let mut d = Decoder::new("test", &e.buffer);
        for v in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(d.varint().unwrap(), v);
        }
        assert_eq!(d.text().unwrap(), "abc");
        assert_eq!(d.u32().unwrap(), 7);
        assert!(d.is_empty());
        assert!(d.u8().is_err());
    }

    #[test]
    fn lying_lengths_are_errors() {
        assert!(Decoder::new("test", &[200, 1, 0]).bytes().is_err());
        assert!(Decoder::new("test", &[0xff; 12]).varint().is_err());
    }
}
