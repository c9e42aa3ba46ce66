//! Every flipped bit and every cut is an error, and never a panic; a file that reads in spite
//! of what was done to it gives the rows that were written.

use proptest::prelude::*;

use chronos_env::Env;
use chronos_model::{DataType, Value};

use super::*;

/// A segment with a filter, deletes, blocks in the file and in the footer.
fn small() -> (TableSchema, Vec<u8>, VersionBatch) {
    let (env, schema) = (
        Env::simulated(1),
        table(
            &[
                ("k", DataType::Int8),
                ("name", DataType::Text),
                ("value", DataType::Float8),
            ],
            &[0],
        ),
    );
    let versions: Vec<Version> = (0..90i64)
        .map(|i| {
            let name = Value::Text(format!("{:x}", i * 2_654_435_761));
            let row = vec![Value::Int8(i * i), name, Value::Float8((i as f64).sin())];
            let mut version = put(&schema, 1_000 + i as u64 * 7, row);
            if i % 17 == 5 {
                version.row = None;
            }
            version
        })
        .collect();
    let all = batch(&schema, &versions);
    write(&env, &schema, &small_pages(20), std::slice::from_ref(&all)).unwrap();
    let bytes = env.disk.read(Path::new("s")).unwrap();
    (schema, bytes, all)
}

fn with_bytes(bytes: &[u8]) -> Env {
    let env = Env::simulated(1);
    let file = env.disk.create(Path::new("s")).unwrap();
    file.write_at(bytes, 0).unwrap();
    env
}

/// Reads everything; the first error, if any.
fn read_all(env: &Env, schema: &TableSchema) -> Result<(), SegmentError> {
    let segment = open(env, schema)?;
    let pages = segment.pages().len();
    for page in 0..pages {
        segment.may_contain(&segment.pages()[page].min_key);
        segment.read_keys(page)?;
    }
    segment.read_columns(0..pages, &all_columns(schema))?;
    segment.verify()
}

#[test]
fn every_flipped_byte_is_found() {
    let (schema, bytes, all) = small();
    assert_same(&open(&with_bytes(&bytes), &schema).unwrap(), &schema, &all);
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        let error = read_all(&with_bytes(&damaged), &schema)
            .expect_err(&format!("byte {at} of {} was flipped", bytes.len()));
        assert!(matches!(error, SegmentError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("at offset"), "{error}");
    }
}

#[test]
fn every_cut_and_every_extra_byte_is_found() {
    let (schema, bytes, _) = small();
    for len in 0..bytes.len() {
        let error = read_all(&with_bytes(&bytes[..len]), &schema)
            .expect_err(&format!("{len} of {} bytes are left", bytes.len()));
        assert!(matches!(error, SegmentError::Damaged { .. }), "{error}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(read_all(&with_bytes(&longer), &schema).is_err());
}

/// Footers whose checksum is right but whose content lies.
#[test]
fn lying_footers_never_panic() {
    let (schema, bytes, _) = small();
    let start = bytes.len() - 32;
    let footer_start = u64::from_le_bytes(bytes[start..start + 8].try_into().unwrap()) as usize;
    for at in footer_start..start {
        for value in [0x00, 0x01, 0x7f, 0x80, 0xff] {
            let mut footer = bytes[footer_start..start].to_vec();
            footer[at - footer_start] = value;
            let mut lying = bytes[..footer_start].to_vec();
            lying.extend_from_slice(&footer);
            lying.extend(super::super::layout::trailer(footer_start as u64, &footer));
            let _ = read_all(&with_bytes(&lying), &schema);
        }
    }
}

#[test]
fn a_newer_format_is_named() {
    let (schema, mut bytes, _) = small();
    bytes[8..12].copy_from_slice(&3u32.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..12]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    let error = open(&with_bytes(&bytes), &schema).unwrap_err();
    assert!(matches!(
        error,
        SegmentError::UnknownVersion { version: 3, .. }
    ));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    /// Several flips at once, overwritten stretches, and cuts with bytes behind them.
    #[test]
    fn damage_of_any_kind_is_an_error_or_nothing(
        pieces in prop::collection::vec(
            (any::<usize>(), prop::collection::vec(any::<u8>(), 1..40), 0u8..4),
            1..4,
        ),
    ) {
        let (schema, bytes, all) = small();
        let mut damaged = bytes;
        for (at, with, kind) in pieces {
            let at = at % damaged.len();
            match kind {
                0 => damaged[at] ^= with[0],
                1 => damaged.splice(at.., with).for_each(drop),
                _ => {
                    let end = (at + with.len()).min(damaged.len());
                    damaged.splice(at..end, with).for_each(drop);
                }
            }
        }
        let env = with_bytes(&damaged);
        if read_all(&env, &schema).is_ok() {
            assert_same(&open(&env, &schema).unwrap(), &schema, &all);
        }
    }

    #[test]
    fn any_bytes_are_no_segment(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let (schema, ..) = small();
        prop_assert!(read_all(&with_bytes(&bytes), &schema).is_err());
    }
}
