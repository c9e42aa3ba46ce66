//! Wrong bytes in a manifest: an error, or a state that it once told; never a panic.

use proptest::prelude::*;

use super::*;
use crate::Membership;

/// A manifest of some edits, and the states that they make one after the other.
fn valid() -> (Vec<u8>, Vec<ManifestState>) {
    let path = Path::new("manifest-1");
    let mut bytes = format::header();
    format::append(
        &mut bytes,
        &Edit::Checkpoint(ManifestState::default()),
        path,
    )
    .unwrap();
    let mut states = vec![format::read(path, &bytes).unwrap()];
    for index in 1..8u64 {
        let edit = match index {
            4 => Edit::Compact(Compact {
                next_segment_id: 9,
                removed: vec![SegmentId(1)],
                added: Vec::new(),
            }),
            _ => Edit::Flush(Flush {
                flushed_index: index,
                flushed_term: index / 3 + 1,
                floor: index * 10,
                membership: (index == 5).then(|| Membership {
                    term: 2,
                    index: 5,
                    bytes: vec![1, 2, 3],
                }),
                next_segment_id: index,
                catalog: None,
                truncated: Some(vec![Truncated {
                    table: chronos_model::TableId(1),
                    at: (0..index).collect(),
                }]),
                added: Vec::new(),
            }),
        };
        format::append(&mut bytes, &edit, path).unwrap();
        states.push(format::read(path, &bytes).unwrap());
    }
    (bytes, states)
}

/// Flips, overwritten stretches and cuts.
fn damage() -> impl Strategy<Value = Vec<(usize, Vec<u8>, bool)>> {
    let one = (
        any::<usize>(),
        prop::collection::vec(any::<u8>(), 1..9),
        any::<bool>(),
    );
    prop::collection::vec(one, 1..4)
}

fn damaged(mut bytes: Vec<u8>, damage: &[(usize, Vec<u8>, bool)]) -> Vec<u8> {
    for (at, with, cut) in damage {
        let at = at % bytes.len();
        if *cut && with[0] < 64 {
            bytes.truncate(at.max(1));
            continue;
        }
        for (byte, with) in bytes[at..].iter_mut().zip(with) {
            *byte ^= with;
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn damage_gives_an_error_or_a_state_that_was(damage in damage()) {
        let (bytes, states) = valid();
        let bytes = damaged(bytes, &damage);
        if let Ok(state) = format::read(Path::new("manifest-1"), &bytes) {
            prop_assert!(states.contains(&state), "{state:?}");
        }
    }

    #[test]
    fn any_bytes_and_any_record_are_read_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        at in any::<usize>(),
        byte in any::<u8>(),
    ) {
        let path = Path::new("manifest-1");
        let _ = format::read(path, &bytes);
        let _ = format::read(path, &[format::header(), bytes].concat());
        // A record whose checksum is right, and whose content is not.
        let checkpoint = Edit::Checkpoint(valid().1.pop().unwrap_or_default());
        let mut payload = serde_json::to_vec(&checkpoint).unwrap();
        let at = at % payload.len();
        payload[at] = byte;
        let length = (payload.len() as u32).to_le_bytes();
        let crc = crc32fast::hash(&[&length[..], &payload].concat()).to_le_bytes();
        let file = [&format::header()[..], &length, &crc, &payload].concat();
        let _ = format::read(path, &file);
    }
}
