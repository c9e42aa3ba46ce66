//! Interval joins against the engine's own joins, of random rows and all kinds.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use datafusion::catalog::MemTable;
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::SessionStateBuilder;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::displayable;
use datafusion::prelude::{SessionConfig, SessionContext};
use proptest::prelude::*;

use super::JoinIntervals;

/// A key and two bounds.
type Row = (Option<i64>, Option<i64>, Option<i64>);

fn context(tables: [&[Row]; 2], bounds: &DataType, with_rule: bool) -> SessionContext {
    context_with(tables, bounds, with_rule, usize::MAX)
}

fn context_with(
    tables: [&[Row]; 2],
    bounds: &DataType,
    with_rule: bool,
    memory_bytes: usize,
) -> SessionContext {
    let config = SessionConfig::new()
        .with_batch_size(5)
        .with_target_partitions(2)
        .with_collect_statistics(false)
        .set_str("datafusion.sql_parser.dialect", "PostgreSQL");
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(memory_bytes)))
        .build_arc()
        .unwrap();
    let mut state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_default_features();
    if with_rule {
        let mut rules = PhysicalOptimizer::new().rules;
        let at = rules.iter().position(|r| r.name() == "ProjectionPushdown");
        rules.insert(at.unwrap(), Arc::new(JoinIntervals::NestedLoops));
        rules.push(Arc::new(JoinIntervals::HashJoins));
        state = state.with_physical_optimizer_rules(rules);
    }
    let context = SessionContext::new_with_state(state.build());
    for (name, rows) in ["a", "b"].into_iter().zip(tables) {
        let schema = Arc::new(Schema::new(vec![
            Field::new("n", DataType::Int64, false),
            Field::new("k", DataType::Int64, true),
            Field::new("lo", bounds.clone(), true),
            Field::new("hi", bounds.clone(), true),
        ]));
        let numbers = |of: fn(&Row) -> Option<i64>, rows: &[Row]| -> ArrayRef {
            Arc::new(rows.iter().map(of).collect::<Int64Array>())
        };
        let batch = |(part, rows): (usize, &[Row])| {
            let first = part as i64 * 7;
            let n = Int64Array::from_iter_values(first..first + rows.len() as i64);
            let cast = |column| arrow_cast::cast(&column, bounds).unwrap();
            let columns: Vec<ArrayRef> = vec![
                Arc::new(n),
                numbers(|r| r.0, rows),
                cast(numbers(|r| r.1, rows)),
                cast(numbers(|r| r.2, rows)),
            ];
            vec![RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()]
        };
        let mut parts: Vec<Vec<RecordBatch>> = rows.chunks(7).enumerate().map(batch).collect();
        if parts.is_empty() {
            parts.push(vec![]);
        }
        let table = MemTable::try_new(schema, parts).unwrap();
        context.register_table(name, Arc::new(table)).unwrap();
    }
    context
}

fn block_on<T>(future: impl std::future::Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    runtime.block_on(future)
}

/// The rows of a query as texts, sorted; and its plan.
fn rows(context: &SessionContext, sql: &str) -> Result<(Vec<String>, String), String> {
    block_on(async {
        let frame = context.sql(sql).await.map_err(|e| e.to_string())?;
        let plan = frame
            .create_physical_plan()
            .await
            .map_err(|e| e.to_string())?;
        let shown = displayable(plan.as_ref()).indent(false).to_string();
        let run = datafusion::physical_plan::collect(plan, context.task_ctx());
        let batches = run.await.map_err(|e| e.to_string())?;
        let mut rows = Vec::new();
        for batch in &batches {
            for row in 0..batch.num_rows() {
                let values = batch.columns().iter();
                let shown = values.map(|c| {
                    arrow_cast::display::array_value_to_string(c, row).unwrap_or_default()
                });
                rows.push(shown.collect::<Vec<_>>().join("|"));
            }
        }
        rows.sort();
        Ok((rows, shown))
    })
}

const CONDITIONS: [&str; 14] = [
    "PERIOD(a.lo, a.hi) OVERLAPS PERIOD(b.lo, b.hi)",
    "PERIOD(a.lo, a.hi) CONTAINS PERIOD(b.lo, b.hi)",
    "CASE WHEN a.n < 0 THEN NULL ELSE (a.lo IS NOT DISTINCT FROM b.lo) AND (a.hi IS NOT DISTINCT FROM b.hi) END",
    "PERIOD(a.lo, a.hi) CONTAINS b.lo",
    "CASE WHEN a.n IS NULL OR b.n IS NULL THEN NULL ELSE (a.lo < b.hi) IS NOT FALSE AND (b.lo < a.hi) IS NOT FALSE END",
    "a.lo < b.hi AND b.lo < a.hi",
    "a.lo <= b.hi AND a.hi >= b.lo",
    "b.lo >= a.lo AND b.lo < a.hi",
    "b.lo BETWEEN a.lo AND a.hi",
    "b.lo >= a.lo AND (a.hi IS NULL OR b.lo < a.hi)",
    "(b.hi IS NULL OR a.lo < b.hi) AND (b.lo < a.hi OR a.hi IS NULL)",
    "(b.hi IS NULL OR a.lo IS NULL OR a.lo <= b.hi) AND b.lo <= a.hi",
    "coalesce(a.lo, b.lo) <= b.hi AND a.lo <= b.hi AND b.lo <= coalesce(a.hi, a.lo)",
    "a.hi > b.hi AND a.lo < b.lo",
];

const ALSO: [&str; 5] = [
    "",
    "a.k = b.k AND ",
    "(a.n + b.n) % 3 <> 0 AND ",
    "a.k = b.k AND a.n <> b.n AND ",
    "a.k + 1 = b.k AND ",
];

const QUERIES: [&str; 9] = [
    "SELECT a.*, b.* FROM a JOIN b ON {}",
    "SELECT a.n, b.n FROM a LEFT JOIN b ON {}",
    "SELECT a.n, b.n, a.lo FROM a RIGHT JOIN b ON {}",
    "SELECT a.n, b.n, b.hi FROM a FULL JOIN b ON {}",
    "SELECT a.n FROM a WHERE EXISTS (SELECT 1 FROM b WHERE {})",
    "SELECT a.n FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE {})",
    "SELECT b.n FROM b WHERE EXISTS (SELECT 1 FROM a WHERE {})",
    "SELECT b.n FROM b WHERE NOT EXISTS (SELECT 1 FROM a WHERE {})",
    "SELECT count(*) FROM a JOIN b ON {}",
];

fn types() -> [DataType; 5] {
    [
        DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())),
        DataType::Int64,
        DataType::Date32,
        DataType::Float64,
        DataType::Utf8View,
    ]
}

fn row() -> impl Strategy<Value = Row> {
    let bound = || prop_oneof![6 => (0_i64..24).prop_map(Some), 1 => Just(None)];
    let key = prop_oneof![5 => (0_i64..3).prop_map(Some), 1 => Just(None)];
    (key, bound(), bound())
}

fn side() -> impl Strategy<Value = Vec<Row>> {
    prop::collection::vec(row(), 0..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn gives_what_the_engines_joins_give(
        left in side(),
        right in side(),
        data_type in 0_usize..5,
        condition in prop::sample::select(&CONDITIONS[..]),
        also in prop::sample::select(&ALSO[..]),
        query in prop::sample::select(&QUERIES[..]),
    ) {
        let sql = query.replace("{}", &format!("{also}{condition}"));
        let sql = crate::temporal::rewrite(&sql).unwrap().sql.into_owned();
        let bounds = types()[data_type].clone();
        // Numbers as texts are of one length, so that they sort alike.
        let shifted = |rows: &[Row]| -> Vec<Row> {
            rows.iter().map(|r| (r.0, r.1.map(|n| n + 10), r.2.map(|n| n + 10))).collect()
        };
        let (left, right) = (shifted(&left), shifted(&right));
        let (expected, _) = rows(&context([&left, &right], &bounds, false), &sql)
            .unwrap_or_else(|e| panic!("{sql}: {e}"));
        let (found, plan) = rows(&context([&left, &right], &bounds, true), &sql).unwrap();
        prop_assert_eq!(&found, &expected, "{}\n{}", sql, plan);
        if !left.is_empty() && !right.is_empty() {
            prop_assert!(plan.contains("IntervalJoinExec"), "{}\n{}", sql, plan);
        }
    }
}

fn many(count: i64) -> Vec<Row> {
    let row = |n: i64| (Some(n % 100), Some(n * 3), Some(n * 3 + 7));
    (0..count).map(row).collect()
}

#[test]
fn what_says_no_more_than_one_comparison_is_left_alone() {
    let (left, right) = (many(20), many(20));
    let context = context([&left, &right], &DataType::Int64, true);
    for condition in [
        "a.lo < b.hi",
        "a.lo < b.hi AND a.hi < b.hi",
        "a.lo < b.hi OR b.lo < a.hi",
        "a.lo < a.hi AND b.lo < b.hi AND a.lo + b.lo < 7",
        "CASE WHEN a.n = 0 THEN true ELSE a.lo < b.hi AND b.lo < a.hi END",
        "a.lo + random() < b.hi AND b.lo < a.hi + random()",
    ] {
        let sql = format!("SELECT a.n, b.n FROM a JOIN b ON {condition}");
        let (_, plan) = rows(&context, &sql).unwrap();
        assert!(!plan.contains("IntervalJoinExec"), "{condition}\n{plan}");
    }
}

#[test]
fn what_is_exactly_said_is_not_tested_again() {
    let (left, right) = (many(20), many(20));
    let bounds = DataType::Timestamp(TimeUnit::Microsecond, None);
    let context = context([&left, &right], &bounds, true);
    let sql = "SELECT a.n, b.n FROM a JOIN b ON a.lo < b.hi AND b.lo < a.hi";
    let (_, plan) = rows(&context, sql).unwrap();
    assert!(
        plan.contains("meets=") && !plan.contains("filter="),
        "{plan}"
    );
}

#[test]
fn a_left_side_that_does_not_fit_is_refused() {
    let (left, right) = (many(4000), many(4000));
    let bounds = DataType::Timestamp(TimeUnit::Microsecond, None);
    let context = context_with([&left, &right], &bounds, true, 64 << 10);
    let sql = "SELECT count(*) FROM a JOIN b ON a.lo < b.hi AND b.lo < a.hi";
    let error = rows(&context, sql).unwrap_err();
    assert!(error.contains("IntervalJoin"), "{error}");
}

#[test]
fn many_rows_are_joined_without_a_look_at_all_pairs() {
    // Of 10^10 pairs a nested loop would not see the end.
    let (left, right) = (many(100_000), many(100_000));
    let bounds = DataType::Timestamp(TimeUnit::Microsecond, None);
    let context = context([&left, &right], &bounds, true);
    let sql = "SELECT count(*) FROM a JOIN b ON a.lo < b.hi AND b.lo < a.hi";
    let (found, _) = rows(&context, sql).unwrap();
    // Each with itself and with two before and behind, but at the ends.
    assert_eq!(found, [(5 * 100_000 - 6).to_string()]);
}

#[test]
fn a_join_that_finds_nothing_gives_way() {
    use futures::StreamExt;
    // All stretches meet, and the filter refuses all pairs.
    let all: Vec<Row> = (0..3000).map(|n| (Some(n), Some(0), Some(10))).collect();
    let bounds = DataType::Timestamp(TimeUnit::Microsecond, None);
    let context = context([&all, &all], &bounds, true);
    let sql = "SELECT a.n FROM a JOIN b ON a.lo < b.hi AND b.lo < a.hi AND a.n + b.n < 0";
    block_on(async {
        let plan = context.sql(sql).await.unwrap();
        let mut stream = plan.execute_stream().await.unwrap();
        let mut polls = 0;
        loop {
            let next = std::pin::pin!(stream.next());
            match futures::poll!(next) {
                std::task::Poll::Pending => polls += 1,
                std::task::Poll::Ready(end) => break assert!(end.is_none()),
            }
            if polls > 100 {
                break;
            }
            tokio::task::yield_now().await;
        }
        assert!(polls > 100);
    });
}
