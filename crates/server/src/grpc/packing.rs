//! Compression of what goes over slow links: LZ4, of batches and parts that are worth it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use super::options::WireCompression;
use super::pb;

/// Smaller ones fit into a few packets anyhow.
const PACK_BYTES_MIN: usize = 4 << 10;
/// Larger ones are rare, and packing needs as much memory again.
const PACK_BYTES_MAX: usize = 64 << 20;
/// Larger batches, which take more than some 100 µs, are packed by another thread.
const PACK_AT_ONCE_BYTES_MAX: usize = 64 << 10;
/// A link with a longer round trip is taken for one where bytes cost more than time to pack them.
const SLOW_ROUND_TRIP: Duration = Duration::from_millis(2);
/// After something that could not be packed, as many more are not tried.
const SKIPPED_AFTER_FAILURE: u32 = 15;
/// No LZ4 block grows more than this.
const RATIO_MAX: u64 = 255;

/// What was packed on the way to a node.
#[derive(Debug, Default)]
pub(super) struct Savings {
    /// Bytes before.
    pub(super) plain_bytes: AtomicU64,
    /// And after.
    pub(super) packed_bytes: AtomicU64,
}

/// Packs the messages of one stream.
#[derive(Debug)]
pub(super) struct Packer {
    compression: WireCompression,
    savings: Arc<Savings>,
    /// How many more are not tried.
    skipped: AtomicU32,
}

impl Packer {
    pub(super) fn new(compression: WireCompression, savings: Arc<Savings>) -> Arc<Packer> {
        Arc::new(Packer {
            compression,
            savings,
            skipped: AtomicU32::new(0),
        })
    }

    /// Packs the entries of a request if that is worth it.
    pub(super) async fn append(
        self: Arc<Packer>,
        request: pb::AppendRequest,
        round_trip: Option<Duration>,
    ) -> pb::AppendRequest {
        let bytes = request.entries.iter().map(|e| e.payload.len()).sum();
        if !self.is_worth_it(bytes, round_trip) {
            return request;
        }
        if bytes <= PACK_AT_ONCE_BYTES_MAX {
            return self.packed_append(request);
        }
        let plain = request.clone();
        elsewhere(plain, move || self.packed_append(request)).await
    }

    /// Packs the bytes of a part if that is worth it.
    pub(super) async fn part(
        self: Arc<Packer>,
        bytes: Bytes,
        round_trip: Option<Duration>,
    ) -> pb::checkpoint_part::Content {
        use pb::checkpoint_part::Content;
        let plain = Content::Bytes(bytes.clone());
        if !self.is_worth_it(bytes.len(), round_trip) {
            return plain;
        }
        let packed = move || match self.pack(&bytes) {
            Some(packed) => Content::Packed(packed),
            None => Content::Bytes(bytes),
        };
        elsewhere(plain, packed).await
    }

    fn is_worth_it(&self, bytes: usize, round_trip: Option<Duration>) -> bool {
        let is_slow = match self.compression {
            WireCompression::None => false,
            WireCompression::Lz4 => true,
            WireCompression::Auto => round_trip.is_some_and(|time| time > SLOW_ROUND_TRIP),
        };
        if !is_slow || !(PACK_BYTES_MIN..=PACK_BYTES_MAX).contains(&bytes) {
            return false;
        }
        // A stream has one message in hand at a time: nobody counts in between.
        match self.skipped.load(Ordering::Relaxed) {
            0 => true,
            skipped => {
                self.skipped.store(skipped - 1, Ordering::Relaxed);
                false
            }
        }
    }

    fn packed_append(&self, mut request: pb::AppendRequest) -> pb::AppendRequest {
        let entries = pb::Entries {
            entries: std::mem::take(&mut request.entries),
        };
        request.packed = self.pack(&entries.encode_to_vec());
        if request.packed.is_none() {
            request.entries = entries.entries;
        }
        request
    }

    /// `None`: less than an eighth would be saved.
    fn pack(&self, bytes: &[u8]) -> Option<pb::Packed> {
        let lz4 = lz4_flex::block::compress(bytes);
        if lz4.len() > bytes.len() / 8 * 7 {
            self.skipped.store(SKIPPED_AFTER_FAILURE, Ordering::Relaxed);
            return None;
        }
        let count = |counter: &AtomicU64, bytes: usize| {
            counter.fetch_add(bytes as u64, Ordering::Relaxed);
        };
        count(&self.savings.plain_bytes, bytes.len());
        count(&self.savings.packed_bytes, lz4.len());
        Some(pb::Packed {
            unpacked_bytes: bytes.len() as u64,
            lz4: lz4.into(),
        })
    }
}

/// Does work on a thread for such work: connections, heartbeats among them, share one that must
/// not be kept. Gives `otherwise` where that is not possible, as the runtime comes to its end.
async fn elsewhere<T: Send + 'static>(
    otherwise: T,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or(otherwise)
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

    fn packer(compression: WireCompression) -> Arc<Packer> {
        Packer::new(compression, Arc::default())
    }

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

    #[tokio::test]
    async fn entries_are_packed_where_it_is_worth_it() {
        let auto = packer(WireCompression::Auto);
        let append = |packer: &Arc<Packer>, request: &pb::AppendRequest, round_trip| {
            Arc::clone(packer).append(request.clone(), round_trip)
        };
        // At once, and by another thread.
        for payload in [vec![7; 4000], vec![7; 40_000]] {
            let plain = request(payload);
            let mut packed = append(&auto, &plain, SLOW).await;
            assert!(packed.entries.is_empty() && packed.encoded_len() < 1000);
            unpack_entries(&mut packed, 1 << 20).unwrap();
            assert_eq!(packed, plain);
        }
        let plain = request(vec![7; 4000]);
        assert_eq!(append(&auto, &plain, FAST).await, plain);
        assert_eq!(append(&auto, &plain, None).await, plain);
        let none = packer(WireCompression::None);
        assert_eq!(append(&none, &plain, SLOW).await, plain);
        let always = packer(WireCompression::Lz4);
        assert_ne!(append(&always, &plain, FAST).await, plain);
        let small = request(vec![7; 100]);
        assert_eq!(append(&auto, &small, SLOW).await, small);
    }

    #[tokio::test]
    async fn what_cannot_be_packed_is_left() {
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            (state >> 56) as u8
        };
        let noise = Bytes::from_iter(std::iter::repeat_with(&mut random).take(10_000));
        let plain = pb::checkpoint_part::Content::Bytes;
        let packer = packer(WireCompression::Lz4);
        let part = |bytes: &Bytes| Arc::clone(&packer).part(bytes.clone(), None);
        assert_eq!(part(&noise).await, plain(noise));
        // Then it is not tried for a while, and tried again.
        let zeros = Bytes::from(vec![0; 10_000]);
        for _ in 0..SKIPPED_AFTER_FAILURE {
            assert_eq!(part(&zeros).await, plain(zeros.clone()));
        }
        assert_ne!(part(&zeros).await, plain(zeros));
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
