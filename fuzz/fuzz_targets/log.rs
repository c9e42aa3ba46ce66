//! A log: damage of one file of a valid one gives an error, or the entries that were written up
//! to some point; an arbitrary file in its place, and arbitrary payloads of entries, give an
//! error or something, and no panic.
//!
//! `just fuzz log -rss_limit_mb=512`
#![no_main]

#[path = "damage/mod.rs"]
mod damage;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use bytes::Bytes;
use chronos_env::{Disk, SimDisk, SimEnv};
use chronos_model::{
    rows_to_batch, BatchChange, Change, ColumnSchema, DataType, Expect, Key, Kind, RowChange,
    RowChanges, Stamp, TableId, TableOptions, TableSchema, Value, WriteSet,
};
use chronos_store::log::{self, GroupId, Log, LogEntry, LogError, LogIndex, LogOptions, Term};
use libfuzzer_sys::fuzz_target;

const DIR: &str = "/log";

fn options() -> LogOptions {
    LogOptions {
        segment_bytes: 4096 + 600,
        ..LogOptions::default()
    }
}

struct Valid {
    files: Vec<(PathBuf, Vec<u8>)>,
    entries: Vec<LogEntry>,
    payload: Vec<u8>,
}

static VALID: LazyLock<Valid> = LazyLock::new(|| {
    // A panic of Arrow's reader is caught by us; the fuzzer's own hook would end the process
    // before. Those that nobody catches still end it.
    std::panic::set_hook(Box::new(|panic| {
        let file = panic.location().map_or("", |location| location.file());
        if !file.contains("arrow-") && !file.contains("flatbuffers") {
            eprintln!("{panic}");
        }
    }));
    let disk = SimDisk::new(1);
    let env = SimEnv::with_disk(disk.clone(), 1).env();
    let (log, _) = Log::open(&env, Path::new(DIR), options()).unwrap();
    let mut entries = Vec::new();
    for index in 1..16u64 {
        let entry = LogEntry {
            group: GroupId(1),
            term: Term(1),
            index: LogIndex(index),
            payload: vec![index as u8; (index * 37 % 200) as usize].into(),
        };
        entries.push(entry.clone());
        let (sender, receiver) = std::sync::mpsc::channel();
        log.append(vec![entry], move |done| sender.send(done).unwrap());
        receiver.recv().unwrap().unwrap();
    }
    log.close().unwrap();
    let names = disk.read_dir(Path::new(DIR)).unwrap();
    let files = names.iter().map(|name| {
        let path = Path::new(DIR).join(name);
        let content = disk.read(&path).unwrap();
        (path, content)
    });
    Valid {
        files: files.collect(),
        entries,
        payload: write_set(),
    }
});

/// A write set with a change of every kind.
fn write_set() -> Vec<u8> {
    let column = |name: &str, data_type| ColumnSchema {
        name: name.into(),
        data_type,
        nullable: true,
        default: None,
        attributes: Default::default(),
    };
    let schema = TableSchema {
        id: TableId(1),
        name: "t".into(),
        columns: vec![column("k", DataType::Int8), column("v", DataType::Text)],
        primary_key: vec![0],
        options: TableOptions::default(),
        rules: Default::default(),
        shape: Default::default(),
    };
    let rows: Vec<Vec<Value>> = (0..20)
        .map(|n| vec![Value::Int8(n), Value::Text("x".repeat(n as usize).into())])
        .collect();
    let row = RowChange {
        key: Key(vec![1, 2, 3].into()),
        expect: Expect::Absent,
        kind: Kind::Put,
        row: vec![1, 2, 3].into(), valid: None };
    let set = WriteSet {
        begin: Stamp(7),
        changes: vec![
            Change::Rows(RowChanges {
                table: TableId(1),
                rows: vec![row],
            }),
            Change::Batch(BatchChange {
                table: TableId(1),
                expect: Expect::Any,
                batch: rows_to_batch(&schema, &rows).unwrap(),
            }),
            Change::CreateTable(schema),
            Change::Truncate(TableId(3)),
            Change::DropTable(TableId(4)),
        ],
    };
    set.encode().unwrap().to_vec()
}

fn disk_with(files: &[(PathBuf, Vec<u8>)]) -> SimDisk {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new(DIR)).unwrap();
    for (path, content) in files {
        disk.create(path).unwrap().write_at(content, 0).unwrap();
    }
    disk
}

/// All entries, in the way of a start.
fn read(disk: &SimDisk) -> Result<Vec<LogEntry>, LogError> {
    let env = SimEnv::with_disk(disk.clone(), 1).env();
    let (log, _) = Log::open(&env, Path::new(DIR), options())?;
    match log.bounds() {
        None => Ok(Vec::new()),
        Some((first, _)) => log.read(first)?.collect(),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((mode, rest)) = bytes.split_first() else {
        return;
    };
    let valid = &*VALID;
    match mode % 4 {
        kind @ (0 | 1) => {
            let Some((which, rest)) = rest.split_first() else {
                return;
            };
            let mut files = valid.files.clone();
            let which = usize::from(*which) % files.len();
            if kind == 0 {
                damage::damage(&mut files[which].1, rest);
            } else {
                files[which].1 = rest.to_vec();
            }
            let disk = disk_with(&files);
            let mut shown = 0;
            let mut found = 0;
            let verified = log::verify(&disk, Path::new(DIR), |_, _, _| shown += 1, |_| found += 1);
            let verified = verified.map(|_| found);
            match read(&disk) {
                Ok(entries) => {
                    let expected = &valid.entries[..entries.len().min(valid.entries.len())];
                    assert!(entries == expected, "entries that were never written");
                    assert!(matches!(verified, Ok(0)), "the check finds what a start does not");
                    assert_eq!(shown, entries.len());
                }
                Err(_) => assert!(!matches!(verified, Ok(0)), "the check finds nothing"),
            }
        }
        2 => {
            let mut payload = valid.payload.clone();
            damage::damage(&mut payload, rest);
            decode(payload);
        }
        _ => decode(rest.to_vec()),
    }
});

/// What decodes is encoded again as something that decodes.
fn decode(payload: Vec<u8>) {
    if let Ok(set) = WriteSet::decode(&Bytes::from(payload)) {
        let again = set.encode().expect("what was decoded");
        WriteSet::decode(&again.to_vec().into()).expect("what was encoded");
    }
}
