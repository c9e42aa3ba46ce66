//! Single values of [integers](super::super::ints).
//!
//! All encodings but run-length, delta and pco give a value without looking at others. Of
//! runs the ends are kept; of deltas the sum before every 16th, so that at most 16 are added;
//! and pco is decoded whole.

use bytes::Bytes;
use chronos_model::Decoder;

use super::super::bitpack::{self, Sink};
use super::super::ints::{
    self, unzigzag, CONSTANT, DELTA, DEPTH_MAX, DICTIONARY, DICTIONARY_MAX, PACKED, PCO, RAW, RUNS,
};
use super::super::BlockError;
use super::packed::PackedAt;

/// So many steps are added up at most.
const STEPS_MAX: usize = 16;

/// Integers in a block.
#[derive(Debug)]
pub(super) enum IntsAt {
    Constant(u64),
    Raw(Bytes),
    Packed {
        base: u64,
        factor: u64,
        rise: u64,
        residuals: PackedAt,
    },
    Delta {
        first: u64,
        factor: u64,
        step: u64,
        /// Of the steps before each [`STEPS_MAX`]th.
        sums: Box<[u64]>,
        steps: PackedAt,
    },
    Runs {
        ends: Box<[u32]>,
        heads: Box<[u64]>,
    },
    Dictionary {
        values: Box<[u64]>,
        codes: Box<IntsAt>,
    },
    Decoded(Box<[u64]>),
}

impl IntsAt {
    /// Of `count` values, which must be all that `block` holds.
    pub(super) fn parse(block: Bytes, count: usize) -> Result<IntsAt, BlockError> {
        parse_at(block, count, 0)
    }

    /// The value of all of them, if the encoding says that it is the same.
    pub(super) fn constant(&self) -> Option<u64> {
        match self {
            IntsAt::Constant(value) => Some(*value),
            _ => None,
        }
    }

    /// Value `i`. Panics if there is none.
    ///
    /// Errors: a code without a value.
    pub(super) fn get(&self, i: usize) -> Result<u64, BlockError> {
        Ok(match self {
            IntsAt::Constant(value) => *value,
            IntsAt::Raw(bytes) => {
                let mut eight = [0; 8];
                eight.copy_from_slice(&bytes[i * 8..i * 8 + 8]);
                u64::from_le_bytes(eight)
            }
            IntsAt::Packed {
                base,
                factor,
                rise,
                residuals,
            } => base
                .wrapping_add(rise.wrapping_mul(i as u64))
                .wrapping_add(factor.wrapping_mul(residuals.get(i))),
            IntsAt::Delta {
                first,
                factor,
                step,
                sums,
                steps,
            } => {
                let known = i / STEPS_MAX;
                let sum = (known * STEPS_MAX..=i)
                    .fold(sums[known], |sum, i| sum.wrapping_add(steps.get(i)));
                first
                    .wrapping_add(step.wrapping_mul(i as u64))
                    .wrapping_add(factor.wrapping_mul(sum))
            }
            IntsAt::Runs { ends, heads } => heads[ends.partition_point(|end| *end as usize <= i)],
            IntsAt::Dictionary { values, codes } => {
                let code = usize::try_from(codes.get(i)?).ok();
                let value = code.and_then(|code| values.get(code));
                *value.ok_or_else(|| BlockError::new("a code that is not in the dictionary"))?
            }
            IntsAt::Decoded(values) => values[i],
        })
    }

    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            IntsAt::Constant(_) => 0,
            IntsAt::Raw(bytes) => bytes.len(),
            IntsAt::Packed { residuals, .. } => residuals.memory_bytes(),
            IntsAt::Delta { sums, steps, .. } => size_of_val(&**sums) + steps.memory_bytes(),
            IntsAt::Runs { ends, heads } => size_of_val(&**ends) + size_of_val(&**heads),
            IntsAt::Dictionary { values, codes } => {
                size_of_val(&**values) + size_of::<IntsAt>() + codes.memory_bytes()
            }
            IntsAt::Decoded(values) => size_of_val(&**values),
        }
    }
}

fn parse_at(block: Bytes, count: usize, depth: u32) -> Result<IntsAt, BlockError> {
    if count == 0 {
        return match block.is_empty() {
            true => Ok(IntsAt::Constant(0)),
            false => Err(BlockError::new("bytes where no integers are expected")),
        };
    }
    if depth > DEPTH_MAX {
        return Err(BlockError::new("encodings nested too deep"));
    }
    let mut d = Decoder::new("integers", &block);
    let d = &mut d;
    match d.u8()? {
        RAW => {
            d.take(count.saturating_mul(8))?;
            at_end(d)?;
            Ok(IntsAt::Raw(block.slice(1..)))
        }
        CONSTANT => {
            let value = unzigzag(d.varint()?);
            at_end(d)?;
            Ok(IntsAt::Constant(value))
        }
        PACKED => {
            let base = unzigzag(d.varint()?);
            let factor = d.varint()?;
            let slope = unzigzag(d.varint()?);
            Ok(IntsAt::Packed {
                base,
                factor,
                rise: factor.wrapping_mul(slope),
                residuals: PackedAt::parse(&block, d, count)?,
            })
        }
        DELTA => delta(&block, d, count),
        RUNS => runs(&block, d, count, depth),
        DICTIONARY => dictionary(&block, d, count, depth),
        PCO => {
            let mut values = vec![0u64; count];
            ints::decode(&block, &mut values)?;
            Ok(IntsAt::Decoded(values.into()))
        }
        other => Err(BlockError::new(format!("unknown integer encoding {other}"))),
    }
}

fn at_end(d: &Decoder<'_>) -> Result<(), BlockError> {
    match d.is_empty() {
        true => Ok(()),
        false => Err(BlockError::new("bytes follow the integers")),
    }
}

fn delta(block: &Bytes, d: &mut Decoder<'_>, count: usize) -> Result<IntsAt, BlockError> {
    let first = unzigzag(d.varint()?);
    let factor = d.varint()?;
    let step = unzigzag(d.varint()?).wrapping_mul(factor);
    let steps = PackedAt::parse(block, &mut d.clone(), count)?;
    let mut sums = Sums {
        sums: Vec::with_capacity(count.div_ceil(STEPS_MAX)),
        sum: 0,
    };
    bitpack::unpack(d, count, &mut sums)?;
    Ok(IntsAt::Delta {
        first,
        factor,
        step,
        sums: sums.sums.into(),
        steps,
    })
}

/// Takes steps for the sum of those before each [`STEPS_MAX`] of them.
struct Sums {
    sums: Vec<u64>,
    sum: u64,
}

impl Sink for Sums {
    fn take<W: Copy + Into<u64>>(&mut self, _: usize, run: &[W]) {
        for steps in run.chunks(STEPS_MAX) {
            self.sums.push(self.sum);
            let add = |sum: u64, step: &W| sum.wrapping_add((*step).into());
            self.sum = steps.iter().fold(self.sum, add);
        }
    }
}

fn runs(
    block: &Bytes,
    d: &mut Decoder<'_>,
    count: usize,
    depth: u32,
) -> Result<IntsAt, BlockError> {
    let runs = d.varint()?;
    if runs > count as u64 {
        return Err(BlockError::new("more runs than values"));
    }
    let mut heads = vec![0u64; runs as usize];
    let mut ends = vec![0u32; runs as usize];
    ints::decode_at(d.bytes()?, &mut heads, depth + 1)?;
    ints::decode_at(&block[d.offset()..], &mut ends, depth + 1)?;
    let mut sum = 0u64;
    for end in &mut ends {
        sum += u64::from(*end);
        *end = sum.min(u64::from(u32::MAX)) as u32;
    }
    if sum != count as u64 {
        return Err(BlockError::new("runs that do not fit the page"));
    }
    Ok(IntsAt::Runs {
        ends: ends.into(),
        heads: heads.into(),
    })
}

fn dictionary(
    block: &Bytes,
    d: &mut Decoder<'_>,
    count: usize,
    depth: u32,
) -> Result<IntsAt, BlockError> {
    let distinct = d.varint()?;
    if distinct > DICTIONARY_MAX as u64 {
        return Err(BlockError::new("a dictionary that is too large"));
    }
    let mut values = vec![0u64; distinct as usize];
    ints::decode_at(d.bytes()?, &mut values, depth + 1)?;
    let codes = parse_at(block.slice(d.offset()..), count, depth + 1)?;
    Ok(IntsAt::Dictionary {
        values: values.into(),
        codes: Box::new(codes),
    })
}

/// The bytes behind a length that `d`, which decodes `block`, comes to next.
pub(super) fn nested(block: &Bytes, d: &mut Decoder<'_>) -> Result<Bytes, BlockError> {
    let bytes = d.bytes()?;
    let end = d.offset();
    Ok(block.slice(end - bytes.len()..end))
}
