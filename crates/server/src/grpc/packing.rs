//! Compression of what goes over slow links: LZ4, of batches and parts that are worth it.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use super::options::WireCompression;
use super::pb;

/// Smaller ones fit into a few packets anyhow.
const PACK_BYTES_MIN: usize = 4 << 10;
/// Larger ones would keep the thread of connections for too long.
const PACK_BYTES_MAX: usize = 64 << 20;
/// A link with a longer round trip is taken for one where bytes cost more than time to pack them.
const SLOW_ROUND_TRIP: Duration = Duration::from_millis(2);
/// After something that could not be packed, as many more are not tried.
const SKIPPED_AFTER_FAILURE: u32 = 15;
/// No LZ4 block grows more than this.
const RATIO_MAX: u64 = 255;

/// Packs the messages of one stream.
#[derive(Debug)]
pub(super) struct Packer {
    compression: WireCompression,
    skipped: u32,
}

impl Packer {
    pub(super) fn new(compression: WireCompression) -> Packer {
        Packer {
            compression,
            skipped: 0,
        }
    }

    /// Packs the entries of a request if that is worth it.
    pub(super) fn append(
        &mut self,
        mut request: pb::AppendRequest,
        round_trip: Option<Duration>,
    ) -> pb::AppendRequest {
        let bytes = request.entries.iter().map(|e| e.payload.len()).sum();
        if self.is_worth_it(bytes, round_trip) {
            let entries = pb::Entries {
                entries: std::mem::take(&mut request.entries),
            };
            request.packed = self.pack(&entries.encode_to_vec());
            if request.packed.is_none() {
                request.entries = entries.entries;
            }
        }
        request
    }

    /// Packs the bytes of a part if that is worth it.
    pub(super) fn part(
        &mut self,
        bytes: Bytes,
        round_trip: Option<Duration>,
    ) -> pb::checkpoint_part::Content {
        let packed = match self.is_worth_it(bytes.len(), round_trip) {
            true => self.pack(&bytes),
            false => None,
        };
        match packed {
            Some(packed) => pb::checkpoint_part::Content::Packed(packed),
            None => pb::checkpoint_part::Content::Bytes(bytes),
        }
    }

    fn is_worth_it(&mut self, bytes: usize, round_trip: Option<Duration>) -> bool {
        let is_slow = match self.compression {
            WireCompression::None => false,
            WireCompression::Lz4 => true,
            WireCompression::Auto => round_trip.is_some_and(|time| time > SLOW_ROUND_TRIP),
        };
        if !is_slow || !(PACK_BYTES_MIN..=PACK_BYTES_MAX).contains(&bytes) {
            return false;
        }
        let is_tried = self.skipped == 0;
        self.skipped = self.skipped.saturating_sub(1);
        is_tried
    }

    /// `None`: less than an eighth would be saved.
    fn pack(&mut self, bytes: &[u8]) -> Option<pb::Packed> {
        let lz4 = lz4_flex::block::compress(bytes);
        if lz4.len() > bytes.len() / 8 * 7 {
            self.skipped = SKIPPED_AFTER_FAILURE;
            return None;
        }
        Some(pb::Packed {
            unpacked_bytes: bytes.len() as u64,
            lz4: lz4.into(),
        })
    }
}

/// What is packed.
///
/// Errors (a sentence): more than `bytes_max`, more than LZ4 can hold, or damaged.
pub(super) fn unpack(packed: &pb::Packed, bytes_max: usize) -> Result<Bytes, String> {
    let bytes = packed.unpacked_bytes;
    if bytes > bytes_max as u64 {
        return Err(too_large(bytes, bytes_max));
    }
    if bytes > RATIO_MAX * (packed.lz4.len() as u64 + 1) {
        return Err(format!(
            "{bytes} bytes cannot be packed in {}",
            packed.lz4.len()
        ));
    }
    let unpacked = lz4_flex::block::decompress(&packed.lz4, bytes as usize)
        .map_err(|e| format!("packed bytes are damaged: {e}"))?;
    if unpacked.len() as u64 != bytes {
        return Err(format!(
            "packed bytes are {} instead of {bytes}",
            unpacked.len()
        ));
    }
    Ok(unpacked.into())
}

/// Puts packed entries back into their place.
pub(super) fn unpack_entries(
    request: &mut pb::AppendRequest,
    bytes_max: usize,
) -> Result<(), String> {
    let Some(packed) = request.packed.take() else {
        return Ok(());
    };
    let unpacked = unpack(&packed, bytes_max)?;
    let entries = pb::Entries::decode(unpacked).map_err(|e| format!("packed entries: {e}"))?;
    if !request.entries.is_empty() {
        return Err("a message with entries and packed entries".into());
    }
    request.entries = entries.entries;
    Ok(())
}

pub(super) fn too_large(bytes: u64, bytes_max: usize) -> String {
    format!(
        "a message of {bytes} bytes is too large: between nodes {bytes_max} bytes are the limit"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: Option<Duration> = Some(Duration::from_millis(20));
    const FAST: Option<Duration> = Some(Duration::from_micros(90));

    fn request(payload: Vec<u8>) -> pb::AppendRequest {
        let payload = Bytes::from(payload);
        let entry = |index| pb::Entry {
            group: 0,
            term: 1,
            index,
            payload: payload.clone(),
        };
        pb::AppendRequest {
            entries: (1..=3).map(entry).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn entries_are_packed_where_it_is_worth_it() {
        let mut auto = Packer::new(WireCompression::Auto);
        let plain = request(vec![7; 4000]);
        let packed = auto.append(plain.clone(), SLOW);
        assert!(packed.entries.is_empty() && packed.encoded_len() < 1000);
        let mut unpacked = packed;
        unpack_entries(&mut unpacked, 1 << 20).unwrap();
        assert_eq!(unpacked, plain);

        assert_eq!(auto.append(plain.clone(), FAST), plain);
        assert_eq!(auto.append(plain.clone(), None), plain);
        assert_eq!(
            Packer::new(WireCompression::None).append(plain.clone(), SLOW),
            plain
        );
        assert!(Packer::new(WireCompression::Lz4)
            .append(plain, FAST)
            .packed
            .is_some());
        let small = request(vec![7; 100]);
        assert_eq!(auto.append(small.clone(), SLOW), small);
    }

    #[test]
    fn what_cannot_be_packed_is_left() {
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            (state >> 56) as u8
        };
        let noise = Bytes::from_iter(std::iter::repeat_with(&mut random).take(10_000));
        let plain = pb::checkpoint_part::Content::Bytes;
        let mut packer = Packer::new(WireCompression::Lz4);
        assert_eq!(packer.part(noise.clone(), None), plain(noise));
        // Then it is not tried for a while, and tried again.
        let zeros = Bytes::from(vec![0; 10_000]);
        for _ in 0..SKIPPED_AFTER_FAILURE {
            assert_eq!(packer.part(zeros.clone(), None), plain(zeros.clone()));
        }
        assert_ne!(packer.part(zeros.clone(), None), plain(zeros));
    }

    #[test]
    fn wrong_sizes_are_refused() {
        let packed = |unpacked_bytes| pb::Packed {
            unpacked_bytes,
            lz4: lz4_flex::block::compress(&[9; 1000]).into(),
        };
        assert_eq!(unpack(&packed(1000), 1000).unwrap(), vec![9; 1000]);
        for wrong in [0, 999, 1001, 1 << 40, u64::MAX] {
            assert!(unpack(&packed(wrong), 1 << 30).is_err(), "{wrong}");
        }
        let error = unpack(&packed(1000), 999).unwrap_err();
        assert!(error.contains("the limit"), "{error}");
    }
}
