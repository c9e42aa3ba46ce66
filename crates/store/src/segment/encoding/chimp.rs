//! Chimp128: each float as its difference from an earlier one, in a stream of bits.
//!
//! The algorithm is Chimp with 128 previous values by Liakos, Papakonstantinopoulou and
//! Kotidis, "Chimp: Efficient Lossless Floating Point Compression for Time Series
//! Databases" (VLDB 2022, section 5); the layout of the bits is ours.
//!
//! ```text
//! value 0   its W bits (W: 64 or 32)
//! value i   flag u2, then with x = value xor a reference, in W bits:
//!   0       back u7                               x = 0, the reference is value i - 1 - back
//!   1       back u7, lead u3, width u6 (u5), x    x without its leading and trailing zeros
//!   2       x                                     from value i - 1, with the leading zeros of
//!                                                 the last flag 3; no flag 0 or 1 in between
//!   3       lead u3, x                            from value i - 1, without its leading zeros
//! ```
//!
//! A lead is a position in [`LEADS`]: leading zeros are rounded down to it. The encoder
//! takes as reference of flags 0 and 1 the last value that ends in the same bits, so many
//! that leaving them out pays for naming it.

use super::bits::{BitReader, BitWriter};
use super::floats::Float;
use super::BlockError;

/// How far back a reference may lie.
const PREVIOUS: usize = 128;
const BACK_BITS: u32 = PREVIOUS.ilog2();

/// Counts of leading zeros that can be written.
const LEADS: [u32; 8] = [0, 8, 12, 16, 18, 20, 22, 24];
const LEAD_BITS: u32 = 3;

const FLAG_BITS: u32 = 2;
const SAME: u64 = 0;
const CENTRE: u64 = 1;
const LEAD_KEPT: u64 = 2;
const LEAD_GIVEN: u64 = 3;

/// Sizes that follow from the width of a float.
struct Shape;

impl Shape {
    const fn bits<T: Float>() -> u32 {
        T::BYTES as u32 * 8
    }

    /// Bits of the field that says how many bits a centre has.
    const fn width_bits<T: Float>() -> u32 {
        Self::bits::<T>().ilog2()
    }

    /// Bits in which a value and its reference must end alike: what a centre saves has to
    /// pay for `back` and `width`.
    const fn trailing_min<T: Float>() -> u32 {
        Self::width_bits::<T>() + BACK_BITS + 1
    }
}

/// Appends the stream of at least one value.
pub(super) fn encode<T: Float>(values: &[T], out: &mut Vec<u8>) {
    let Some(first) = values.first() else {
        return;
    };
    let mut writer = BitWriter::new(out);
    writer.put(first.bits(), Shape::bits::<T>());
    let mut recent = Recent::new::<T>();
    recent.note(first.bits(), 0);
    let mut kept = None;
    for (i, value) in values.iter().enumerate().skip(1) {
        let word = value.bits();
        let found = recent.note(word, i);
        let close = found.filter(|j| i - j <= PREVIOUS).map(|j| (i - 1 - j, j));
        let close = close.map(|(back, j)| (back as u64, word ^ values[j].bits()));
        kept = match close {
            Some((back, 0)) => {
                writer.put(SAME | back << FLAG_BITS, FLAG_BITS + BACK_BITS);
                None
            }
            Some((back, x)) => {
                put_centre::<T>(&mut writer, back, x);
                None
            }
            None => Some(put_whole::<T>(
                &mut writer,
                word ^ values[i - 1].bits(),
                kept,
            )),
        };
    }
    writer.finish();
}

/// Position in [`LEADS`] of the leading zeros of `x`, rounded down.
#[inline(always)]
fn lead_of<T: Float>(x: u64) -> usize {
    let zeros = x.leading_zeros() - (64 - Shape::bits::<T>());
    LEADS.iter().rposition(|lead| *lead <= zeros).unwrap_or(0)
}

fn put_centre<T: Float>(writer: &mut BitWriter<'_>, back: u64, x: u64) {
    let lead = lead_of::<T>(x);
    let trailing = x.trailing_zeros();
    let width = Shape::bits::<T>() - LEADS[lead] - trailing;
    let mut head = CENTRE | back << FLAG_BITS;
    let mut bits = FLAG_BITS + BACK_BITS;
    head |= (lead as u64) << bits;
    bits += LEAD_BITS;
    head |= u64::from(width) << bits;
    bits += Shape::width_bits::<T>();
    writer.put(head, bits);
    writer.put(x >> trailing, width);
}

/// Gives the lead that is in force afterwards.
fn put_whole<T: Float>(writer: &mut BitWriter<'_>, x: u64, kept: Option<usize>) -> usize {
    let lead = lead_of::<T>(x);
    match kept == Some(lead) {
        true => writer.put(LEAD_KEPT, FLAG_BITS),
        false => writer.put(
            LEAD_GIVEN | (lead as u64) << FLAG_BITS,
            FLAG_BITS + LEAD_BITS,
        ),
    }
    writer.put(x, Shape::bits::<T>() - LEADS[lead]);
    lead
}

/// Where a value with certain lowest bits was last seen.
struct Recent {
    /// One more than the position; 0: nowhere.
    places: Vec<u32>,
    mask: u64,
}

impl Recent {
    fn new<T: Float>() -> Recent {
        let places = 1usize << Shape::trailing_min::<T>();
        Recent {
            places: vec![0; places],
            mask: places as u64 - 1,
        }
    }

    /// Notes a value, and gives the position of the last one that ends as it does.
    #[inline(always)]
    fn note(&mut self, word: u64, position: usize) -> Option<usize> {
        let place = &mut self.places[(word & self.mask) as usize];
        let before = std::mem::replace(place, position as u32 + 1);
        (before as usize).checked_sub(1)
    }
}

/// Decodes exactly `out.len()` values, which must be all that `bytes` holds.
pub(super) fn decode<T: Float>(bytes: &[u8], out: &mut [T]) -> Result<(), BlockError> {
    let mut reader = BitReader::new(bytes);
    let Some(first) = out.first_mut() else {
        return reader.finish();
    };
    let mut previous = reader.take(Shape::bits::<T>())?;
    *first = T::of_bits(previous);
    // Bits of the last flag 3's value.
    let mut kept = None;
    for i in 1..out.len() {
        match reader.take(FLAG_BITS)? {
            SAME => {
                previous = reference(out, i, reader.take(BACK_BITS)?)?;
                kept = None;
            }
            CENTRE => {
                previous = take_centre(&mut reader, out, i)?;
                kept = None;
            }
            flag => {
                let width = match kept {
                    Some(width) if flag == LEAD_KEPT => width,
                    None if flag == LEAD_KEPT => {
                        return Err(BlockError::new("a float without its leading zeros"));
                    }
                    _ => Shape::bits::<T>() - LEADS[reader.take(LEAD_BITS)? as usize],
                };
                previous ^= reader.take(width)?;
                kept = Some(width);
            }
        }
        out[i] = T::of_bits(previous);
    }
    reader.finish()
}

/// The bits of the value that value `i` refers to.
#[inline(always)]
fn reference<T: Float>(out: &[T], i: usize, back: u64) -> Result<u64, BlockError> {
    let place = (i - 1).checked_sub(back as usize);
    let place =
        place.ok_or_else(|| BlockError::new("a float that refers to one before the first"))?;
    Ok(out[place].bits())
}

fn take_centre<T: Float>(
    reader: &mut BitReader<'_>,
    out: &[T],
    i: usize,
) -> Result<u64, BlockError> {
    let mut head = reader.take(BACK_BITS + LEAD_BITS + Shape::width_bits::<T>())?;
    let reference = reference(out, i, head & ((1 << BACK_BITS) - 1))?;
    head >>= BACK_BITS;
    let lead = LEADS[(head & ((1 << LEAD_BITS) - 1)) as usize];
    let width = (head >> LEAD_BITS) as u32;
    let trailing = Shape::bits::<T>().checked_sub(lead + width);
    match trailing {
        Some(trailing) if trailing < 64 && width > 0 => {
            Ok(reference ^ reader.take(width)? << trailing)
        }
        _ => Err(BlockError::new("a float whose bits do not fit")),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use proptest::prelude::*;

    use super::*;

    fn encoded<T: Float>(values: &[T]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(values, &mut out);
        out
    }

    fn assert_back<T: Float + Debug>(values: &[T]) -> usize {
        let bytes = encoded(values);
        let mut back = vec![T::default(); values.len()];
        decode(&bytes, &mut back).unwrap();
        for (i, (given, back)) in values.iter().zip(&back).enumerate() {
            assert_eq!(given.bits(), back.bits(), "value {i} of {}", values.len());
        }
        bytes.len()
    }

    /// Any bit patterns, patterns that come again, decimals and small changes.
    fn words() -> impl Strategy<Value = Vec<u64>> {
        let word = prop_oneof![
            any::<u64>(),
            (0..6u64).prop_map(|v| v << 52 | v),
            (-9_999..9_999i32).prop_map(|v| (f64::from(v) / 100.0).to_bits()),
            (-99..99i32).prop_map(|v| u64::from((v as f32 / 4.0).to_bits())),
            Just((-0.0f64).to_bits()),
            Just(f64::NAN.to_bits() | 0xbeef),
            Just(f64::NEG_INFINITY.to_bits()),
            (0..64u32).prop_map(|shift| 1 << shift),
        ];
        prop::collection::vec(word, 0..400)
    }

    fn doubles(words: &[u64]) -> Vec<f64> {
        words.iter().map(|w| f64::from_bits(*w)).collect()
    }

    fn singles(words: &[u64]) -> Vec<f32> {
        words.iter().map(|w| f32::from_bits(*w as u32)).collect()
    }

    /// Must not panic; what decodes is of the length asked for by its type.
    fn decode_damaged<T: Float>(bytes: &[u8], values: usize) -> Result<(), BlockError> {
        decode(bytes, &mut vec![T::default(); values])
    }

    proptest! {
        #[test]
        fn all_bits_come_back(words in words()) {
            assert_back(&doubles(&words));
            assert_back(&singles(&words));
        }

        #[test]
        fn a_stream_cut_short_or_of_another_length_is_an_error(words in words(), more in 1..300usize) {
            let bytes = encoded(&doubles(&words));
            for len in 0..bytes.len() {
                prop_assert!(decode_damaged::<f64>(&bytes[..len], words.len()).is_err());
            }
            prop_assert!(decode_damaged::<f64>(&bytes, words.len() + more).is_err());
            let bytes = encoded(&singles(&words));
            for len in 0..bytes.len() {
                prop_assert!(decode_damaged::<f32>(&bytes[..len], words.len()).is_err());
            }
            let longer = [&bytes[..], &[0]].concat();
            prop_assert!(decode_damaged::<f32>(&longer, words.len()).is_err());
        }

        #[test]
        fn flipped_bits_never_panic(
            words in words(),
            flips in prop::collection::vec((any::<usize>(), 0..8u32), 1..5),
        ) {
            for mut bytes in [encoded(&doubles(&words)), encoded(&singles(&words))] {
                for (at, bit) in flips.iter().filter(|_| !words.is_empty()) {
                    let at = at % bytes.len();
                    bytes[at] ^= 1 << bit;
                }
                let _ = decode_damaged::<f64>(&bytes, words.len());
                let _ = decode_damaged::<f32>(&bytes, words.len());
            }
        }

        #[test]
        fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            for values in [0, 1, 2, 130, 500] {
                let _ = decode_damaged::<f64>(&bytes, values);
                let _ = decode_damaged::<f32>(&bytes, values);
            }
        }
    }

    #[test]
    fn a_value_seen_before_takes_nine_bits() {
        let mut state = 1u64;
        let cycle: Vec<f64> = (0..PREVIOUS)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                f64::from_bits(state.rotate_left(20))
            })
            .collect();
        let once = assert_back(&cycle);
        let again: Vec<f64> = cycle.iter().cycle().take(3 * PREVIOUS).copied().collect();
        let more = assert_back(&again) - once;
        assert!(more.abs_diff(2 * PREVIOUS * 9 / 8) <= 1, "{more}");
    }

    /// The oldest stream: the bits must go on meaning the same.
    #[test]
    fn the_layout_of_the_bits_stays() {
        let values = [1.5f32, 1.5, 1.25, 1.250_000_1, 1.3, -7.25];
        let expected = [
            // 1.5; flag 0, back 0; flag 1, back 0, lead 1 (8 bits), width 3, centre 3; ..
            0, 0, 192, 63, 0, 2, 100, 236, 7, 172, 51, 51, 75, 128, 150, 254, 1,
        ];
        assert_eq!(encoded(&values), expected);
    }

    #[test]
    fn what_no_encoder_writes_is_refused() {
        let stream = |fields: &[(u64, u32)]| {
            let mut out = Vec::new();
            let mut writer = BitWriter::new(&mut out);
            writer.put(1.5f64.to_bits(), 64);
            fields
                .iter()
                .for_each(|(field, width)| writer.put(*field, *width));
            writer.finish();
            decode_damaged::<f64>(&out, 2).unwrap_err().reason
        };
        let before_first = stream(&[(SAME, 2), (1, BACK_BITS)]);
        assert!(before_first.contains("before the first"), "{before_first}");
        let kept = stream(&[(LEAD_KEPT, 2), (0, 64)]);
        assert!(kept.contains("leading zeros"), "{kept}");
        let empty = stream(&[(CENTRE, 2), (0, BACK_BITS), (7, LEAD_BITS), (0, 6)]);
        assert!(empty.contains("do not fit"), "{empty}");
        let wide = stream(&[
            (CENTRE, 2),
            (0, BACK_BITS),
            (7, LEAD_BITS),
            (41, 6),
            (0, 41),
        ]);
        assert!(wide.contains("do not fit"), "{wide}");
        let left_over = stream(&[(SAME, 2), (0, BACK_BITS), (1, 1)]);
        assert!(left_over.contains("follow"), "{left_over}");
    }
}
