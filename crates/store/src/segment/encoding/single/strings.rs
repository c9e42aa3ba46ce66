//! Single values of [byte strings](super::super::bytes). lz4 is unpacked whole.

use bytes::Bytes;
use chronos_model::Decoder;

use super::super::bytes::{
    read_lengths, total_of, unpack_lz4, uuid_text, DICTIONARY, LZ4, RAW, UUID, WORDS,
};
use super::super::BlockError;
use super::ints::{nested, IntsAt};

/// Byte strings in a block.
#[derive(Debug)]
pub(super) enum StringsAt {
    Joined(Joined),
    Dictionary {
        entries: Joined,
        codes: IntsAt,
    },
    /// 16 bytes each.
    Uuids(Bytes),
    /// One or two columns of words.
    Words(Box<[IntsAt]>),
}

/// Values behind each other.
#[derive(Debug)]
pub(super) struct Joined {
    ends: Ends,
    bytes: Bytes,
}

#[derive(Debug)]
enum Ends {
    /// All values are so long.
    Every(usize),
    Each(Box<[u32]>),
}

impl StringsAt {
    /// Of `count` values, which must be all that `block` holds.
    pub(super) fn parse(block: Bytes, count: usize) -> Result<StringsAt, BlockError> {
        if count == 0 && block.is_empty() {
            return Ok(StringsAt::Uuids(block));
        }
        let mut d = Decoder::new("byte strings", &block);
        Ok(match d.u8()? {
            RAW => {
                let lengths = read_lengths(&mut d, count)?;
                StringsAt::Joined(Joined::new(&lengths, block.slice(d.offset()..))?)
            }
            LZ4 => {
                let lengths = read_lengths(&mut d, count)?;
                let joined = unpack_lz4(&block[d.offset()..], &lengths)?;
                StringsAt::Joined(Joined::new(&lengths, joined.into())?)
            }
            DICTIONARY => {
                let distinct = d.varint()?;
                if distinct > count as u64 {
                    return Err(BlockError::new("a dictionary larger than its page"));
                }
                let lengths = read_lengths(&mut d, distinct as usize)?;
                StringsAt::Dictionary {
                    entries: Joined::new(&lengths, nested(&block, &mut d)?)?,
                    codes: IntsAt::parse(block.slice(d.offset()..), count)?,
                }
            }
            UUID if block.len() - 1 == count.saturating_mul(16) => {
                StringsAt::Uuids(block.slice(1..))
            }
            UUID => return Err(BlockError::new("uuids that do not fit the rows")),
            WORDS => StringsAt::Words(words(&block, &mut d, count)?),
            other => {
                return Err(BlockError::new(format!(
                    "unknown byte string encoding {other}"
                )))
            }
        })
    }

    /// Whether the encoding says that all values are the same.
    pub(super) fn is_constant(&self) -> bool {
        match self {
            StringsAt::Dictionary { codes, .. } => codes.constant().is_some(),
            _ => false,
        }
    }

    /// Gives value `i` to `use_value`. Panics if there is none.
    ///
    /// Errors: a code without a value.
    pub(super) fn with<R>(
        &self,
        i: usize,
        use_value: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, BlockError> {
        Ok(match self {
            StringsAt::Joined(values) => use_value(values.get(i)),
            StringsAt::Dictionary { entries, codes } => {
                let code = usize::try_from(codes.get(i)?).ok();
                match code.filter(|code| *code < entries.len()) {
                    Some(code) => use_value(entries.get(code)),
                    None => return Err(BlockError::new("a code that is not in the dictionary")),
                }
            }
            StringsAt::Uuids(_) => use_value(&uuid_text(&self.uuid(i).unwrap_or_default())),
            StringsAt::Words(parts) => {
                let mut sixteen = [0; 16];
                for (part, eight) in parts.iter().zip(sixteen.chunks_exact_mut(8)) {
                    eight.copy_from_slice(&part.get(i)?.to_be_bytes());
                }
                use_value(&sixteen[..parts.len() * 8])
            }
        })
    }

    /// Value `i` if it is stored as the 16 bytes of a UUID.
    pub(super) fn uuid(&self, i: usize) -> Option<[u8; 16]> {
        match self {
            StringsAt::Uuids(bytes) => bytes[i * 16..].first_chunk().copied(),
            _ => None,
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            StringsAt::Joined(values) => values.memory_bytes(),
            StringsAt::Dictionary { entries, codes } => {
                entries.memory_bytes() + codes.memory_bytes()
            }
            StringsAt::Uuids(bytes) => bytes.len(),
            StringsAt::Words(parts) => {
                size_of_val(&**parts) + parts.iter().map(IntsAt::memory_bytes).sum::<usize>()
            }
        }
    }
}

impl Joined {
    fn new(lengths: &[u32], bytes: Bytes) -> Result<Joined, BlockError> {
        if total_of(lengths)? != bytes.len() {
            return Err(BlockError::new("lengths that do not fit the bytes"));
        }
        let ends = match lengths {
            [first, rest @ ..] if *first > 0 && rest.iter().all(|l| l == first) => {
                Ends::Every(*first as usize)
            }
            lengths => {
                let mut end = 0;
                let add = |length: &u32| {
                    end += length;
                    end
                };
                Ends::Each(lengths.iter().map(add).collect())
            }
        };
        Ok(Joined { ends, bytes })
    }

    fn len(&self) -> usize {
        match &self.ends {
            Ends::Every(length) => self.bytes.len() / length,
            Ends::Each(ends) => ends.len(),
        }
    }

    fn get(&self, i: usize) -> &[u8] {
        match &self.ends {
            Ends::Every(length) => &self.bytes[i * length..(i + 1) * length],
            Ends::Each(ends) => {
                let start = i.checked_sub(1).map_or(0, |before| ends[before] as usize);
                &self.bytes[start..ends[i] as usize]
            }
        }
    }

    fn memory_bytes(&self) -> usize {
        let ends = match &self.ends {
            Ends::Every(_) => 0,
            Ends::Each(ends) => size_of_val(&**ends),
        };
        ends + self.bytes.len()
    }
}

fn words(block: &Bytes, d: &mut Decoder<'_>, count: usize) -> Result<Box<[IntsAt]>, BlockError> {
    let parts = d.u8()?;
    if !matches!(parts, 1 | 2) {
        return Err(BlockError::new(format!("values of {parts} words")));
    }
    let parts = (0..parts)
        .map(|_| IntsAt::parse(nested(block, d)?, count))
        .collect::<Result<_, _>>()?;
    match d.is_empty() {
        true => Ok(parts),
        false => Err(BlockError::new("bytes follow the words")),
    }
}
