//! A node whose disk fails at every point of a scripted run: full, without syncs, read-only. What
//! was acknowledged is there when the fault is gone. Of what was refused, only the statement that
//! met the failure may be there; the ones after it never are.

use chronos_env::SimDisk;
use chronos_model::{SqlState, Value};
use chronos_sim::{run, Machine};

/// Rows that the script inserts, one per statement.
const ROWS: i64 = 9;

/// What became of the script's statements.
#[derive(Default)]
struct Seen {
    created: bool,
    acknowledged: Vec<i64>,
    refused: Vec<i64>,
    codes: Vec<SqlState>,
}

/// Inserts row after row, and flushes now and then; goes on after failures.
async fn script(disk: &SimDisk, seen: &mut Seen) {
    let Ok(machine) = Machine::boot(disk.clone(), 1) else {
        return;
    };
    let mut session = machine.session();
    let create = "CREATE TABLE t (id INT PRIMARY KEY)";
    match run(&mut session, create).await {
        Ok(_) => seen.created = true,
        Err(error) => return seen.codes.push(error.code),
    }
    for id in 0..ROWS {
        match run(&mut session, &format!("INSERT INTO t VALUES ({id})")).await {
            Ok(_) => seen.acknowledged.push(id),
            Err(error) => {
                seen.refused.push(id);
                seen.codes.push(error.code);
                assert!(!machine.status().ready, "{error}");
            }
        }
        if id % 3 == 2 {
            let _ = machine.flush();
        }
    }
    let _ = machine.close();
}

async fn rows(machine: &Machine) -> Vec<i64> {
    let mut session = machine.session();
    let mut found = Vec::new();
    for id in 0..ROWS {
        let select = format!("SELECT id FROM t WHERE id = {id}");
        let rows = run(&mut session, &select).await.unwrap();
        found.extend(rows.iter().map(|row| match row[0] {
            Value::Int8(id) => id,
            ref other => panic!("{other:?}"),
        }));
    }
    found
}

/// Looks at what a restart finds, and inserts one more row.
async fn check(disk: SimDisk, seen: &Seen, more: i64, what: &str) {
    let machine = Machine::boot(disk, 2).unwrap_or_else(|e| panic!("{what}: {e}"));
    let is_there = run(&mut machine.session(), "SELECT id FROM t WHERE id = -1").await;
    if is_there.is_err() {
        assert!(!seen.created, "{what}");
        return;
    }
    let found = rows(&machine).await;
    let mut expected = seen.acknowledged.clone();
    let as_refused = found == expected;
    expected.extend(seen.refused.first());
    expected.sort_unstable();
    assert!(as_refused || found == expected, "{what}: {found:?}");
    // It works again.
    let insert = format!("INSERT INTO t VALUES ({more})");
    run(&mut machine.session(), &insert).await.unwrap();
    machine.close().unwrap();
}

async fn at_every_point(fault: fn(&SimDisk, u64), allowed: &[SqlState]) {
    let rehearsal = SimDisk::new(1);
    let mut seen = Seen::default();
    script(&rehearsal, &mut seen).await;
    assert_eq!(seen.acknowledged.len() as i64, ROWS);
    let mut refusals = 0;
    for point in 0..rehearsal.write_points() {
        let disk = SimDisk::new(1);
        fault(&disk, point);
        let mut seen = Seen::default();
        script(&disk, &mut seen).await;
        refusals += seen.refused.len();
        for code in &seen.codes {
            assert!(allowed.contains(code), "point {point}: {code:?}");
        }
        disk.clear_faults();
        check(disk.clone(), &seen, -2, &format!("point {point}")).await;
        let cut = disk.restart(point);
        check(cut, &seen, -3, &format!("point {point}, cut")).await;
    }
    assert!(refusals > 50, "{refusals}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk() {
    let fault = |disk: &SimDisk, point| disk.fill_after_write_points(point);
    at_every_point(fault, &[SqlState::DISK_FULL]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failing_syncs() {
    let fault = |disk: &SimDisk, point| disk.fail_syncs_after_write_points(point);
    at_every_point(fault, &[SqlState::IO_ERROR]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_turns_read_only() {
    let fault = |disk: &SimDisk, point| disk.read_only_after_write_points(point);
    at_every_point(fault, &[SqlState::IO_ERROR]).await;
}
