//! Rows in the order of the key, few pages for few rows, and pages that are left out because
//! of what was found so far.

use chronos_model::Kind;

use super::{row, Pair};

/// Readings of three devices at interleaved times, in several segments.
fn readings(parallelism: usize) -> Pair {
    let mut pair = Pair::new(parallelism);
    for part in 0..3 {
        for device in ["a", "b", "c"] {
            let times = part * 200..(part + 1) * 200;
            let rows: Vec<_> = times.map(|k| row(device, k, 1241)).collect();
            pair.batch(&rows);
        }
        pair.flush();
    }
    pair
}

#[track_caller]
fn expect(pair: &Pair, sql: &str, contains: &[&str], without: &[&str], read: usize) {
    let plan = pair.explain(sql);
    for wanted in contains {
        assert!(plan.contains(wanted), "{sql}: no {wanted} in\n{plan}");
    }
    for unwanted in without {
        assert!(!plan.contains(unwanted), "{sql}: {unwanted} in\n{plan}");
    }
    pair.check_ordered(sql);
    let pages = pair.pages(sql);
    assert!(pages.0 <= read, "{sql} reads {pages:?} pages\n{plan}");
}

#[test]
fn few_rows_of_an_order_by_key_are_few_pages() {
    for parallelism in [1, 3] {
        let pair = readings(parallelism);
        let sorts = ["SortExec", "SortPreservingMergeExec"];
        let sql = "SELECT * FROM t WHERE d = 'b' ORDER BY k DESC LIMIT 1";
        expect(
            &pair,
            sql,
            &["by key descending", "first 1 row(s)"],
            &sorts,
            1,
        );
        assert!(pair.paged(sql)[0].starts_with("b|599|"));
        let sql = "SELECT k, i FROM t WHERE d = 'b' AND k < 350 ORDER BY k DESC NULLS LAST LIMIT 3";
        expect(&pair, sql, &["by key descending"], &sorts, 2);
        let sql = "SELECT k FROM t WHERE d = 'a' ORDER BY d DESC, k LIMIT 5 OFFSET 2";
        expect(
            &pair,
            sql,
            &["by key, ", "first 7 row(s)"],
            &["SortExec"],
            1,
        );
        let sql = "SELECT * FROM t ORDER BY d, k LIMIT 4";
        expect(&pair, sql, &["by key"], &sorts, 1);
        let sql = "SELECT * FROM t ORDER BY d DESC, k DESC LIMIT 4";
        expect(&pair, sql, &["by key descending"], &sorts, 1);
        let sql = "SELECT k FROM (SELECT k, d FROM t) x WHERE d = 'c' ORDER BY k";
        expect(&pair, sql, &["by key"], &["SortExec"], 60);
        // A filter that may refuse many rows keeps its threads.
        let sql = "SELECT k FROM t WHERE i % 7 = 3 ORDER BY d, k LIMIT 2";
        expect(&pair, sql, &["by key"], &["SortExec"], 9);
        for sql in [
            "SELECT * FROM t ORDER BY d, k DESC LIMIT 4",
            "SELECT k FROM t ORDER BY k LIMIT 4",
            "SELECT k FROM t WHERE d IN ('a', 'b') ORDER BY k LIMIT 4",
            "SELECT k FROM t WHERE d > 'a' ORDER BY k DESC LIMIT 4",
            "SELECT d, k + 1 FROM t ORDER BY d, k + 1 LIMIT 4",
        ] {
            expect(&pair, sql, &["SortExec"], &["by key"], usize::MAX);
        }
    }
}

#[test]
fn newer_rows_and_deletes_are_met_on_the_way_back() {
    let mut pair = readings(2);
    let sql = "SELECT k, i FROM t WHERE d = 'b' ORDER BY k DESC LIMIT 2";
    pair.rows(&[row("b", 600, 0), row("b", 595, 7)], Kind::Put);
    pair.check_ordered(sql);
    pair.rows(
        &[row("b", 600, 0), row("b", 599, 0), row("b", 598, 0)],
        Kind::Delete,
    );
    pair.check_ordered(sql);
    assert_eq!(pair.paged(sql)[0], "597|597");
    pair.flush();
    pair.check_ordered(sql);
    pair.paged.compact_now().unwrap();
    pair.check_ordered(sql);
    pair.truncate();
    assert!(pair.paged(sql).is_empty());
}

#[test]
fn pages_are_left_out_by_what_was_found() {
    let mut pair = Pair::new(1);
    pair.batch(&(0..12_000).map(|k| row("a", k, 1241)).collect::<Vec<_>>());
    pair.flush();
    pair.batch(&(100..110).map(|k| row("few", k, 1241)).collect::<Vec<_>>());
    pair.flush();
    let sql = "SELECT i, k FROM t ORDER BY i LIMIT 5";
    assert!(pair.explain(sql).contains("pages by DynamicFilter"));
    pair.check_ordered(&sql.replace("i LIMIT", "i, d, k LIMIT"));
    let (_, left_out) = pair.pages(sql);
    assert!(left_out > 200, "{left_out} pages");
    for sql in [
        "SELECT count(*), sum(a.f) FROM t a JOIN (SELECT * FROM t WHERE d = 'few') b ON a.i = b.i",
        "SELECT count(*), sum(a.f) FROM t a JOIN (SELECT * FROM t WHERE d = 'few') b ON a.big = b.i * 1000000007",
        "SELECT count(*), sum(f) FROM t WHERE i IN (SELECT i FROM t WHERE d = 'few')",
    ] {
        pair.check(sql);
        let (read, left_out) = pair.pages(sql);
        assert!(left_out > 700 && read < 20, "{read}, {left_out}: {sql}\n{}", pair.explain(sql));
    }
}

#[test]
fn what_was_found_belongs_to_one_execution() {
    let mut pair = Pair::new(1);
    pair.batch(&(0..200).map(|k| row("a", k, 1241)).collect::<Vec<_>>());
    pair.flush();
    // The recursive part runs again and again, each time for other rows.
    for sql in [
        "WITH RECURSIVE r(n) AS (SELECT k FROM t WHERE k = 0 UNION ALL \
         SELECT x.k FROM (SELECT t.k, r.n FROM t JOIN r ON t.k = r.n + 37 ORDER BY t.k DESC LIMIT 1) x) \
         SELECT * FROM r",
        "WITH RECURSIVE r(n) AS (SELECT k FROM t WHERE k = 180 UNION ALL SELECT t.k FROM t JOIN r ON t.i = r.n - 40) \
         SELECT * FROM r",
    ] {
        pair.check_ordered(sql);
        assert!(pair.paged(sql).len() > 4, "{sql}");
    }
    let sql = "SELECT k FROM t ORDER BY i DESC LIMIT 2";
    let plan = pair.plan(&pair.paged.read_view(), sql).unwrap();
    assert_eq!(
        pair.execute(pair.paged.read_view(), &plan).unwrap(),
        ["199", "198"]
    );
    pair.rows(
        &(150..200).map(|k| row("a", k, 0)).collect::<Vec<_>>(),
        Kind::Delete,
    );
    pair.flush();
    assert_eq!(
        pair.execute(pair.paged.read_view(), &plan).unwrap(),
        ["149", "148"]
    );
}
