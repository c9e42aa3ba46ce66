//! Single values of [floats](super::super::floats). pco and Chimp128 are decoded whole.

use bytes::Bytes;
use chronos_model::Decoder;

use super::super::floats::{self, Float, BITS, CHIMP, DECIMAL, PCO, POWERS, RAW};
use super::super::BlockError;
use super::ints::{nested, IntsAt};

/// Floats in a block.
#[derive(Debug)]
pub(super) enum FloatsAt<T> {
    Raw(Bytes),
    Decimal {
        power: f64,
        integers: IntsAt,
        /// Sorted by position.
        exceptions: Box<[(usize, T)]>,
    },
    Bits(IntsAt),
    Decoded(Box<[T]>),
}

impl<T: Float> FloatsAt<T> {
    /// Of `count` values, which must be all that `block` holds.
    pub(super) fn parse(block: Bytes, count: usize) -> Result<FloatsAt<T>, BlockError> {
        if count == 0 && block.is_empty() {
            return Ok(FloatsAt::Decoded(Box::from([])));
        }
        let mut d = Decoder::new("floats", &block);
        match d.u8()? {
            RAW => {
                d.take(count.saturating_mul(T::BYTES))?;
                match d.is_empty() {
                    true => Ok(FloatsAt::Raw(block.slice(1..))),
                    false => Err(BlockError::new("bytes follow the floats")),
                }
            }
            DECIMAL => decimal(&block, &mut d, count),
            BITS => Ok(FloatsAt::Bits(IntsAt::parse(block.slice(1..), count)?)),
            PCO | CHIMP => {
                let mut values = vec![T::default(); count];
                floats::decode(&block, &mut values)?;
                Ok(FloatsAt::Decoded(values.into()))
            }
            other => Err(BlockError::new(format!("unknown float encoding {other}"))),
        }
    }

    /// Value `i`. Panics if there is none.
    pub(super) fn get(&self, i: usize) -> Result<T, BlockError> {
        Ok(match self {
            FloatsAt::Raw(bytes) => T::of_bytes(&bytes[i * T::BYTES..(i + 1) * T::BYTES]),
            FloatsAt::Decimal {
                power,
                integers,
                exceptions,
            } => match exceptions.binary_search_by_key(&i, |(at, _)| *at) {
                Ok(found) => exceptions[found].1,
                Err(_) => T::of_double(integers.get(i)? as i64 as f64 / power),
            },
            FloatsAt::Bits(words) => T::of_bits(words.get(i)?),
            FloatsAt::Decoded(values) => values[i],
        })
    }

    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            FloatsAt::Raw(bytes) => bytes.len(),
            FloatsAt::Decimal {
                integers,
                exceptions,
                ..
            } => integers.memory_bytes() + size_of_val(&**exceptions),
            FloatsAt::Bits(words) => words.memory_bytes(),
            FloatsAt::Decoded(values) => size_of_val(&**values),
        }
    }
}

fn decimal<T: Float>(
    block: &Bytes,
    d: &mut Decoder<'_>,
    count: usize,
) -> Result<FloatsAt<T>, BlockError> {
    let exponent = usize::from(d.u8()?);
    let power = *POWERS
        .get(exponent)
        .ok_or_else(|| BlockError::new(format!("a decimal exponent of {exponent}")))?;
    let integers = IntsAt::parse(nested(block, d)?, count)?;
    let mut exceptions = Vec::new();
    let mut next = 0;
    while !d.is_empty() {
        let gap = d.varint()?;
        if gap >= (count - next) as u64 {
            return Err(BlockError::new("an exception after the last value"));
        }
        let position = next + gap as usize;
        exceptions.push((position, T::of_bytes(d.take(T::BYTES)?)));
        next = position + 1;
    }
    Ok(FloatsAt::Decimal {
        power,
        integers,
        exceptions: exceptions.into(),
    })
}
