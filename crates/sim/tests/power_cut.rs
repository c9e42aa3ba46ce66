//! The power is cut at every write of a scripted run: what was acknowledged is
//! there afterwards, what was not is there whole or not at all.

use chronos_env::SimDisk;
use chronos_model::Value;
use chronos_sim::{run, Machine};

/// The state of keys 1 to 3 after each step; `None`: no row.
type State = [Option<i64>; 3];

/// Statements, and the state after each.
const SCRIPT: [(&str, State); 8] = [
    (
        "CREATE TABLE t (id INT PRIMARY KEY, v INT, note TEXT)",
        [None, None, None],
    ),
    (
        "INSERT INTO t VALUES (1, 10, 'one')",
        [Some(10), None, None],
    ),
    (
        "INSERT INTO t VALUES (2, 20, 'two'), (3, 30, 'three')",
        [Some(10), Some(20), Some(30)],
    ),
    (
        "UPDATE t SET v = 11 WHERE id = 1",
        [Some(11), Some(20), Some(30)],
    ),
    ("DELETE FROM t WHERE id = 2", [Some(11), None, Some(30)]),
    (
        "INSERT INTO t VALUES (2, 21, 'again')",
        [Some(11), Some(21), Some(30)],
    ),
    (
        "UPDATE t SET v = v + 1 WHERE id = 3",
        [Some(11), Some(21), Some(31)],
    ),
    ("DELETE FROM t WHERE id = 1", [None, Some(21), Some(31)]),
];

/// Runs the script; the number of statements that were acknowledged.
async fn acknowledged(machine: &Machine) -> usize {
    let mut session = machine.session();
    for (step, (sql, _)) in SCRIPT.iter().enumerate() {
        if run(&mut session, sql).await.is_err() {
            return step;
        }
    }
    SCRIPT.len()
}

async fn state(machine: &Machine) -> Option<State> {
    let mut session = machine.session();
    let mut state = [None; 3];
    for (i, slot) in state.iter_mut().enumerate() {
        let sql = format!("SELECT v FROM t WHERE id = {}", i + 1);
        let rows = run(&mut session, &sql).await.ok()?;
        *slot = rows.first().map(|row| match row[0] {
            Value::Int8(v) => v,
            ref other => panic!("v is {other:?}"),
        });
    }
    Some(state)
}

/// The states that may be found when `done` steps were acknowledged: that after
/// them, or that after the one under way.
fn allowed(done: usize) -> Vec<Option<State>> {
    let after = |steps: usize| match steps {
        0 => None,
        steps => Some(SCRIPT[steps - 1].1),
    };
    vec![after(done), after((done + 1).min(SCRIPT.len()))]
}

async fn cut_at(point: u64, seed: u64) {
    let disk = SimDisk::new(seed);
    disk.crash_after_write_points(point);
    let done = match Machine::boot(disk.clone(), seed) {
        Ok(machine) => {
            let done = acknowledged(&machine).await;
            let _ = machine.close();
            done
        }
        Err(_) => 0,
    };
    let disk = disk.restart(seed);
    let machine = Machine::boot(disk, seed + 1)
        .unwrap_or_else(|e| panic!("cut at {point}, seed {seed}: cannot start again: {e}"));
    let found = state(&machine).await;
    assert!(
        allowed(done).contains(&found),
        "cut at write {point}, seed {seed}: {done} steps were acknowledged, found {found:?}"
    );
    let _ = machine.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_wherever_the_power_is_cut() {
    let whole = SimDisk::new(0);
    let machine = Machine::boot(whole.clone(), 0).expect("an undisturbed start");
    assert_eq!(acknowledged(&machine).await, SCRIPT.len());
    machine.close().expect("an undisturbed shutdown");
    let points = whole.write_points();
    assert!(points > 20, "only {points} writes");
    for point in 0..points {
        for seed in [1, 2] {
            cut_at(point, seed * 1_000 + point).await;
        }
    }
}
