//! FLOAT4 and FLOAT8, bit for bit: NaN payloads and -0.0 come back as they were.
//!
//! | byte | encoding | value `i` |
//! |---|---|---|
//! | 0 | raw | its bytes, little-endian |
//! | 1 | decimal | `ints[i] / 10^exponent`, or an exception |
//! | 2 | bits | the integer encodings over the bit patterns |
//! | 3 | pco | a pco standalone file |
//! | 4 | chimp | a [Chimp128](chimp) stream |
//!
//! The first four compete by size. Chimp128 is there for those who ask for it: then every
//! page gets it whose values are not all alike.
//!
//! Decimal is the idea of ALP (Afroozeh, Kuffo and Boncz, SIGMOD 2023): most stored
//! floats are decimals with few digits. ALP multiplies by an inexact `10^-e` and
//! needs a second exponent to correct it; here the decoder divides by `10^e`, which
//! IEEE 754 rounds to the very float that the decimal's text parses to while the
//! integer has at most 51 bits and `e` at most 15. The common divisor of the integer
//! encodings does the work of ALP's second exponent.

use chronos_model::{Decoder, Encoder};

use super::{chimp, ints, put_nested, BlockError, Effort, PcoGate};

pub(super) const RAW: u8 = 0;
pub(super) const DECIMAL: u8 = 1;
pub(super) const BITS: u8 = 2;
pub(super) const PCO: u8 = 3;
pub(super) const CHIMP: u8 = 4;

const EXPONENT_MAX: usize = 15;
pub(super) const POWERS: [f64; EXPONENT_MAX + 1] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
];

/// Bits of a decimal's integer, without its sign.
const INTEGER_BITS: u32 = 51;
const INTEGER_LIMIT: u64 = 1 << INTEGER_BITS;
/// Adding and taking away 1.5 * 2^52 rounds to an integer.
const ROUND: f64 = 6_755_399_441_055_744.0;

/// Values looked at to choose an exponent.
const SAMPLE: usize = 64;

/// A float as it stands in an Arrow array.
pub(super) trait Float: pco::data_types::Number + Copy + Default {
    const BYTES: usize;
    fn bits(self) -> u64;
    fn of_bits(bits: u64) -> Self;
    fn double(self) -> f64;
    fn of_double(double: f64) -> Self;
    fn put(self, out: &mut Vec<u8>);
    fn of_bytes(bytes: &[u8]) -> Self;
    /// Decodes integers, and takes them for bit patterns.
    fn decode_bits(bytes: &[u8], out: &mut [Self]) -> Result<(), BlockError>;
    /// Decodes integers, and divides them by a power of ten.
    fn decode_divided(bytes: &[u8], power: f64, out: &mut [Self]) -> Result<(), BlockError>;
}

macro_rules! float {
    ($t:ty, $bits:ty, $bytes:literal, $decode_bits:ident, $decode_divided:ident) => {
        impl Float for $t {
            const BYTES: usize = $bytes;
            fn bits(self) -> u64 {
                u64::from(self.to_bits())
            }
            #[inline(always)]
            fn of_bits(bits: u64) -> Self {
                <$t>::from_bits(bits as $bits)
            }
            #[inline(always)]
            fn double(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn of_double(double: f64) -> Self {
                double as $t
            }
            fn put(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn of_bytes(bytes: &[u8]) -> Self {
                let mut array = [0; $bytes];
                array.copy_from_slice(bytes);
                <$t>::from_le_bytes(array)
            }
            fn decode_bits(bytes: &[u8], out: &mut [Self]) -> Result<(), BlockError> {
                $decode_bits(bytes, out)
            }
            fn decode_divided(
                bytes: &[u8],
                power: f64,
                out: &mut [Self],
            ) -> Result<(), BlockError> {
                $decode_divided(bytes, power, out)
            }
        }
    };
}
float!(f32, u32, 4, narrow_bits, narrow_divided);
float!(f64, u64, 8, wide_bits, wide_divided);

fn narrow_bits(bytes: &[u8], out: &mut [f32]) -> Result<(), BlockError> {
    let mut words = vec![0u64; out.len()];
    ints::decode(bytes, &mut words)?;
    for (o, word) in out.iter_mut().zip(&words) {
        *o = f32::of_bits(*word);
    }
    Ok(())
}

fn narrow_divided(bytes: &[u8], power: f64, out: &mut [f32]) -> Result<(), BlockError> {
    let mut integers = vec![0i64; out.len()];
    ints::decode(bytes, &mut integers)?;
    for (o, integer) in out.iter_mut().zip(&integers) {
        *o = f32::of_double(*integer as f64 / power);
    }
    Ok(())
}

fn wide_bits(bytes: &[u8], out: &mut [f64]) -> Result<(), BlockError> {
    ints::decode(bytes, out)
}

/// In place: integers and floats take the same room.
fn wide_divided(bytes: &[u8], power: f64, out: &mut [f64]) -> Result<(), BlockError> {
    ints::decode(bytes, out)?;
    let beyond = |word: u64| word.wrapping_add(INTEGER_LIMIT) >> (INTEGER_BITS + 1);
    if out.iter().fold(0, |all, v| all | beyond(v.to_bits())) == 0 {
        // As `as f64` would have it, but several at a time: the integer is added to the
        // lowest bits of 1.5 * 2^52.
        for o in out {
            *o = (f64::from_bits(o.to_bits().wrapping_add(ROUND.to_bits())) - ROUND) / power;
        }
        return Ok(());
    }
    for o in out {
        *o = o.to_bits() as i64 as f64 / power;
    }
    Ok(())
}

/// Appends the values in the encoding that is asked for; nothing for no values.
pub(super) fn encode<T: Float>(
    values: &[T],
    effort: Effort,
    gate: Option<&mut PcoGate>,
    out: &mut Vec<u8>,
) {
    if values.is_empty() {
        return;
    }
    match effort {
        Effort::Raw => raw(values, out),
        Effort::Chimp if !all_alike(values) => {
            out.push(CHIMP);
            chimp::encode(values, out);
        }
        Effort::Chimp | Effort::Smallest => smallest(values, gate, out),
    }
}

fn all_alike<T: Float>(values: &[T]) -> bool {
    values.iter().all(|v| v.bits() == values[0].bits())
}

fn smallest<T: Float>(values: &[T], gate: Option<&mut PcoGate>, out: &mut Vec<u8>) {
    let mut best = match decimal(values) {
        Some(decimal) => decimal,
        None => bits(values),
    };
    if let Some(gate) = gate {
        let bound = best.len().min(values.len() * T::BYTES);
        if gate.may_try(values.len(), bound) {
            let packed = pco::standalone::simple_compress(values, &super::pco_config()).ok();
            let won = packed
                .as_ref()
                .is_some_and(|p| PcoGate::is_worth(p.len(), bound));
            gate.note(won);
            if let (true, Some(packed)) = (won, packed) {
                best.clear();
                best.push(PCO);
                best.extend_from_slice(&packed);
            }
        }
    }
    if best.len() > values.len() * T::BYTES {
        return raw(values, out);
    }
    out.extend_from_slice(&best);
}

fn raw<T: Float>(values: &[T], out: &mut Vec<u8>) {
    out.push(RAW);
    for value in values {
        value.put(out);
    }
}

fn bits<T: Float>(values: &[T]) -> Vec<u8> {
    let words: Vec<u64> = values.iter().map(|v| v.bits()).collect();
    let mut out = vec![BITS];
    ints::encode(&words, Effort::Smallest, None, &mut out);
    out
}

/// The integer that is the value times `10^exponent`, if that is exact.
#[inline(always)]
fn integer_of<T: Float>(value: T, exponent: usize) -> Option<i64> {
    let scaled = value.double() * POWERS[exponent];
    let rounded = (scaled + ROUND) - ROUND;
    let integer = rounded as i64;
    let back = T::of_double(integer as f64 / POWERS[exponent]);
    (rounded.abs() < INTEGER_LIMIT as f64 && back.bits() == value.bits()).then_some(integer)
}

/// The exponent under which the sample takes the fewest bits; `None`: hardly any
/// value is a decimal.
fn choose_exponent<T: Float>(values: &[T]) -> Option<usize> {
    let step = values.len().div_ceil(SAMPLE);
    let mut lowest = [0usize; EXPONENT_MAX + 1];
    let mut sampled = 0;
    for value in values.iter().step_by(step) {
        sampled += 1;
        if let Some(e) = (0..=EXPONENT_MAX).find(|e| integer_of(*value, *e).is_some()) {
            lowest[e] += 1;
        }
    }
    let (mut covered, mut best) = (0, None);
    for (e, count) in lowest.iter().enumerate() {
        covered += count;
        let bits = (sampled - covered) * 80 + sampled * e * 10 / 3;
        if covered * 10 >= sampled * 7 && best.is_none_or(|(_, b)| bits < b) {
            best = Some((e, bits));
        }
    }
    best.map(|(e, _)| e)
}

fn decimal<T: Float>(values: &[T]) -> Option<Vec<u8>> {
    let exponent = choose_exponent(values)?;
    let mut integers = Vec::with_capacity(values.len());
    let mut exceptions = Vec::new();
    let mut last = 0;
    for (i, value) in values.iter().enumerate() {
        match integer_of(*value, exponent) {
            Some(integer) => last = integer as u64,
            None => exceptions.push((i, *value)),
        }
        integers.push(last);
    }
    let mut e = Encoder::default();
    e.u8(DECIMAL);
    e.u8(exponent as u8);
    put_nested(&mut e.buffer, |out| {
        ints::encode(&integers, Effort::Smallest, None, out)
    });
    let mut next = 0;
    for (i, value) in exceptions {
        e.varint((i - next) as u64);
        value.put(&mut e.buffer);
        next = i + 1;
    }
    Some(e.buffer)
}

/// Decodes exactly `out.len()` values, which must be all that `bytes` holds.
pub(super) fn decode<T: Float>(bytes: &[u8], out: &mut [T]) -> Result<(), BlockError> {
    if out.is_empty() && bytes.is_empty() {
        return Ok(());
    }
    let mut d = Decoder::new("floats", bytes);
    match d.u8()? {
        RAW => {
            let values = d.take(out.len().saturating_mul(T::BYTES))?;
            for (o, bytes) in out.iter_mut().zip(values.chunks_exact(T::BYTES)) {
                *o = T::of_bytes(bytes);
            }
        }
        DECIMAL => return decode_decimal(&mut d, out),
        BITS => return T::decode_bits(&bytes[1..], out),
        PCO => return super::decode_pco(&bytes[1..], out),
        CHIMP => return chimp::decode(&bytes[1..], out),
        other => return Err(BlockError::new(format!("unknown float encoding {other}"))),
    }
    if !d.is_empty() {
        return Err(BlockError::new("bytes follow the floats"));
    }
    Ok(())
}

fn decode_decimal<T: Float>(d: &mut Decoder<'_>, out: &mut [T]) -> Result<(), BlockError> {
    let exponent = usize::from(d.u8()?);
    let power = *POWERS
        .get(exponent)
        .ok_or_else(|| BlockError::new(format!("a decimal exponent of {exponent}")))?;
    T::decode_divided(d.bytes()?, power, out)?;
    let mut next = 0;
    while !d.is_empty() {
        let gap = d.varint()?;
        if gap >= (out.len() - next) as u64 {
            return Err(BlockError::new("an exception after the last value"));
        }
        let position = next + gap as usize;
        out[position] = T::of_bytes(d.take(T::BYTES)?);
        next = position + 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip<T: Float>(values: &[T]) -> (u8, usize) {
        let mut out = Vec::new();
        encode(values, Effort::Smallest, None, &mut out);
        let mut back = vec![T::default(); values.len()];
        decode(&out, &mut back).unwrap();
        for (a, b) in values.iter().zip(&back) {
            assert_eq!(a.bits(), b.bits());
        }
        (out[0], out.len())
    }

    #[test]
    fn decimals_take_the_bits_of_their_digits() {
        let values: Vec<f64> = (0..2048).map(|i| ((i * 37) % 500) as f64 / 100.0).collect();
        let (encoding, bytes) = round_trip(&values);
        assert_eq!(encoding, DECIMAL);
        assert!(bytes < 2048 * 10 / 8, "{bytes}");
        let narrow: Vec<f32> = values.iter().map(|v| *v as f32).collect();
        assert_eq!(round_trip(&narrow).0, DECIMAL);
    }

    #[test]
    fn integers_are_divided_alike_however_large_they_are() {
        let edges = [
            0,
            1,
            -1,
            1 << 51,
            -(1 << 51),
            (1 << 51) - 1,
            1 << 52,
            i64::MAX,
            i64::MIN,
        ];
        let divided = |integers: &[i64]| {
            let words: Vec<u64> = integers.iter().map(|i| *i as u64).collect();
            let mut bytes = Vec::new();
            ints::encode(&words, Effort::Smallest, None, &mut bytes);
            let mut out = vec![0f64; integers.len()];
            f64::decode_divided(&bytes, 100.0, &mut out).unwrap();
            let expected: Vec<u64> = integers
                .iter()
                .map(|i| (*i as f64 / 100.0).to_bits())
                .collect();
            assert_eq!(
                out.iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
                expected
            );
        };
        divided(&edges);
        edges.iter().for_each(|edge| divided(&[*edge, 7]));
    }

    #[test]
    fn odd_bit_patterns_come_back() {
        let odd = [
            -0.0,
            f64::NAN,
            f64::from_bits(0x7ff8_dead_beef_0001),
            f64::from_bits(0xfff0_0000_0000_0001),
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MIN_POSITIVE / 3.0,
            f64::MAX,
            1e22,
            0.1 + 0.2,
        ];
        round_trip(&odd);
        let mut mixed: Vec<f64> = (0..1500).map(|i| f64::from(i) / 8.0).collect();
        for (i, value) in odd.iter().enumerate() {
            mixed[i * 149] = *value;
        }
        assert_eq!(round_trip(&mixed).0, DECIMAL);
        round_trip(&[f32::NAN, -0.0f32, f32::from_bits(0x7fc0_1234), 3.5]);
    }

    #[test]
    fn noise_stays_raw_size() {
        let mut state = 1u64;
        let noise: Vec<f64> = (0..2048)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
                f64::from_bits(state)
            })
            .collect();
        assert!(round_trip(&noise).1 <= 2048 * 8 + 1);
    }
}
