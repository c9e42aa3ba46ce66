//! A node whose table has a damaged segment: the statements that need it are refused, whether
//! that is known before or met on the way, everything else goes on, and nothing that
//! was refused is there after a restart.

use std::path::PathBuf;

use chronos_env::{Disk, SimDisk};
use chronos_model::{SqlState, Value};
use chronos_sim::{run, Machine};

const ROWS: i64 = 300;

/// A machine with two tables of some rows in segments, switched off.
async fn filled() -> SimDisk {
    let disk = SimDisk::new(3);
    let machine = Machine::boot(disk.clone(), 1).unwrap();
    let mut session = machine.session();
    for table in ["t", "u"] {
        let create = format!("CREATE TABLE {table} (id TEXT PRIMARY KEY, v TEXT)");
        run(&mut session, &create).await.unwrap();
        let row = |n: i64| format!("('{}', 'v{n}')", key(n * 2));
        let rows: Vec<String> = (0..ROWS).map(row).collect();
        let insert = format!("INSERT INTO {table} VALUES {}", rows.join(", "));
        run(&mut session, &insert).await.unwrap();
        machine.flush().unwrap();
    }
    drop(session);
    machine.close().unwrap();
    drop(machine);
    disk.restart(1)
}

/// A key that takes bytes: keys that follow from each other would stand in the footer.
fn key(id: i64) -> String {
    format!("{id:04}-{:x}", id * 2_654_435_761 % 1_048_573)
}

/// The segment of `t`, which was flushed first.
fn segment(disk: &SimDisk) -> PathBuf {
    let dir = PathBuf::from("/data/store/segments");
    let names = disk.read_dir(&dir).unwrap();
    dir.join(&names[0])
}

/// Flips bits of every block, and of nothing that is read when the segment is opened; a
/// second time brings them back.
fn flip_blocks(disk: &SimDisk) {
    let path = segment(disk);
    let bytes = disk.read(&path).unwrap();
    let trailer = bytes.len() - 32;
    let footer = u64::from_le_bytes(bytes[trailer..trailer + 8].try_into().unwrap());
    for offset in 16..footer {
        disk.flip_bits(&path, offset, 0x20).unwrap();
    }
}

async fn value(machine: &Machine, table: &str, id: i64) -> Result<Option<String>, SqlState> {
    let select = format!("SELECT v FROM {table} WHERE id = '{}'", key(id));
    let rows = run(&mut machine.session(), &select).await;
    let rows = rows.map_err(|error| error.code)?;
    Ok(rows.first().map(|row| match &row[0] {
        Value::Text(text) => text.to_string(),
        other => panic!("{other:?}"),
    }))
}

async fn insert(machine: &Machine, table: &str, id: i64) -> Result<(), chronos_node::Error> {
    let insert = format!("INSERT INTO {table} VALUES ('{}', 'new')", key(id));
    run(&mut machine.session(), &insert).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_meets_damage_is_refused_and_leaves_no_trace() {
    let disk = filled().await;
    flip_blocks(&disk);
    let machine = Machine::boot(disk.clone(), 2).unwrap();
    assert!(
        machine.status().store.damaged.is_empty(),
        "nothing was read yet"
    );
    // Some of these are logged behind the one that meets the damage.
    let around = (0..20).map(|n| {
        let table = if n % 4 == 1 { "t" } else { "u" };
        insert(&machine, table, 2 * n + 1)
    });
    let outcomes = futures::future::join_all(around).await;
    for (n, outcome) in outcomes.iter().enumerate() {
        match (n % 4 == 1, outcome) {
            (true, Err(error)) => {
                assert_eq!(error.code, SqlState::DATA_CORRUPTED, "{error}");
                assert!(error.message.contains("table \"t\""), "{error}");
                assert!(error.message.contains("at offset"), "{error}");
                assert!(error.hint.is_some());
            }
            (false, Ok(())) => {}
            other => panic!("{n}: {other:?}"),
        }
    }
    let status = machine.status();
    assert_eq!(status.fault, None);
    assert_eq!(status.store.damaged.len(), 1);
    assert_eq!(status.store.damaged[0].table, "t");
    // Keys that are nowhere in the segment, and blind writes, are written as ever.
    insert(&machine, "t", 5_000).await.unwrap();
    assert_eq!(value(&machine, "t", 2).await, Err(SqlState::DATA_CORRUPTED));
    assert_eq!(value(&machine, "t", 5_000).await, Ok(Some("new".into())));
    machine.close().unwrap();
    drop(machine);

    for seed in 0..3 {
        let disk = disk.restart(seed);
        if seed > 0 {
            flip_blocks(&disk);
        }
        let machine = Machine::boot(disk, 3).unwrap();
        assert_eq!(machine.status().fault, None);
        for n in 0..20 {
            let (table, id) = (if n % 4 == 1 { "t" } else { "u" }, 2 * n + 1);
            let expected = match (n % 4 == 1, seed) {
                (true, 0) => Err(SqlState::DATA_CORRUPTED),
                (true, _) => Ok(None),
                (false, _) => Ok(Some("new".to_owned())),
            };
            assert_eq!(value(&machine, table, id).await, expected, "{table} {id}");
        }
        assert_eq!(value(&machine, "t", 5_000).await, Ok(Some("new".into())));
        assert_eq!(value(&machine, "u", 2).await, Ok(Some("v1".into())));
    }
}

/// An acknowledged write whose precondition can no longer be looked at is neither dropped
/// nor guessed.
#[tokio::test]
async fn a_replay_that_meets_damage_holds_back_what_it_cannot_tell() {
    let disk = filled().await;
    let machine = Machine::boot(disk.clone(), 2).unwrap();
    insert(&machine, "u", 1).await.unwrap();
    insert(&machine, "t", 3).await.unwrap();
    insert(&machine, "t", 9_001).await.unwrap();
    // No orderly end: what was just written is in the log only.
    let disk = disk.restart(1);
    drop(machine);
    flip_blocks(&disk);
    let machine = Machine::boot(disk.clone(), 3).unwrap();
    let fault = machine.status().fault.unwrap();
    assert!(
        fault.contains("cannot be applied") && fault.contains("table \"t\""),
        "{fault}"
    );
    assert_eq!(value(&machine, "u", 1).await, Ok(Some("new".into())));
    for id in [2, 3, 9_001, 70_000] {
        assert_eq!(
            value(&machine, "t", id).await,
            Err(SqlState::DATA_CORRUPTED)
        );
    }
    for table in ["t", "u"] {
        let error = insert(&machine, table, 77).await.unwrap_err();
        assert_eq!(error.code, SqlState::DATA_CORRUPTED, "{error}");
    }
    let _ = machine.close();
    drop(machine);

    let disk = disk.restart(1);
    flip_blocks(&disk);
    let machine = Machine::boot(disk, 4).unwrap();
    assert_eq!(machine.status().fault, None);
    assert_eq!(value(&machine, "u", 1).await, Ok(Some("new".into())));
    assert_eq!(value(&machine, "t", 3).await, Ok(Some("new".into())));
    assert_eq!(value(&machine, "t", 9_001).await, Ok(Some("new".into())));
    assert_eq!(value(&machine, "u", 77).await, Ok(None));
    insert(&machine, "t", 77).await.unwrap();
}
