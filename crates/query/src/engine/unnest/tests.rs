//! Unnested queries against a model that evaluates the subquery for each row.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, BooleanArray, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use datafusion::catalog::MemTable;
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::SessionContext;
use proptest::prelude::*;

use super::Unnest;

type Column = Vec<Option<i64>>;

fn context(outer: &Column, inner: &Column) -> SessionContext {
    let state = SessionStateBuilder::new()
        .with_default_features()
        .with_analyzer_rule(Arc::new(Unnest))
        .build();
    let context = SessionContext::new_with_state(state);
    for (name, values) in [("o", outer), ("i", inner)] {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..values.len() as i64));
        let values: ArrayRef = Arc::new(Int64Array::from(values.clone()));
        let schema = Arc::new(Schema::new(vec![
            Field::new("n", DataType::Int64, false),
            Field::new("v", DataType::Int64, true),
        ]));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![numbers, values]).unwrap();
        let table = MemTable::try_new(schema, vec![vec![batch]]).unwrap();
        context.register_table(name, Arc::new(table)).unwrap();
    }
    context
}

/// The expression's values for the rows of `o`, in their order.
fn values(context: &SessionContext, expression: &str) -> Result<Vec<ArrayRef>, String> {
    let sql = format!("SELECT n, {expression} AS x FROM o ORDER BY n");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let frame = context.sql(&sql).await.map_err(|e| e.to_string())?;
        let batches = frame.collect().await.map_err(|e| e.to_string())?;
        Ok(batches.iter().map(|b| Arc::clone(b.column(1))).collect())
    })
}

fn numbers(context: &SessionContext, expression: &str) -> Column {
    let arrays = values(context, expression).unwrap();
    let of = |a: &ArrayRef| -> Column {
        a.as_primitive::<arrow_array::types::Int64Type>()
            .iter()
            .collect()
    };
    arrays.iter().flat_map(of).collect()
}

fn truths(context: &SessionContext, expression: &str) -> Vec<Option<bool>> {
    let arrays = values(context, expression).unwrap();
    let of = |a: &ArrayRef| a.as_boolean().iter().collect::<Vec<_>>();
    arrays.iter().flat_map(of).collect()
}

/// SQL's IN.
fn is_in(x: Option<i64>, set: &[Option<i64>]) -> Option<bool> {
    match x {
        _ if set.is_empty() => Some(false),
        None => None,
        Some(_) if set.contains(&x) => Some(true),
        Some(_) if set.contains(&None) => None,
        Some(_) => Some(false),
    }
}

fn column() -> impl Strategy<Value = Column> {
    prop::collection::vec(prop::option::of(0_i64..5), 0..7)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn as_if_evaluated_for_each_row(outer in column(), inner in column()) {
        let context = context(&outer, &inner);
        // Of an outer value, the inner ones that a condition lets through.
        let below = |o: Option<i64>| -> Column {
            inner.iter().copied().filter(|i| matches!((i, o), (Some(i), Some(o)) if *i < o)).collect()
        };
        let same = |o: Option<i64>| -> Column {
            inner.iter().copied().filter(|i| i.is_some() && *i == o).collect()
        };
        let count: Column = outer.iter().map(|o| Some(below(*o).len() as i64)).collect();
        prop_assert_eq!(numbers(&context, "(SELECT count(*) FROM i WHERE i.v < o.v)"), count);
        let highest: Column = outer.iter().map(|o| below(*o).into_iter().flatten().max()).collect();
        prop_assert_eq!(
            numbers(&context, "(SELECT i.v FROM i WHERE i.v < o.v ORDER BY i.v DESC LIMIT 1)"),
            highest
        );
        let exists: Vec<_> = outer.iter().map(|o| Some(!same(*o).is_empty())).collect();
        prop_assert_eq!(truths(&context, "EXISTS (SELECT 1 FROM i WHERE i.v = o.v)"), exists);
        let member: Vec<_> = outer.iter().map(|o| is_in(*o, &inner)).collect();
        prop_assert_eq!(truths(&context, "o.v IN (SELECT v FROM i)"), member);
        let absent: Vec<_> = outer
            .iter()
            .map(|o| is_in(Some(3), &below(*o)).map(|is| !is))
            .collect();
        prop_assert_eq!(truths(&context, "3 NOT IN (SELECT i.v FROM i WHERE i.v < o.v)"), absent);
    }

    #[test]
    fn a_second_row_is_an_error(outer in column(), inner in column()) {
        let context = context(&outer, &inner);
        let matches = |o: &Option<i64>| inner.iter().filter(|i| i.is_some() && *i == o).count();
        let outcome = values(&context, "(SELECT i.n FROM i WHERE i.v = o.v)");
        match outcome {
            Ok(_) => prop_assert!(outer.iter().all(|o| matches(o) <= 1)),
            Err(e) => {
                prop_assert!(outer.iter().any(|o| matches(o) > 1), "{}", e);
                prop_assert!(e.contains("more than one row"), "{}", e);
            }
        }
    }
}

/// A row that is read twice is the same twice.
#[test]
fn random_rows_are_read_once() {
    let context = context(&vec![Some(1); 50], &vec![]);
    let sql = "SELECT x.r = (SELECT x.r) AS same FROM (SELECT random() AS r FROM o) x";
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let batches = runtime
        .block_on(async { context.sql(sql).await.unwrap().collect().await })
        .unwrap();
    let all = |b: &RecordBatch| b.column(0).as_boolean().clone();
    let same: Vec<BooleanArray> = batches.iter().map(all).collect();
    assert_eq!(same.iter().map(BooleanArray::true_count).sum::<usize>(), 50);
    assert_eq!(same.iter().map(|a| a.len()).sum::<usize>(), 50);
}
