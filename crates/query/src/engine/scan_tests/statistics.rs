//! What the planner makes of statistics: never a wrong answer, never an old one.

use super::{row, Pair};
use chronos_model::Kind;

fn flushed(rows: i64) -> Pair {
    let mut pair = Pair::new(2);
    pair.batch(&(0..rows).map(|k| row("a", k, 1241)).collect::<Vec<_>>());
    pair.flush();
    pair
}

#[test]
fn whole_tables_are_counted_without_a_scan() {
    let mut pair = flushed(100);
    let sql = "SELECT count(*), min(k), max(ts), count(i), min(d) FROM t";
    let plan = pair.explain(sql);
    assert!(plan.contains("PlaceholderRowExec"), "{plan}");
    pair.check(sql);
    // One row more, and it is not known without reading.
    pair.rows(&[row("b", -1, 1241)], Kind::Put);
    assert!(!pair.explain(sql).contains("PlaceholderRowExec"));
    pair.check(sql);
    for sql in [
        "SELECT count(*), min(k) FROM t WHERE i IS NULL",
        "SELECT count(*), min(k) FROM (SELECT k FROM t LIMIT 7) x",
        "SELECT count(*) FROM t WHERE k = 5 AND k = 6",
        "SELECT count(*) FROM t WHERE f = '-0'::float8",
        "SELECT count(*), count(b.k) FROM t a LEFT JOIN t b ON a.k = b.k + 1000",
        "SELECT count(*) FROM t a WHERE a.k NOT IN (SELECT k + 1000 FROM t)",
        "SELECT count(*) FROM (SELECT k FROM t UNION ALL SELECT i FROM t) x",
        "SELECT (SELECT count(*) FROM t), (SELECT max(k) FROM t)",
    ] {
        pair.check(sql);
    }
}

#[test]
fn a_plan_that_is_kept_answers_from_what_is_there() {
    let mut pair = flushed(100);
    let sql = "SELECT count(*), max(k), sum(i) FROM t";
    let plan = pair.plan(&pair.paged.read_view(), sql).unwrap();
    let view = pair.paged.read_view();
    let before = pair.execute(view.clone(), &plan).unwrap();
    assert_eq!(before, ["100|99|4950"]);
    pair.rows(&[row("a", 7, 1241)], Kind::Delete);
    pair.batch(&[row("a", 500, 1241)]);
    let after = "100|500|5443";
    assert_eq!(
        pair.execute(pair.paged.read_view(), &plan).unwrap(),
        [after]
    );
    // The old view still sees what it saw.
    assert_eq!(pair.execute(view, &plan).unwrap(), before);
    pair.flush();
    assert_eq!(
        pair.execute(pair.paged.read_view(), &plan).unwrap(),
        [after]
    );
}

#[test]
fn the_smaller_side_of_a_join_is_built() {
    let mut pair = flushed(3000);
    pair.batch(&(0..20).map(|k| row("few", k, 1241)).collect::<Vec<_>>());
    pair.flush();
    for sql in [
        "SELECT a.k FROM t a JOIN (SELECT * FROM t WHERE d = 'few') b ON a.i = b.i",
        "SELECT a.k FROM (SELECT * FROM t WHERE d = 'few') b JOIN t a ON a.i = b.i",
    ] {
        let plan = pair.explain(sql);
        let join = plan.split("HashJoinExec").nth(1).unwrap_or_default();
        let build = join.split("ScanExec").next().unwrap_or_default();
        assert!(
            build.contains("d@"),
            "the first input is not the small one:\n{plan}"
        );
        pair.check(sql);
    }
}
