//! A manifest: damage of a valid one gives an error, or a state that the store was in (a last
//! edit that is not whole was never acknowledged); arbitrary bytes, and records of
//! arbitrary content with right checksums, give an error or something, and no panic.
//!
//! `just fuzz manifest -rss_limit_mb=512`
#![no_main]

#[path = "damage/mod.rs"]
mod damage;

use std::path::Path;
use std::sync::LazyLock;

use chronos_env::SimEnv;
use chronos_model::{
    encode_key, encode_row, Change, ColumnSchema, DataType, Expect, Key, Kind, NodeId, RowChange,
    RowChanges, Stamp, TableId, TableOptions, TableSchema, Value, WriteSet,
};
use chronos_store::{LogIndex, Store, StoreError, StoreOptions};
use libfuzzer_sys::fuzz_target;

const DIR: &str = "/d";

/// What a manifest says, as far as the store shows it.
#[derive(Clone, PartialEq, Debug)]
struct State {
    applied: LogIndex,
    floor: Stamp,
    tables: Vec<String>,
    segments: Vec<u64>,
}

fn options() -> StoreOptions {
    StoreOptions {
        background: false,
        cache_bytes: 1 << 16,
        ..StoreOptions::default()
    }
}

/// A manifest of several edits, and the states that they make one after the other.
static VALID: LazyLock<(Vec<u8>, Vec<State>)> = LazyLock::new(|| {
    let sim = SimEnv::new(1);
    let env = sim.env();
    let store = Store::open(&env, Path::new(DIR), options()).unwrap();
    let mut contents = vec![manifest(&sim)];
    for index in 1..12u64 {
        let change = match index {
            1 => Change::CreateTable(schema("t")),
            4 => Change::CreateTable(schema("u")),
            8 => Change::Truncate(TableId(1)),
            10 => Change::DropTable(TableId(2)),
            _ => put(index),
        };
        let set = WriteSet {
            begin: Stamp::MAX,
            changes: vec![change],
        };
        let stamp = Stamp::from_micros(1_000 + index);
        store.apply_write_set(LogIndex(index), stamp, NodeId(1), &set).unwrap();
        store.flush_now().unwrap();
        contents.push(manifest(&sim));
        if index == 7 {
            store.compact_now().unwrap();
            contents.push(manifest(&sim));
        }
    }
    let states = contents.iter().map(|content| read(content).unwrap());
    let states = states.collect();
    (contents.pop().unwrap(), states)
});

fn schema(name: &str) -> TableSchema {
    TableSchema {
        id: TableId(1),
        name: name.into(),
        columns: vec![ColumnSchema {
            name: "k".into(),
            data_type: DataType::Int8,
            nullable: false,
            default: None,
            attributes: Default::default(),
        }],
        primary_key: vec![0],
        options: TableOptions::default(),
        rules: Default::default(),
        shape: Default::default(),
    }
}

fn put(n: u64) -> Change {
    let row = [Value::Int8(n as i64)];
    let mut bytes = Vec::new();
    encode_row(&row, &mut bytes);
    let key = encode_key(&schema("t"), &row).unwrap();
    Change::Rows(RowChanges {
        table: TableId(1),
        rows: vec![RowChange {
            key: Key(key.0),
            expect: Expect::Any,
            kind: Kind::Put,
            row: bytes.into(), valid: None }],
    })
}

/// The manifest of a store at this moment.
fn manifest(sim: &SimEnv) -> Vec<u8> {
    let disk = sim.env().disk;
    let names = disk.read_dir(Path::new(DIR)).unwrap();
    let name = names.iter().find(|name| name.starts_with("manifest-")).unwrap();
    disk.read(&Path::new(DIR).join(name)).unwrap()
}

/// The state of a store that has this manifest, and none of the segments.
fn read(manifest: &[u8]) -> Result<State, StoreError> {
    let sim = SimEnv::new(1);
    let env = sim.env();
    let dir = Path::new(DIR);
    env.disk.create_dir_all(dir).unwrap();
    let file = env.disk.create(&dir.join("manifest-0000000000000001")).unwrap();
    file.write_at(manifest, 0).unwrap();
    let store = Store::open(&env, dir, options())?;
    Ok(State {
        applied: store.applied_index(),
        floor: store.floor(),
        tables: store.catalog().tables.keys().cloned().collect(),
        segments: store.damage().iter().map(|damage| damage.id.0).collect(),
    })
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(crc & 1));
        }
    }
    !crc
}

fn push_record(file: &mut Vec<u8>, payload: &[u8]) {
    let length = (payload.len() as u32).to_le_bytes();
    file.extend(length);
    file.extend(crc32(&[&length, payload].concat()).to_le_bytes());
    file.extend_from_slice(payload);
}

/// The records of a file that is whole.
fn records(file: &[u8]) -> Vec<&[u8]> {
    let mut records = Vec::new();
    let mut at = 16;
    while at < file.len() {
        let length = u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
        records.push(&file[at + 8..at + 8 + length]);
        at += 8 + length;
    }
    records
}

fuzz_target!(|bytes: &[u8]| {
    let Some((mode, rest)) = bytes.split_first() else {
        return;
    };
    let (valid, states) = &*VALID;
    match mode % 4 {
        0 => {
            let mut file = valid.clone();
            damage::damage(&mut file, rest);
            if let Ok(state) = read(&file) {
                assert!(states.contains(&state), "{state:?} never was");
            }
        }
        1 => {
            // The content of one record is damaged, and its checksum right.
            let Some((which, rest)) = rest.split_first() else {
                return;
            };
            let records = records(valid);
            let which = usize::from(*which) % records.len();
            let mut file = valid[..16].to_vec();
            for (number, record) in records.iter().enumerate() {
                let mut record = record.to_vec();
                if number == which {
                    damage::damage(&mut record, rest);
                }
                push_record(&mut file, &record);
            }
            let _ = read(&file);
        }
        2 => {
            let mut file = valid[..16].to_vec();
            push_record(&mut file, rest);
            let _ = read(&file);
        }
        _ => {
            let _ = read(rest);
        }
    }
});
