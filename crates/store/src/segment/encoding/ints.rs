//! Integers: stamps, timestamps, counters, lengths, codes.
//!
//! All integer types pass through as 64-bit words (narrower signed ones sign-
//! extended) and all arithmetic wraps, so that every input has an encoding. The
//! first byte says which one:
//!
//! | byte | encoding | value `i` |
//! |---|---|---|
//! | 0 | raw | 8 bytes little-endian |
//! | 1 | constant | the one value |
//! | 2 | packed | `base + factor * (slope * i + x[i])` |
//! | 3 | delta | `base + factor * (sum of x[1..=i] + step * i)` |
//! | 4 | run-length | runs of `values[j]`, `lengths[j]` long |
//! | 5 | dictionary | `values[codes[i]]` |
//! | 6 | pco | a pco standalone file of i64 |
//!
//! `x` is [bit-packed](super::bitpack). `factor` is the greatest common divisor of
//! all distances from the smallest value, so that timestamps in whole seconds pay
//! for seconds. `slope` follows regular readings without a running sum.
//!
//! The smallest encoding wins; pco, which decodes several times slower, only when it
//! is smaller than 85 % of the best of the others.

use std::collections::HashMap;

use ahash::RandomState;
use chronos_model::{Decoder, Encoder};

use super::bitpack::{self, Sink, WidthCounts};
use super::{put_nested, BlockError, Effort, PcoGate};

pub(super) const RAW: u8 = 0;
pub(super) const CONSTANT: u8 = 1;
pub(super) const PACKED: u8 = 2;
pub(super) const DELTA: u8 = 3;
pub(super) const RUNS: u8 = 4;
pub(super) const DICTIONARY: u8 = 5;
pub(super) const PCO: u8 = 6;

/// Distinct values a dictionary may have.
pub(super) const DICTIONARY_MAX: usize = 256;

/// An integer as it stands in an Arrow array.
pub(super) trait Lane: Copy + Default {
    fn narrow(word: u64) -> Self;
    fn widen(self) -> u64;
}

macro_rules! lane {
    ($($t:ty)*) => {$(
        impl Lane for $t {
            #[inline(always)]
            fn narrow(word: u64) -> Self {
                word as $t
            }
            #[inline(always)]
            fn widen(self) -> u64 {
                self as i64 as u64
            }
        }
    )*};
}
lane!(u8 i16 u16 i32 u32 i64 u64);

/// The bits of a word, to be made a number in its place.
impl Lane for f64 {
    #[inline(always)]
    fn narrow(word: u64) -> f64 {
        f64::from_bits(word)
    }
    #[inline(always)]
    fn widen(self) -> u64 {
        self.to_bits()
    }
}

/// Appends the values in their smallest encoding; nothing for no values.
pub(super) fn encode(
    values: &[u64],
    effort: Effort,
    gate: Option<&mut PcoGate>,
    out: &mut Vec<u8>,
) {
    let Some(first) = values.first() else {
        return;
    };
    if effort == Effort::Raw {
        out.push(RAW);
        out.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        return;
    }
    if values.iter().all(|v| v == first) {
        let mut e = Encoder::default();
        e.u8(CONSTANT);
        e.varint(zigzag(*first));
        out.extend_from_slice(&e.buffer);
        return;
    }
    let mut best = arithmetic(values);
    if best.len() > 8 {
        let runs = run_length(values, best.len());
        keep_smaller(&mut best, runs);
        if best.len() > values.len() {
            let dictionary = dictionary(values, best.len());
            keep_smaller(&mut best, dictionary);
        }
    }
    if let Some(gate) = gate {
        if gate.may_try(values.len(), best.len()) {
            let packed = pco_of(values);
            let won = packed
                .as_ref()
                .is_some_and(|p| PcoGate::is_worth(p.len(), best.len()));
            gate.note(won);
            if let (true, Some(packed)) = (won, packed) {
                best = packed;
            }
        }
    }
    if best.len() > values.len() * 8 {
        return encode(values, Effort::Raw, None, out);
    }
    out.extend_from_slice(&best);
}

fn keep_smaller(best: &mut Vec<u8>, other: Option<Vec<u8>>) {
    if let Some(other) = other.filter(|o| o.len() < best.len()) {
        *best = other;
    }
}

fn zigzag(v: u64) -> u64 {
    (v << 1) ^ ((v as i64 >> 63) as u64)
}

pub(super) fn unzigzag(v: u64) -> u64 {
    (v >> 1) ^ (v & 1).wrapping_neg()
}

/// Packed or delta, with or without slope, whichever is estimated smallest.
fn arithmetic(values: &[u64]) -> Vec<u8> {
    let base = values.iter().map(|v| *v as i64).min().unwrap_or(0) as u64;
    let factor = common_divisor(values, base);
    let units: Vec<u64> = match factor {
        1 => values.iter().map(|v| v.wrapping_sub(base)).collect(),
        f => values.iter().map(|v| v.wrapping_sub(base) / f).collect(),
    };
    let (width, flat_bytes) = WidthCounts::of(units.iter().copied()).best();
    let flat = Packing {
        lowest: 0,
        slope: 0,
        width,
        bytes: flat_bytes,
    };
    let sloped = sloped(&units);
    let (steps, step) = steps(&units);
    let (delta_width, delta_bytes) = WidthCounts::of(steps.iter().copied()).best();
    let linear = if sloped.bytes < flat.bytes {
        &sloped
    } else {
        &flat
    };
    let mut e = Encoder::default();
    if delta_bytes < linear.bytes {
        e.u8(DELTA);
        e.varint(zigzag(values[0]));
        e.varint(factor);
        e.varint(zigzag(step));
        bitpack::pack(&steps, delta_width, &mut e);
    } else {
        e.u8(PACKED);
        e.varint(zigzag(
            base.wrapping_add(linear.lowest.wrapping_mul(factor)),
        ));
        e.varint(factor);
        e.varint(zigzag(linear.slope));
        let residuals: Vec<u64> = residuals(&units, linear.slope)
            .map(|r| r.wrapping_sub(linear.lowest))
            .collect();
        bitpack::pack(&residuals, linear.width, &mut e);
    }
    e.buffer
}

struct Packing {
    /// Lowest residual.
    lowest: u64,
    slope: u64,
    width: u8,
    bytes: usize,
}

fn residuals(units: &[u64], slope: u64) -> impl Iterator<Item = u64> + '_ {
    units
        .iter()
        .enumerate()
        .map(move |(i, u)| u.wrapping_sub(slope.wrapping_mul(i as u64)))
}

/// The line of least squares, at a whole slope, and what is left above it. Jitter of the
/// first or the last value alone must not tilt the line.
fn sloped(units: &[u64]) -> Packing {
    let middle = (units.len() as f64 - 1.0) / 2.0;
    let (mut rise, mut run) = (0.0, 0.0);
    for (i, unit) in units.iter().enumerate() {
        let distance = i as f64 - middle;
        rise += distance * unit.wrapping_sub(units[0]) as i64 as f64;
        run += distance * distance;
    }
    let slope = (rise / f64::max(run, 1.0)).round() as i64 as u64;
    let lowest = residuals(units, slope).map(|r| r as i64).min().unwrap_or(0) as u64;
    let counts = WidthCounts::of(residuals(units, slope).map(|r| r.wrapping_sub(lowest)));
    let (width, bytes) = counts.best();
    Packing {
        lowest,
        slope,
        width,
        bytes: bytes + 4,
    }
}

/// Values that the smallest step may leave below it as exceptions.
const SET_ASIDE: [usize; 4] = [0, 1, 2, 8];

/// Steps from value to value above a smallest one; the first is 0. One jump back at a
/// series' end must not widen all other steps, so the smallest may leave a few below
/// it, which wrap and become exceptions.
fn steps(units: &[u64]) -> (Vec<u64>, u64) {
    let mut steps: Vec<u64> = Vec::with_capacity(units.len());
    steps.push(0);
    steps.extend(units.windows(2).map(|w| w[1].wrapping_sub(w[0])));
    let mut lowest: Vec<i64> = steps[1..].iter().map(|s| *s as i64).collect();
    let kept = lowest.len().min(SET_ASIDE[SET_ASIDE.len() - 1] + 1);
    if kept < lowest.len() {
        lowest.select_nth_unstable(kept - 1);
    }
    lowest[..kept].sort_unstable();
    let bytes_above = |step: u64| {
        let above = steps[1..].iter().map(|s| s.wrapping_sub(step));
        WidthCounts::of(above).best().1
    };
    let candidates = SET_ASIDE.iter().filter(|rank| **rank < kept);
    let step = candidates
        .map(|rank| lowest[*rank] as u64)
        .min_by_key(|step| bytes_above(*step))
        .unwrap_or(0);
    for s in &mut steps[1..] {
        *s = s.wrapping_sub(step);
    }
    (steps, step)
}

fn common_divisor(values: &[u64], base: u64) -> u64 {
    let mut divisor = 0u64;
    for value in values {
        let distance = value.wrapping_sub(base);
        if divisor != 0 && distance % divisor == 0 {
            continue;
        }
        let (mut a, mut b) = (divisor, distance);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        divisor = a;
        if divisor == 1 {
            break;
        }
    }
    divisor.max(1)
}

/// `None` when runs are too short to win over `limit` bytes.
fn run_length(values: &[u64], limit: usize) -> Option<Vec<u8>> {
    let runs = 1 + values.windows(2).filter(|w| w[0] != w[1]).count();
    if runs * 4 > values.len() && runs > limit {
        return None;
    }
    if runs * 2 > values.len() {
        return None;
    }
    let (mut heads, mut lengths) = (Vec::with_capacity(runs), Vec::with_capacity(runs));
    for run in values.chunk_by(|a, b| a == b) {
        heads.push(run[0]);
        lengths.push(run.len() as u64);
    }
    let mut out = Encoder::default();
    out.u8(RUNS);
    out.varint(runs as u64);
    put_nested(&mut out.buffer, |out| plain(&heads, out));
    plain(&lengths, &mut out.buffer);
    Some(out.buffer)
}

/// The arithmetic encodings only: nesting ends here.
fn plain(values: &[u64], out: &mut Vec<u8>) {
    match values {
        [] => {}
        [first, rest @ ..] if rest.iter().all(|v| v == first) => {
            let mut e = Encoder::default();
            e.u8(CONSTANT);
            e.varint(zigzag(*first));
            out.extend_from_slice(&e.buffer);
        }
        values => out.extend_from_slice(&arithmetic(values)),
    }
}

/// `None` when there are too many distinct values to win over `limit` bytes.
fn dictionary(values: &[u64], limit: usize) -> Option<Vec<u8>> {
    let mut codes_of: HashMap<u64, u64, RandomState> =
        HashMap::with_hasher(RandomState::with_seeds(1, 2, 3, 4));
    let mut distinct = Vec::new();
    let mut codes = Vec::with_capacity(values.len());
    for value in values {
        let next = distinct.len() as u64;
        let code = *codes_of.entry(*value).or_insert(next);
        if code == next {
            if distinct.len() == DICTIONARY_MAX || distinct.len() > limit {
                return None;
            }
            distinct.push(*value);
        }
        codes.push(code);
    }
    let mut out = Encoder::default();
    out.u8(DICTIONARY);
    out.varint(distinct.len() as u64);
    put_nested(&mut out.buffer, |out| plain(&distinct, out));
    plain(&codes, &mut out.buffer);
    Some(out.buffer)
}

fn pco_of(values: &[u64]) -> Option<Vec<u8>> {
    let signed: Vec<i64> = values.iter().map(|v| *v as i64).collect();
    let packed = pco::standalone::simple_compress(&signed, &super::pco_config()).ok()?;
    let mut out = Vec::with_capacity(packed.len() + 1);
    out.push(PCO);
    out.extend_from_slice(&packed);
    Some(out)
}

/// Decodes exactly `out.len()` values, which must be all that `bytes` holds.
pub(super) fn decode<T: Lane>(bytes: &[u8], out: &mut [T]) -> Result<(), BlockError> {
    decode_at(bytes, out, 0)
}

/// Encodings nest at most this deep.
pub(super) const DEPTH_MAX: u32 = 2;

pub(super) fn decode_at<T: Lane>(
    bytes: &[u8],
    out: &mut [T],
    depth: u32,
) -> Result<(), BlockError> {
    let mut d = Decoder::new("integers", bytes);
    if out.is_empty() {
        return match bytes {
            [] => Ok(()),
            _ => Err(BlockError::new("bytes where no integers are expected")),
        };
    }
    if depth > DEPTH_MAX {
        return Err(BlockError::new("encodings nested too deep"));
    }
    match d.u8()? {
        RAW => {
            let values = d.take(out.len().saturating_mul(8))?;
            for (o, eight) in out.iter_mut().zip(values.as_chunks::<8>().0) {
                *o = T::narrow(u64::from_le_bytes(*eight));
            }
        }
        CONSTANT => {
            let value = unzigzag(d.varint()?);
            out.fill(T::narrow(value));
        }
        PACKED => return decode_packed(&mut d, out),
        DELTA => return decode_delta(&mut d, out),
        RUNS => return decode_runs(bytes, &mut d, out, depth),
        DICTIONARY => return decode_dictionary(bytes, &mut d, out, depth),
        PCO => {
            let mut signed = vec![0i64; out.len()];
            super::decode_pco(&bytes[1..], &mut signed)?;
            for (o, v) in out.iter_mut().zip(&signed) {
                *o = T::narrow(*v as u64);
            }
            return Ok(());
        }
        other => return Err(BlockError::new(format!("unknown integer encoding {other}"))),
    }
    if !d.is_empty() {
        return Err(BlockError::new("bytes follow the integers"));
    }
    Ok(())
}

fn decode_packed<T: Lane>(d: &mut Decoder<'_>, out: &mut [T]) -> Result<(), BlockError> {
    let base = unzigzag(d.varint()?);
    let factor = d.varint()?;
    let slope = unzigzag(d.varint()?);
    let count = out.len();
    let rise = factor.wrapping_mul(slope);
    let mut sink = Packed {
        out,
        base,
        factor,
        rise,
    };
    bitpack::unpack(d, count, &mut sink)
}

/// Takes `x[i]` for `base + rise * i + factor * x[i]`.
struct Packed<'a, T> {
    out: &'a mut [T],
    base: u64,
    factor: u64,
    rise: u64,
}

impl<T: Lane> Sink for Packed<'_, T> {
    #[inline(always)]
    fn take<W: Copy + Into<u64>>(&mut self, start: usize, run: &[W]) {
        let (base, factor, rise) = (self.base, self.factor, self.rise);
        let values = self.out[start..].iter_mut().zip(run);
        match (factor, rise) {
            (1, 0) => {
                values.for_each(|(o, x)| *o = T::narrow(base.wrapping_add((*x).into())));
            }
            (_, 0) => {
                values.for_each(|(o, x)| {
                    *o = T::narrow(base.wrapping_add(factor.wrapping_mul((*x).into())));
                });
            }
            _ => {
                let mut line = base.wrapping_add(rise.wrapping_mul(start as u64));
                for (o, x) in values {
                    *o = T::narrow(line.wrapping_add(factor.wrapping_mul((*x).into())));
                    line = line.wrapping_add(rise);
                }
            }
        }
    }
}

fn decode_delta<T: Lane>(d: &mut Decoder<'_>, out: &mut [T]) -> Result<(), BlockError> {
    let first = unzigzag(d.varint()?);
    let factor = d.varint()?;
    let step = unzigzag(d.varint()?).wrapping_mul(factor);
    let count = out.len();
    let mut sink = Delta {
        out,
        value: first.wrapping_sub(step),
        factor,
        step,
    };
    bitpack::unpack(d, count, &mut sink)
}

/// Takes `x[i]` for the sum of `step + factor * x` so far.
struct Delta<'a, T> {
    out: &'a mut [T],
    value: u64,
    factor: u64,
    step: u64,
}

impl<T: Lane> Sink for Delta<'_, T> {
    #[inline(always)]
    fn take<W: Copy + Into<u64>>(&mut self, start: usize, run: &[W]) {
        let (factor, step) = (self.factor, self.step);
        let mut value = self.value;
        let values = self.out[start..].iter_mut().zip(run);
        if factor == 1 {
            for (o, x) in values {
                value = value.wrapping_add(step).wrapping_add((*x).into());
                *o = T::narrow(value);
            }
        } else {
            for (o, x) in values {
                let x = factor.wrapping_mul((*x).into());
                value = value.wrapping_add(step).wrapping_add(x);
                *o = T::narrow(value);
            }
        }
        self.value = value;
    }
}

fn decode_runs<T: Lane>(
    bytes: &[u8],
    d: &mut Decoder<'_>,
    out: &mut [T],
    depth: u32,
) -> Result<(), BlockError> {
    let runs = d.varint()?;
    if runs > out.len() as u64 {
        return Err(BlockError::new("more runs than values"));
    }
    let mut heads = vec![T::default(); runs as usize];
    let mut lengths = vec![0u32; runs as usize];
    decode_at(d.bytes()?, &mut heads, depth + 1)?;
    decode_at(&bytes[d.offset()..], &mut lengths, depth + 1)?;
    let mut rest = out;
    for (head, length) in heads.iter().zip(&lengths) {
        let Some((run, after)) = rest.split_at_mut_checked(*length as usize) else {
            return Err(BlockError::new("runs longer than the page"));
        };
        run.fill(*head);
        rest = after;
    }
    match rest {
        [] => Ok(()),
        _ => Err(BlockError::new("runs shorter than the page")),
    }
}

fn decode_dictionary<T: Lane>(
    bytes: &[u8],
    d: &mut Decoder<'_>,
    out: &mut [T],
    depth: u32,
) -> Result<(), BlockError> {
    let distinct = d.varint()?;
    if distinct > DICTIONARY_MAX as u64 {
        return Err(BlockError::new("a dictionary that is too large"));
    }
    let mut values = vec![T::default(); distinct as usize];
    decode_at(d.bytes()?, &mut values, depth + 1)?;
    let mut codes = vec![0u32; out.len()];
    decode_at(&bytes[d.offset()..], &mut codes, depth + 1)?;
    for (o, code) in out.iter_mut().zip(&codes) {
        *o = *values
            .get(*code as usize)
            .ok_or_else(|| BlockError::new("a code that is not in the dictionary"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The encoding chosen and its bytes, after checking that it reads back.
    fn chosen(values: &[i64]) -> (u8, usize) {
        let words: Vec<u64> = values.iter().map(|v| *v as u64).collect();
        let mut out = Vec::new();
        encode(
            &words,
            Effort::Smallest,
            Some(&mut PcoGate::default()),
            &mut out,
        );
        let mut back = vec![0i64; values.len()];
        decode(&out, &mut back).unwrap();
        assert_eq!(back, values);
        (out[0], out.len())
    }

    fn noise() -> impl FnMut(i64) -> i64 {
        let mut state = 88_172_645_463_325_252u64;
        move |below| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as i64
        }
    }

    #[test]
    fn each_shape_gets_its_encoding() {
        let mut random = noise();
        assert_eq!(chosen(&[42; 2048]), (CONSTANT, 2));
        let few: Vec<i64> = (0..2048).map(|i| i / 500 * 977).collect();
        let (encoding, bytes) = chosen(&few);
        assert_eq!(encoding, RUNS);
        assert!(bytes < 40, "{bytes}");
        let small: Vec<i64> = (0..2048).map(|_| random(64) - 32).collect();
        let (encoding, bytes) = chosen(&small);
        assert_eq!(encoding, PACKED);
        assert!(bytes < 2048 * 6 / 8 + 16, "{bytes}");
        let sparse: [i64; 5] = std::array::from_fn(|_| random(i64::MAX));
        let codes: Vec<i64> = (0..2048).map(|_| sparse[random(5) as usize]).collect();
        assert_eq!(chosen(&codes).0, DICTIONARY);
        let wild: Vec<i64> = (0..2048)
            .map(|_| random(i64::MAX) - random(i64::MAX))
            .collect();
        assert!(chosen(&wild).1 <= 2048 * 8 + 1);
        let skewed: Vec<i64> = (0..2048).map(|i| random(1 << (i % 40))).collect();
        assert_eq!(chosen(&skewed).0, PCO);
    }

    #[test]
    fn regular_readings_pay_for_their_jitter_only() {
        let mut random = noise();
        let seconds: Vec<i64> = (0..2048)
            .map(|i| 1_700_000_000_000_000 + i * 10_000_000)
            .collect();
        assert!(chosen(&seconds).1 < 30);
        let jitter: Vec<i64> = seconds.iter().map(|s| s + random(1 << 10)).collect();
        let (encoding, bytes) = chosen(&jitter);
        assert_eq!(encoding, PACKED);
        assert!(bytes < 2048 * 11 / 8 + 30, "{bytes}");
        // The next series starts over: one jump back must not cost the others bits.
        let mut walk = 0;
        let mut steps: Vec<i64> = Vec::new();
        for i in 0..2048 {
            walk += random(1 << 8);
            if i == 1500 {
                walk -= 1 << 50;
            }
            steps.push(walk);
        }
        let (encoding, bytes) = chosen(&steps);
        assert_eq!(encoding, DELTA);
        assert!(bytes < 2048 + 40, "{bytes}");
    }

    #[test]
    fn extremes_wrap() {
        chosen(&[i64::MIN, i64::MAX]);
        chosen(&[i64::MAX, i64::MIN, 0, -1, 1]);
        chosen(&[i64::MIN; 3]);
        let swings: Vec<i64> = (0..2048)
            .map(|i| if i % 2 == 0 { i64::MIN } else { i64::MAX - i })
            .collect();
        chosen(&swings);
    }
}
