//! First versions: those before which there was no version of their key.
//!
//! A version that is the first of its key hides nothing. Whoever applied it has looked
//! for older ones anyway, if it was to be a new row, and so knows; the fact never changes
//! afterwards, and goes with the version into runs, and as a flag of whole pages into
//! segments. Two sets of first versions share no key, whatever their intervals of keys,
//! and a scan need not merge them.
//!
//! "There was none" means that nothing was stored of the key, not even a delete, an expired
//! row, or one that a truncation took away. Of a key whose newest version has left the disk
//! something may be left in history, which no reader may see any more.
//!
//! Nothing is lost but speed if a first version is not known to be one.

use arrow_buffer::{BooleanBuffer, BooleanBufferBuilder};

/// Which of some versions are known to be the first of their keys.
#[derive(Clone, Debug)]
pub(crate) enum FirstVersions {
    /// None.
    None,
    /// All.
    All,
    /// Those whose bit is set.
    Each(BooleanBuffer),
}

impl FirstVersions {
    /// All or none.
    pub(crate) fn all_if(all: bool) -> FirstVersions {
        match all {
            true => FirstVersions::All,
            false => FirstVersions::None,
        }
    }

    pub(crate) fn get(&self, i: usize) -> bool {
        match self {
            FirstVersions::None => false,
            FirstVersions::All => true,
            FirstVersions::Each(bits) => bits.value(i),
        }
    }

    /// Whether it is known of all.
    pub(crate) fn are_all(&self) -> bool {
        match self {
            FirstVersions::None => false,
            FirstVersions::All => true,
            FirstVersions::Each(bits) => bits.count_set_bits() == bits.len(),
        }
    }

    pub(crate) fn slice(&self, offset: usize, rows: usize) -> FirstVersions {
        match self {
            FirstVersions::Each(bits) => FirstVersions::Each(bits.slice(offset, rows)),
            same => same.clone(),
        }
    }

    /// Those at some positions, in that order.
    pub(crate) fn take(&self, rows: &[u32]) -> FirstVersions {
        match self {
            FirstVersions::Each(bits) => {
                let taken = rows.iter().map(|row| bits.value(*row as usize));
                FirstVersions::Each(taken.collect())
            }
            same => same.clone(),
        }
    }

    /// Appends a bit for each of `rows` versions from `start` on.
    pub(crate) fn append_to(&self, bits: &mut BooleanBufferBuilder, start: usize, rows: usize) {
        match self {
            FirstVersions::None => bits.append_n(rows, false),
            FirstVersions::All => bits.append_n(rows, true),
            FirstVersions::Each(own) => bits.append_buffer(&own.slice(start, rows)),
        }
    }
}

impl From<BooleanBuffer> for FirstVersions {
    fn from(bits: BooleanBuffer) -> FirstVersions {
        match bits.count_set_bits() {
            0 => FirstVersions::None,
            set if set == bits.len() => FirstVersions::All,
            _ => FirstVersions::Each(bits),
        }
    }
}
