//! Key filters: whether a key may be in a group of pages.
//!
//! Split-block Bloom filters (Putze, Sanders and Singler, 2007; the variant that
//! Parquet specifies): a key sets one bit in each of the eight 32-bit words of one
//! 32-byte block, so that a lookup touches one cache line. With 10 bits per key about
//! one absent key in a hundred is let through.
//!
//! The hash is part of the file format and therefore our own: [`hash`] folds the key
//! eight bytes at a time by 64x64 -> 128-bit multiplication. Its values are pinned by
//! a test.

const BLOCK_BYTES: usize = 32;

/// Odd constants that spread the low half of a hash over a block's words.
const SALTS: [u32; 8] = [
    0x47b6_137b,
    0x4497_4d91,
    0x8824_ad5b,
    0xa2b7_289d,
    0x7054_95c7,
    0x2df1_424b,
    0x9efc_4947,
    0x5c6b_fb31,
];

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const MULTIPLIER: u64 = 0xd6e8_feb8_6659_fd93;

/// The stable 64-bit hash of a key. Not for keys an attacker may choose to collide:
/// collisions cost reads, never correctness.
pub(super) fn hash(key: &[u8]) -> u64 {
    let (eights, rest) = key.as_chunks::<8>();
    let mut state = SEED ^ (key.len() as u64).wrapping_mul(MULTIPLIER);
    for eight in eights {
        state = fold(state ^ u64::from_le_bytes(*eight), MULTIPLIER);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    state = fold(state ^ u64::from_le_bytes(last), MULTIPLIER ^ SEED);
    fold(state ^ SEED, MULTIPLIER)
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

/// The filter of keys with these hashes.
pub(super) fn build(hashes: &[u64], bits_per_key: u32) -> Vec<u8> {
    let bits = hashes.len() as u64 * u64::from(bits_per_key);
    let blocks = bits.div_ceil(8 * BLOCK_BYTES as u64).max(1) as usize;
    let mut words = vec![0u32; blocks * 8];
    for hash in hashes {
        let block = block_of(*hash, blocks) * 8;
        for (word, salt) in words[block..block + 8].iter_mut().zip(SALTS) {
            *word |= bit_of(*hash, salt);
        }
    }
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

/// Whether a key of this hash may have been given to [`build`]. A filter of a length
/// that `build` does not make holds everything.
pub(super) fn may_contain(filter: &[u8], hash: u64) -> bool {
    let blocks = filter.as_chunks::<BLOCK_BYTES>().0;
    if blocks.is_empty() {
        return true;
    }
    let block = &blocks[block_of(hash, blocks.len())];
    block.as_chunks::<4>().0.iter().zip(SALTS).all(|(w, salt)| {
        let bit = bit_of(hash, salt);
        u32::from_le_bytes(*w) & bit != 0
    })
}

fn block_of(hash: u64, blocks: usize) -> usize {
    (((hash >> 32) * blocks as u64) >> 32) as usize
}

fn bit_of(hash: u64, salt: u32) -> u32 {
    1 << ((hash as u32).wrapping_mul(salt) >> 27)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_one_in_files() {
        assert_eq!(
            [
                hash(b""),
                hash(b"a"),
                hash(b"sensor-1"),
                hash(b"a key of more than eight bytes")
            ],
            PINNED
        );
    }

    const PINNED: [u64; 4] = [
        15868266522841512778,
        18247921142199728643,
        10139368148934041530,
        10741327970365741377,
    ];

    #[test]
    fn holds_all_keys_and_few_others() {
        let keys = |from: u64| (from..from + 10_000).map(|i| hash(&i.to_be_bytes()));
        let hashes: Vec<u64> = keys(0).collect();
        let filter = build(&hashes, 10);
        assert_eq!(filter.len(), (10_000usize * 10).div_ceil(256) * 32);
        assert!(hashes.iter().all(|h| may_contain(&filter, *h)));
        let let_through = keys(1_000_000).filter(|h| may_contain(&filter, *h)).count();
        assert!(let_through < 200, "{let_through} of 10000");
    }
}
