//! Gorilla's encoding of values: each as its difference from the one before.
//!
//! Pelkonen et al., "Gorilla: A Fast, Scalable, In-Memory Time Series Database" (VLDB 2015,
//! section 4.1.2). Bits lie lowest first.
//!
//! ```text
//! value 0   64 bits
//! value i   0                             the same as before
//!           1 0 x                         x fits between the zeros that are in force
//!           1 1 leading u5, width u6, x   width 64 is written as 0
//! ```

use crate::error::{failure, Result};

const LEADING_MAX: u32 = 31;

pub(super) fn encode(values: &[f64]) -> Vec<u8> {
    let mut bits = Bits::default();
    let Some(first) = values.first() else {
        return bits.bytes;
    };
    let mut previous = first.to_bits();
    bits.put(previous, 64);
    let mut window: Option<(u32, u32)> = None;
    for value in &values[1..] {
        let x = value.to_bits() ^ previous;
        previous = value.to_bits();
        if x == 0 {
            bits.put(0, 1);
            continue;
        }
        let (leading, trailing) = (x.leading_zeros().min(LEADING_MAX), x.trailing_zeros());
        match window {
            Some((l, t)) if leading >= l && trailing >= t => {
                bits.put(0b01, 2);
                bits.put(x >> t, 64 - l - t);
            }
            _ => {
                let width = 64 - leading - trailing;
                bits.put(
                    0b11 | u64::from(leading) << 2 | u64::from(width % 64) << 7,
                    13,
                );
                bits.put(x >> trailing, width);
                window = Some((leading, trailing));
            }
        }
    }
    bits.finish()
}

pub(super) fn decode(bytes: &[u8], out: &mut [f64]) -> Result<()> {
    let mut reader = Reader { bytes, at: 0 };
    let Some(first) = out.first_mut() else {
        return Ok(());
    };
    let mut previous = reader.take(64)?;
    *first = f64::from_bits(previous);
    let mut window: Option<(u32, u32)> = None;
    for value in &mut out[1..] {
        if reader.take(1)? == 1 {
            if reader.take(1)? == 1 {
                let head = reader.take(11)?;
                let (leading, width) = ((head & 31) as u32, (head >> 5) as u32);
                let width = if width == 0 { 64 } else { width };
                let Some(trailing) = 64u32.checked_sub(leading + width) else {
                    return failure("more bits than a value has");
                };
                window = Some((leading, trailing));
            }
            let Some((leading, trailing)) = window else {
                return failure("no zeros are in force");
            };
            previous ^= reader.take(64 - leading - trailing)? << trailing;
        }
        *value = f64::from_bits(previous);
    }
    Ok(())
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    word: u64,
    held: u32,
}

impl Bits {
    fn put(&mut self, field: u64, width: u32) {
        self.word |= field << self.held;
        if self.held + width < 64 {
            self.held += width;
            return;
        }
        self.bytes.extend_from_slice(&self.word.to_le_bytes());
        self.word = field.checked_shr(64 - self.held).unwrap_or(0);
        self.held = self.held + width - 64;
    }

    fn finish(mut self) -> Vec<u8> {
        let rest = self.held.div_ceil(8) as usize;
        self.bytes
            .extend_from_slice(&self.word.to_le_bytes()[..rest]);
        self.bytes
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, width: u32) -> Result<u64> {
        if self.at + width as usize > self.bytes.len() * 8 {
            return failure("the bits end early");
        }
        let mut field = self.word(self.at);
        if width > 57 {
            field = (field & 0xffff_ffff) | self.word(self.at + 32) << 32;
        }
        self.at += width as usize;
        Ok(field & u64::MAX.checked_shr(64 - width).unwrap_or(0))
    }

    fn word(&self, at: usize) -> u64 {
        let rest = &self.bytes[at / 8..];
        let word = match rest.first_chunk() {
            Some(word) => u64::from_le_bytes(*word),
            None => rest
                .iter()
                .rev()
                .fold(0, |word, byte| word << 8 | u64::from(*byte)),
        };
        word >> (at % 8)
    }
}
