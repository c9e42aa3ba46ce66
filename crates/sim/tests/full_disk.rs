//! The disk is full at some write of a scripted run: the client is told so by 53100 and stays told,
//! and what was acknowledged is there when there is room again.

use chronos_env::SimDisk;
use chronos_model::{SqlState, Value};
use chronos_sim::{run, Machine};

/// More of these rows than fit a log file of the smallest profile.
const ROWS: i64 = 100;
const PAD_BYTES: usize = 1 << 20;

#[tokio::test]
async fn a_full_disk_is_told_and_nothing_acknowledged_is_lost() {
    let disk = SimDisk::new(7);
    let machine = Machine::boot(disk.clone(), 7).unwrap();
    let mut session = machine.session();
    run(
        &mut session,
        "CREATE TABLE t (id INT PRIMARY KEY, pad TEXT)",
    )
    .await
    .unwrap();
    // Where the next log file is begun, so that the failure comes at its allocation.
    disk.fill_after_write_points(disk.write_points() + 150);
    let mut acknowledged = 0;
    let full = loop {
        assert!(acknowledged < ROWS, "the disk was never full");
        let pad = "x".repeat(PAD_BYTES);
        let insert = format!("INSERT INTO t VALUES ({acknowledged}, '{pad}')");
        match run(&mut session, &insert).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(full.code, SqlState::DISK_FULL, "{full}");
    for _ in 0..2 {
        let refused = run(&mut machine.session(), "INSERT INTO t VALUES (-1, '')").await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code, SqlState::DISK_FULL, "{refused}");
        assert_eq!(refused.http_status(), 503);
    }
    drop(session);
    drop(machine);

    disk.clear_faults();
    let machine = Machine::boot(disk, 8).unwrap();
    let mut session = machine.session();
    for id in 0..acknowledged {
        let select = format!("SELECT id FROM t WHERE id = {id}");
        let rows = run(&mut session, &select).await.unwrap();
        assert_eq!(rows, [[Value::Int8(id)]]);
    }
}
