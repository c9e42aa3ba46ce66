//! Single values of [bit-packed](super::super::bitpack) integers.

use bytes::Bytes;
use chronos_model::Decoder;

use super::super::bitpack::{behind_each_other, max_of, read_exceptions, RUN};
use super::super::BlockError;

/// Where the FastLanes layout puts groups of 16 values of a run. Its own inverse.
const ORDER: [usize; 8] = [0, 4, 2, 6, 1, 5, 3, 7];

/// Packed integers, with their exceptions taken out of them.
#[derive(Debug)]
pub(super) struct PackedAt {
    width: usize,
    /// Values in full runs.
    in_runs: usize,
    /// Sorted by position.
    exceptions: Box<[(usize, u64)]>,
    packed: Bytes,
}

impl PackedAt {
    /// Of `count` values that fill the rest of `d`, which decodes `block`.
    pub(super) fn parse(
        block: &Bytes,
        d: &mut Decoder<'_>,
        count: usize,
    ) -> Result<PackedAt, BlockError> {
        let width = usize::from(d.u8()?);
        if width > 64 {
            return Err(BlockError::new(format!("values of {width} bits")));
        }
        let exceptions = read_exceptions(d, count)?.into();
        let packed = block.slice(d.offset()..);
        let rest = count % RUN;
        let in_runs = count - rest;
        if packed.len() != in_runs / 8 * width + (rest * width).div_ceil(8) {
            return Err(BlockError::new("packed values that do not fit their bytes"));
        }
        Ok(PackedAt {
            width,
            in_runs,
            exceptions,
            packed,
        })
    }

    /// Value `i`. Panics if there is none.
    pub(super) fn get(&self, i: usize) -> u64 {
        if !self.exceptions.is_empty() {
            if let Ok(found) = self.exceptions.binary_search_by_key(&i, |(at, _)| *at) {
                return self.exceptions[found].1;
            }
        }
        if self.width == 0 {
            return 0;
        }
        if i >= self.in_runs {
            let rest = &self.packed[self.in_runs / 8 * self.width..];
            return behind_each_other(rest, self.width, i - self.in_runs);
        }
        let run = &self.packed[i / RUN * RUN / 8 * self.width..];
        match self.width {
            ..=32 => in_run_of_32(run, self.width, i % RUN),
            _ => in_run_of_64(run, self.width, i % RUN),
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.exceptions) + self.packed.len()
    }
}

fn word32(bytes: &[u8], word: usize) -> u64 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[word * 4..word * 4 + 4]);
    u64::from(u32::from_le_bytes(four))
}

fn word64(bytes: &[u8], word: usize) -> u128 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[word * 8..word * 8 + 8]);
    u128::from(u64::from_le_bytes(eight))
}

/// The lane and the row of a value in a run, of words of 1024 / `lanes` bits.
fn place(i: usize, lanes: usize) -> (usize, usize) {
    let (eighth, within) = (i / 128, i % 128);
    let lane = within % lanes;
    (lane, ORDER[(within - lane) / 16] * 8 + eighth)
}

fn in_run_of_32(run: &[u8], width: usize, i: usize) -> u64 {
    const LANES: usize = 32;
    let (lane, row) = place(i, LANES);
    let (word, shift) = (row * width / 32, row * width % 32);
    let mut bits = word32(run, word * LANES + lane);
    if shift + width > 32 {
        bits |= word32(run, (word + 1) * LANES + lane) << 32;
    }
    bits >> shift & max_of(width as u8)
}

fn in_run_of_64(run: &[u8], width: usize, i: usize) -> u64 {
    const LANES: usize = 16;
    let (lane, row) = place(i, LANES);
    let (word, shift) = (row * width / 64, row * width % 64);
    let mut bits = word64(run, word * LANES + lane);
    if shift + width > 64 {
        bits |= word64(run, (word + 1) * LANES + lane) << 64;
    }
    (bits >> shift) as u64 & max_of(width as u8)
}

#[cfg(test)]
mod tests {
    use chronos_model::Encoder;

    use super::super::super::bitpack;
    use super::*;

    #[test]
    fn every_width_gives_what_was_packed() {
        for width in 0..=64u8 {
            for count in [1, 7, 1023, 1024, 1025, 2048, 2500] {
                let mut values: Vec<u64> = (0..count)
                    .map(|i: u64| i.wrapping_mul(0x9E37_79B9_7F4A_7C15) & max_of(width))
                    .collect();
                for exception in [0, 3, 1500] {
                    if let Some(value) = values.get_mut(exception) {
                        *value = u64::MAX;
                    }
                }
                let mut e = Encoder::default();
                bitpack::pack(&values, width, &mut e);
                let block = Bytes::from(e.buffer);
                let mut d = Decoder::new("test", &block);
                let packed = PackedAt::parse(&block, &mut d, values.len()).unwrap();
                for (i, value) in values.iter().enumerate() {
                    assert_eq!(packed.get(i), *value, "width {width}, {i} of {count}");
                }
            }
        }
    }

    #[test]
    fn bytes_of_another_length_are_an_error() {
        let mut e = Encoder::default();
        bitpack::pack(&[1, 2, 3, 900], 4, &mut e);
        e.buffer.push(0);
        for len in (0..=e.buffer.len()).filter(|len| *len != e.buffer.len() - 1) {
            let block = Bytes::copy_from_slice(&e.buffer[..len]);
            let mut d = Decoder::new("test", &block);
            assert!(PackedAt::parse(&block, &mut d, 4).is_err(), "{len}");
        }
    }
}
