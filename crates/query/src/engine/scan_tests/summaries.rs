//! Aggregates out of summaries: which are, which are not, and that they say so in EXPLAIN.

use chronos_model::{Kind, Value};

use super::{row, Pair};

/// 200 rows of each of two devices, in pages of 16.
fn flushed() -> Pair {
    let mut pair = Pair::new(2);
    for device in ["a", "b"] {
        let rows: Vec<_> = (0..200)
            .map(|k| row(device, k, 9 + 16 + 3 * 64 + 2 * 512))
            .collect();
        pair.batch(&rows);
    }
    pair.flush();
    pair
}

#[track_caller]
fn expect(pair: &Pair, sql: &str, summary: Option<&str>, reads: bool) {
    let plan = pair.explain(sql);
    match summary {
        Some(wanted) => assert!(plan.contains(wanted), "{sql}: no {wanted} in\n{plan}"),
        None => assert!(!plan.contains("SummaryExec"), "{sql}:\n{plan}"),
    }
    assert_eq!(plan.contains("ScanExec"), reads, "{sql}:\n{plan}");
    pair.check(sql);
}

#[test]
fn whole_pages_are_not_read() {
    let pair = flushed();
    let all = Some("SummaryExec: pages=25, rows=400");
    let sql = "SELECT sum(i), avg(f), count(b), min(s), max(ts), sum(r), min(n) FROM t";
    expect(&pair, sql, all, false);
    // 10 to 31: one page whole, two in parts.
    let sql = "SELECT count(*), sum(big) FROM t WHERE d = 'a' AND k >= 10 AND k < 40";
    expect(&pair, sql, Some("SummaryExec: pages=1, rows=16"), true);
    let sql = "SELECT count(*), sum(big) FROM t WHERE d = 'a' AND k BETWEEN 16 AND 47";
    expect(&pair, sql, Some("SummaryExec: pages=2, rows=32"), false);
    let sql = "SELECT max(f) FROM t WHERE ts >= '2023-11-14 22:13:36+00' OR k < 0";
    expect(&pair, sql, Some("SummaryExec: pages=22, rows=352"), true);
}

#[test]
fn groups_that_are_constant_in_pages() {
    let pair = flushed();
    // The page in the middle holds both devices.
    let grouped = Some("SummaryExec: pages=24, rows=384");
    let sql = "SELECT d, count(*), avg(f), max(i) FROM t GROUP BY d";
    expect(&pair, sql, grouped, true);
    expect(&pair, "SELECT DISTINCT d FROM t", grouped, true);
    let sql = "SELECT d, min(k) FROM t WHERE d = 'b' GROUP BY d";
    expect(&pair, sql, Some("pages=12, rows=192"), true);
    let sql =
        "SELECT d, max(f) FROM t WHERE d IN ('b', 'c') AND k > 7 GROUP BY d HAVING max(f) > 3";
    expect(&pair, sql, Some("pages=12, rows=192"), true);
}

#[test]
fn what_statistics_do_not_tell_is_read() {
    let mut pair = flushed();
    for sql in [
        "SELECT sum(n) FROM t",
        "SELECT count(DISTINCT i) FROM t",
        "SELECT sum(i) FILTER (WHERE k > 3) FROM t",
        "SELECT sum(i + 1) FROM t",
        "SELECT i, count(*) FROM t GROUP BY i",
        "SELECT max(f) FROM t WHERE s LIKE 's0%'",
        "SELECT sum(f) FROM (SELECT f FROM t LIMIT 30) x",
        "SELECT stddev(f) FROM t",
    ] {
        expect(&pair, sql, None, true);
    }
    // A NaN leaves its page without bounds.
    let mut odd = row("c", 1, 1241);
    odd[4] = Value::Float8(f64::NAN);
    pair.batch(&[odd]);
    pair.flush();
    expect(
        &pair,
        "SELECT max(f) FROM t",
        Some("pages=25, rows=400"),
        true,
    );
    assert_eq!(pair.paged("SELECT max(f) FROM t"), ["NaN"]);
}

#[test]
fn what_hides_rows_of_a_page_hides_its_summary() {
    let mut pair = flushed();
    let sql = "SELECT sum(i), count(*) FROM t";
    pair.rows(&[row("a", 20, 1241)], Kind::Put);
    expect(&pair, sql, Some("pages=24, rows=384"), true);
    pair.rows(&[row("b", 100, 1241)], Kind::Delete);
    expect(&pair, sql, Some("pages=23, rows=368"), true);
    // In one page now, whose keys reach from the one to the other.
    pair.flush();
    expect(&pair, sql, Some("pages=7, rows=112"), true);
    let before = super::instant(3);
    let past = format!("SELECT sum(i), count(*) FROM t FOR SYSTEM_TIME AS OF {before}");
    // What was recorded later hides nothing then.
    expect(&pair, &past, Some("SummaryExec: pages=25"), false);
    pair.paged.compact_now().unwrap();
    expect(&pair, &past, Some("SummaryExec"), true);
    expect(&pair, sql, Some("SummaryExec"), true);
    pair.truncate();
    pair.check(sql);
    pair.check(&past);
    assert_eq!(pair.paged(sql), ["NULL|0"]);
    assert!(pair.paged(&past)[0].ends_with("|400"));
}

#[test]
fn sums_out_of_range_are_refused_and_no_others() {
    let mut pair = Pair::new(1);
    let with_big = |k: i64, big: i64| {
        let mut row = row("a", k, 1241);
        row[3] = Value::Int8(big);
        row
    };
    // Pages of 16 rows: two of the highest values, then two of the lowest.
    for (start, big) in [
        (0, i64::MAX / 16),
        (16, i64::MAX / 16),
        (32, i64::MIN / 16),
        (48, i64::MIN / 16),
    ] {
        let rows: Vec<_> = (start..start + 16).map(|k| with_big(k, big)).collect();
        pair.batch(&rows);
    }
    pair.flush();
    let sum = "SELECT sum(big) FROM t";
    expect(&pair, sum, Some("pages=4, rows=64"), false);
    assert_eq!(
        pair.paged(sum),
        [format!("{}", (i64::MAX / 16 + i64::MIN / 16) * 32)]
    );
    let sum = "SELECT sum(big) FROM t WHERE k < 32";
    expect(&pair, sum, Some("pages=2, rows=32"), false);
    let error = pair.run(pair.paged.read_view(), sum).unwrap_err();
    assert_eq!(error.code.0, "22003");
}
