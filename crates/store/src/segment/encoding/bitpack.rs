//! Unsigned integers in a fixed number of bits, with the few that do not fit kept
//! aside ("patched" frame-of-reference; Zukowski et al., ICDE 2006).
//!
//! ```text
//! width u8 | exceptions varint | (gap varint, value varint)* | packed
//! ```
//!
//! Every full run of 1,024 values is packed in the FastLanes layout (Afroozeh and
//! Boncz, VLDB 2023), of 32-bit words up to width 32 and of 64-bit words above, so
//! that one instruction stream unpacks many values. What remains is packed one
//! value after the other, lowest bit first, in `ceil(rest * width / 8)` bytes.

use chronos_model::{Decoder, Encoder};
use fastlanes::BitPacking;

use super::BlockError;

/// Values per FastLanes run.
pub(super) const RUN: usize = 1024;

/// What an exception costs in bits, about: its gap and its value.
const EXCEPTION_BITS: usize = 64;

macro_rules! for_width {
    ($width:expr, $per:literal, $f:ident, $args:tt, $($w:literal)*) => {
        match $width {
            $($w => $f::<$w, { $w * $per }> $args,)*
            _ => unreachable!("the caller checked the width"),
        }
    };
}

macro_rules! widths_to_32 {
    ($width:expr, $f:ident, $args:tt) => {
        for_width!($width, 32, $f, $args, 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20
            21 22 23 24 25 26 27 28 29 30 31 32)
    };
}

macro_rules! widths_to_64 {
    ($width:expr, $f:ident, $args:tt) => {
        for_width!($width, 16, $f, $args, 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50
            51 52 53 54 55 56 57 58 59 60 61 62 63 64)
    };
}

fn pack32<const W: usize, const B: usize>(values: &[u64; RUN], out: &mut Vec<u8>) {
    let mut narrow = [0u32; RUN];
    for (n, v) in narrow.iter_mut().zip(values) {
        *n = *v as u32;
    }
    let mut words = [0u32; B];
    BitPacking::pack::<W, B>(&narrow, &mut words);
    out.extend(words.iter().flat_map(|w| w.to_le_bytes()));
}

fn pack64<const W: usize, const B: usize>(values: &[u64; RUN], out: &mut Vec<u8>) {
    let mut words = [0u64; B];
    BitPacking::pack::<W, B>(values, &mut words);
    out.extend(words.iter().flat_map(|w| w.to_le_bytes()));
}

fn unpack32<const W: usize, const B: usize>(bytes: &[u8], out: &mut [u32; RUN]) {
    let mut words = [0u32; B];
    for (word, four) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*four);
    }
    BitPacking::unpack::<W, B>(&words, out);
}

fn unpack64<const W: usize, const B: usize>(bytes: &[u8], out: &mut [u64; RUN]) {
    let mut words = [0u64; B];
    for (word, eight) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*eight);
    }
    BitPacking::unpack::<W, B>(&words, out);
}

/// How many values need how many bits.
#[derive(Debug)]
pub(super) struct WidthCounts([u32; 65]);

impl WidthCounts {
    pub(super) fn of(values: impl Iterator<Item = u64>) -> WidthCounts {
        let mut counts = [0; 65];
        for value in values {
            counts[(64 - value.leading_zeros()) as usize] += 1;
        }
        WidthCounts(counts)
    }

    /// The width that takes the fewest bytes, and about how many those are.
    pub(super) fn best(&self) -> (u8, usize) {
        let values: usize = self.0.iter().map(|c| *c as usize).sum();
        let mut exceptions = 0;
        let mut best = (64, usize::MAX);
        for width in (0..=64usize).rev() {
            let bits = values * width + exceptions * EXCEPTION_BITS;
            if bits <= best.1 {
                best = (width as u8, bits);
            }
            exceptions += self.0[width] as usize;
        }
        (best.0, best.1.div_ceil(8) + 2)
    }
}

/// Appends the values in `width` bits each; larger ones become exceptions.
pub(super) fn pack(values: &[u64], width: u8, out: &mut Encoder) {
    let limit = max_of(width);
    out.u8(width);
    let exceptions = values.iter().filter(|v| **v > limit).count();
    out.varint(exceptions as u64);
    if exceptions > 0 {
        let mut next = 0;
        for (i, value) in values.iter().enumerate().filter(|(_, v)| **v > limit) {
            out.varint((i - next) as u64);
            out.varint(*value);
            next = i + 1;
        }
    }
    if width == 0 {
        return;
    }
    let fit = |v: u64| if v > limit { 0 } else { v };
    let (runs, rest) = values.as_chunks::<RUN>();
    for run in runs {
        let run = run.map(fit);
        match width {
            1..=32 => widths_to_32!(width, pack32, (&run, &mut out.buffer)),
            _ => widths_to_64!(width, pack64, (&run, &mut out.buffer)),
        }
    }
    let (mut pending, mut bits) = (0u128, 0);
    for value in rest {
        pending |= u128::from(fit(*value)) << bits;
        bits += u32::from(width);
        while bits >= 8 {
            out.u8(pending as u8);
            pending >>= 8;
            bits -= 8;
        }
    }
    if bits > 0 {
        out.u8(pending as u8);
    }
}

pub(super) fn max_of(width: u8) -> u64 {
    match width {
        0 => 0,
        width => u64::MAX >> (64 - width),
    }
}

/// What becomes of unpacked values.
pub(super) trait Sink {
    /// Takes the next values, at most [`RUN`] at a time; `start` is the position of the
    /// first. They are of 32 bits where that is enough.
    fn take<W: Copy + Into<u64>>(&mut self, start: usize, run: &[W]);
}

/// Unpacks `count` values that fill the rest of `d`; `sink` gets them in order.
pub(super) fn unpack(
    d: &mut Decoder<'_>,
    count: usize,
    sink: &mut impl Sink,
) -> Result<(), BlockError> {
    let width = d.u8()?;
    if width > 64 {
        return Err(BlockError::new(format!("values of {width} bits")));
    }
    let exceptions = read_exceptions(d, count)?;
    let mut exceptions = exceptions.iter().peekable();
    let mut narrow = [0u32; RUN];
    let mut run = [0u64; RUN];
    let mut start = 0;
    while start < count {
        let len = (count - start).min(RUN);
        let end = start + len;
        if len == RUN && (1..=32).contains(&width) {
            let bytes = d.take(128 * width as usize)?;
            widths_to_32!(width, unpack32, (bytes, &mut narrow));
            if exceptions
                .peek()
                .is_none_or(|(position, _)| *position >= end)
            {
                sink.take(start, &narrow);
                start = end;
                continue;
            }
            for (o, n) in run.iter_mut().zip(&narrow) {
                *o = u64::from(*n);
            }
        } else if len == RUN {
            match width {
                0 => run.fill(0),
                _ => widths_to_64!(width, unpack64, (d.take(128 * width as usize)?, &mut run)),
            }
        } else {
            unpack_rest(d, width, &mut run[..len])?;
        }
        while let Some((position, value)) = exceptions.next_if(|(p, _)| *p < end) {
            run[position - start] = *value;
        }
        sink.take(start, &run[..len]);
        start = end;
    }
    if !d.is_empty() {
        return Err(BlockError::new("bytes follow the packed values"));
    }
    Ok(())
}

pub(super) fn read_exceptions(
    d: &mut Decoder<'_>,
    count: usize,
) -> Result<Vec<(usize, u64)>, BlockError> {
    let number = d.count()?;
    let mut exceptions = Vec::with_capacity(number);
    let mut next = 0usize;
    for _ in 0..number {
        let gap = d.varint()?;
        if gap >= (count - next) as u64 {
            return Err(BlockError::new("an exception after the last value"));
        }
        let position = next + gap as usize;
        exceptions.push((position, d.varint()?));
        next = position + 1;
    }
    Ok(exceptions)
}

fn unpack_rest(d: &mut Decoder<'_>, width: u8, out: &mut [u64]) -> Result<(), BlockError> {
    let bytes = d.take((out.len() * width as usize).div_ceil(8))?;
    let (width, limit) = (width as usize, max_of(width));
    for (i, value) in out.iter_mut().enumerate() {
        let window = bytes[i * width / 8..].first_chunk::<8>();
        *value = match window {
            // Whatever bit of its first byte a value starts at, it is in these eight.
            Some(eight) if width <= 57 => u64::from_le_bytes(*eight) >> (i * width % 8) & limit,
            _ => behind_each_other(bytes, width, i),
        };
    }
    Ok(())
}

/// Value `i` of those that are packed one after the other.
pub(super) fn behind_each_other(bytes: &[u8], width: usize, i: usize) -> u64 {
    let (byte, shift) = (i * width / 8, i * width % 8);
    let end = bytes.len().min(byte + 16);
    let mut sixteen = [0; 16];
    sixteen[..end - byte].copy_from_slice(&bytes[byte..end]);
    (u128::from_le_bytes(sixteen) >> shift) as u64 & max_of(width as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Gather(Vec<u64>);

    impl Sink for Gather {
        fn take<W: Copy + Into<u64>>(&mut self, start: usize, run: &[W]) {
            assert_eq!(start, self.0.len());
            self.0.extend(run.iter().map(|v| (*v).into()));
        }
    }

    fn round_trip(values: &[u64], width: u8) -> usize {
        let mut e = Encoder::default();
        pack(values, width, &mut e);
        let mut back = Gather(Vec::new());
        let mut d = Decoder::new("test", &e.buffer);
        unpack(&mut d, values.len(), &mut back).unwrap();
        assert_eq!(back.0, values, "width {width}");
        e.buffer.len()
    }

    #[test]
    fn every_width_and_tail_round_trips() {
        for width in 0..=64u8 {
            for count in [0, 1, 7, 1023, 1024, 1025, 2048, 3000] {
                let values: Vec<u64> = (0..count)
                    .map(|i: u64| i.wrapping_mul(0x9E37_79B9_7F4A_7C15) & max_of(width))
                    .collect();
                round_trip(&values, width);
            }
        }
    }

    #[test]
    fn values_that_do_not_fit_are_exceptions() {
        let mut values: Vec<u64> = (0..2048).map(|i| i % 8).collect();
        values[0] = u64::MAX;
        values[1024] = 1 << 40;
        values[2047] = 9;
        assert!(round_trip(&values, 3) < 2048 * 3 / 8 + 40);
        let (width, _) = WidthCounts::of(values.iter().copied()).best();
        assert_eq!(width, 3);
    }

    #[test]
    fn short_bytes_are_errors() {
        let mut e = Encoder::default();
        pack(&[1, 2, 3, 900], 4, &mut e);
        for len in 0..e.buffer.len() {
            let mut d = Decoder::new("test", &e.buffer[..len]);
            let mut gather = Gather(Vec::new());
            assert!(unpack(&mut d, 4, &mut gather).is_err(), "{len}");
        }
    }
}
