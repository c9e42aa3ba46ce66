//! Which index serves a scan, and which of its entries: from what the filters say of columns.

use std::ops::Bound;
use std::sync::Arc;

use chronos_model::{
    CompareWith, Condition, DataType, IndexSchema, IndexState, TableSchema, Test, Value,
};
use chronos_store::{KeyRange, ReadView, StoreError};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

use crate::engine::filters::{self, column_of, constant, successor};

/// Stretches of entries that lists of values may make together.
const RANGES_MAX: usize = 256;
/// Few enough entries for an index in a table of any size.
const ENTRIES_FEW: u64 = 64;
/// An index is used for at most this part of a table's rows: a lookup costs as much as reading
/// a hundred rows in a row, or more (docs/decisions/0036).
const PART: u64 = 100;

/// What filters that must all hold say of columns, as far as indexes can use it.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct Facts {
    /// Column, lowest and highest value, both inclusive.
    bounds: Vec<(usize, Option<Value>, Option<Value>)>,
    /// Columns that have one of some values.
    lists: Vec<(usize, Vec<Value>)>,
    /// Columns that are NULL.
    nulls: Vec<usize>,
    conditions: Vec<Condition>,
}

/// The indexes that a scan may use, and what its filters say.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct Usable {
    pub(super) indexes: Vec<Arc<IndexSchema>>,
    pub(super) facts: Facts,
}

/// Some of an index's entries.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Stretch {
    /// Sorted; they do not meet.
    pub(super) ranges: Vec<KeyRange>,
    /// Leading columns that have one value in all of them.
    pub(super) equal: usize,
    /// Leading columns that the filters bound.
    pub(super) bound: usize,
}

/// An index, and which of its entries.
#[derive(Debug)]
pub(in crate::engine) struct Choice {
    pub(in crate::engine) index: Arc<IndexSchema>,
    pub(in crate::engine) ranges: Vec<KeyRange>,
    /// How many these are.
    pub(in crate::engine) entries: u64,
}

/// Whether a filter can help to choose entries.
pub(in crate::engine) fn is_usable(filter: &Expr, table: &TableSchema) -> bool {
    let facts = Facts::of(std::slice::from_ref(filter), table);
    !(facts.bounds.is_empty()
        && facts.lists.is_empty()
        && facts.nulls.is_empty()
        && facts.conditions.is_empty())
}

impl Usable {
    /// The indexes that are complete in a view, and of which the filters imply the conditions.
    pub(in crate::engine) fn of(
        view: &ReadView,
        table: &TableSchema,
        filters: &[Expr],
    ) -> Option<Usable> {
        view.check_shape(table).ok()?;
        let mut indexes = view.catalog().indexes_of(table.id).peekable();
        indexes.peek()?;
        let facts = Facts::of(filters, table);
        let valid = indexes.filter(|i| i.state == IndexState::Valid);
        Some(Usable {
            indexes: valid
                .filter(|i| facts.imply(&i.conditions, table))
                .cloned()
                .collect(),
            facts,
        })
    }
}

/// The index of which the filters leave the fewest entries, if they are few of the table's
/// rows and the primary key does not narrow the scan.
pub(in crate::engine) fn choose(
    usable: &Usable,
    view: &ReadView,
    table: &TableSchema,
) -> Result<Option<Choice>, StoreError> {
    let facts = &usable.facts;
    let by_key = table.primary_key.first();
    if by_key.is_some_and(|column| facts.equal_to(*column).is_some()) {
        return Ok(None);
    }
    let mut candidates: Vec<(Arc<IndexSchema>, Stretch)> = Vec::new();
    for index in &usable.indexes {
        let stretch = stretch(index, table, facts);
        candidates.extend(stretch.map(|stretch| (index.clone(), stretch)));
    }
    if candidates.is_empty() {
        return Ok(None);
    }
    let mut most = few(view, table);
    let mut best = None;
    for (index, stretch) in candidates {
        let entries = view.count_entries(&index, &stretch.ranges, most + 1)?;
        if entries <= most {
            most = entries.saturating_sub(1);
            best = Some(Choice {
                index,
                ranges: stretch.ranges,
                entries,
            });
            if entries == 0 {
                break;
            }
        }
    }
    Ok(best)
}

/// So many rows are few for a table.
pub(super) fn few(view: &ReadView, table: &TableSchema) -> u64 {
    view.table_versions(table) / PART + ENTRIES_FEW
}

/// The entries of an index that the filters leave; `None`: they say nothing of its first
/// column.
pub(super) fn stretch(index: &IndexSchema, table: &TableSchema, facts: &Facts) -> Option<Stretch> {
    let mut prefixes: Vec<Vec<u8>> = vec![Vec::new()];
    let (mut equal, mut bound) = (0, 0);
    let mut ranges = None;
    for (i, column) in index.columns.iter().enumerate() {
        let put = |prefix: &[u8], value: &Value| {
            let mut bytes = prefix.to_vec();
            index.put_column(table, i, value, &mut bytes).ok()?;
            Some(bytes)
        };
        if let Some(values) = facts.values_of(column.column) {
            if prefixes.len().saturating_mul(values.len()) > RANGES_MAX {
                break;
            }
            prefixes = prefixes
                .iter()
                .flat_map(|prefix| values.iter().map(move |value| put(prefix, value)))
                .collect::<Option<_>>()?;
            bound += 1;
            // Constant until a list comes.
            if equal + 1 == bound && prefixes.len() == 1 {
                equal += 1;
            }
            continue;
        }
        let Some((low, high)) = facts.range_of(column.column, table) else {
            break;
        };
        let (first, last) = match column.descending {
            false => (low, high),
            true => (high, low),
        };
        let of_prefix = |prefix: &Vec<u8>| {
            let mut any = prefix.clone();
            index.put_any_value(&mut any);
            let lower = match first {
                Some(value) => put(prefix, value)?,
                None => any.clone(),
            };
            let upper = match last {
                Some(value) => put(prefix, value)?,
                None => any,
            };
            Some(from_to(lower, upper))
        };
        ranges = Some(prefixes.iter().map(of_prefix).collect::<Option<Vec<_>>>()?);
        bound += 1;
        break;
    }
    if bound == 0 {
        return None;
    }
    let mut ranges = ranges.unwrap_or_else(|| {
        let all = |prefix: &Vec<u8>| from_to(prefix.clone(), prefix.clone());
        prefixes.iter().map(all).collect()
    });
    ranges.sort_by(|a, b| lower(a).cmp(lower(b)));
    ranges.dedup();
    Some(Stretch {
        ranges,
        equal,
        bound,
    })
}

/// Everything from `lower` up to what begins with `last`.
fn from_to(lower: Vec<u8>, last: Vec<u8>) -> KeyRange {
    KeyRange {
        lower: Bound::Included(lower),
        upper: successor(last).map_or(Bound::Unbounded, Bound::Excluded),
    }
}

fn lower(range: &KeyRange) -> &[u8] {
    match &range.lower {
        Bound::Included(bytes) | Bound::Excluded(bytes) => bytes,
        Bound::Unbounded => &[],
    }
}

impl Facts {
    fn of(filters: &[Expr], table: &TableSchema) -> Facts {
        let mut facts = Facts {
            bounds: filters::bounds(filters, table).columns,
            ..Facts::default()
        };
        filters.iter().for_each(|f| facts.add(f, table));
        facts
    }

    fn add(&mut self, filter: &Expr, table: &TableSchema) {
        let nulls = |expr: &Expr, test: Test| {
            let column = column_of(expr, table)?;
            Some(Condition { column, test })
        };
        match filter {
            Expr::BinaryExpr(BinaryExpr {
                left,
                op: Operator::And,
                right,
            }) => {
                self.add(left, table);
                self.add(right, table);
            }
            Expr::BinaryExpr(BinaryExpr {
                op: Operator::Or, ..
            }) => self.lists.extend(alternatives(filter, table)),
            Expr::InList(list) if !list.negated => {
                let Some(column) = column_of(&list.expr, table) else {
                    return;
                };
                let data_type = &table.columns[column].data_type;
                let values: Option<Vec<Value>> =
                    list.list.iter().map(|e| constant(e, data_type)).collect();
                self.lists.extend(values.map(|values| (column, values)));
            }
            Expr::IsNull(inner) => {
                let condition = nulls(inner, Test::IsNull);
                self.nulls.extend(condition.as_ref().map(|c| c.column));
                self.conditions.extend(condition);
            }
            Expr::IsNotNull(inner) => self.conditions.extend(nulls(inner, Test::IsNotNull)),
            Expr::Not(inner) => self.conditions.extend(flag(inner, table, false)),
            Expr::Column(_) => self.conditions.extend(flag(filter, table, true)),
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                self.conditions.extend(comparison(left, *op, right, table));
            }
            Expr::Between(between) if !between.negated => {
                let (column, low, high) = (&between.expr, &between.low, &between.high);
                let bounds = [(Operator::GtEq, low), (Operator::LtEq, high)];
                let conditions = bounds.map(|(op, bound)| comparison(column, op, bound, table));
                self.conditions.extend(conditions.into_iter().flatten());
            }
            _ => {}
        }
    }

    /// The only value that a column may have.
    fn equal_to(&self, column: usize) -> Option<&Value> {
        let (_, low, high) = self.bounds.iter().find(|(c, ..)| *c == column)?;
        low.as_ref().filter(|low| high.as_ref() == Some(*low))
    }

    /// The few values that a column may have.
    fn values_of(&self, column: usize) -> Option<Vec<Value>> {
        if let Some(value) = self.equal_to(column) {
            return Some(vec![value.clone()]);
        }
        if self.nulls.contains(&column) {
            return Some(vec![Value::Null]);
        }
        let lists = self.lists.iter().filter(|(c, _)| *c == column);
        lists
            .min_by_key(|(_, values)| values.len())
            .map(|(_, values)| values.clone())
    }

    /// The bounds of a column, if it has any.
    fn range_of(
        &self,
        column: usize,
        table: &TableSchema,
    ) -> Option<(Option<&Value>, Option<&Value>)> {
        let (_, low, high) = self.bounds.iter().find(|(c, ..)| *c == column)?;
        let high = high.as_ref().filter(|_| !is_float(table, column));
        (low.is_some() || high.is_some()).then_some((low.as_ref(), high))
    }

    /// Whether rows for which the filters hold are in an index with these conditions.
    fn imply(&self, conditions: &[Condition], table: &TableSchema) -> bool {
        conditions.iter().all(|wanted| {
            self.conditions
                .iter()
                .any(|given| implies(given, wanted, table))
        })
    }
}

fn implies(given: &Condition, wanted: &Condition, table: &TableSchema) -> bool {
    if given == wanted {
        return true;
    }
    if given.column != wanted.column {
        return false;
    }
    match (&given.test, &wanted.test) {
        (Test::Compare(..), Test::IsNotNull) => true,
        (Test::Compare(CompareWith::Eq, value), Test::Compare(..)) => {
            !is_float(table, given.column) && wanted.holds(Some(value))
        }
        _ => false,
    }
}

/// The engine sorts and compares negative NaNs and -0 apart from the positive ones, which
/// entries do not: an upper bound would leave the former out, and their order differs.
pub(super) fn is_float(table: &TableSchema, column: usize) -> bool {
    let data_type = &table.columns[column].data_type;
    matches!(data_type, DataType::Float4 | DataType::Float8)
}

fn flag(expr: &Expr, table: &TableSchema, value: bool) -> Option<Condition> {
    let column = column_of(expr, table)?;
    if table.columns[column].data_type != DataType::Bool {
        return None;
    }
    Condition::compare(table, column, CompareWith::Eq, &Value::Bool(value)).ok()
}

fn comparison(left: &Expr, op: Operator, right: &Expr, table: &TableSchema) -> Option<Condition> {
    let (column, op, other) = match (column_of(left, table), column_of(right, table)) {
        (Some(column), None) => (column, op, right),
        (None, Some(column)) => (column, op.swap()?, left),
        _ => return None,
    };
    let how = match op {
        Operator::Eq => CompareWith::Eq,
        Operator::NotEq => CompareWith::NotEq,
        Operator::Lt => CompareWith::Lt,
        Operator::LtEq => CompareWith::LtEq,
        Operator::Gt => CompareWith::Gt,
        Operator::GtEq => CompareWith::GtEq,
        _ => return None,
    };
    let value = constant(other, &table.columns[column].data_type)?;
    Condition::compare(table, column, how, &value).ok()
}

/// `a = 1 OR a = 2 OR ..` as a list.
fn alternatives(filter: &Expr, table: &TableSchema) -> Option<(usize, Vec<Value>)> {
    match filter {
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::Or,
            right,
        }) => {
            let (column, mut values) = alternatives(left, table)?;
            let (other, more) = alternatives(right, table)?;
            values.extend(more);
            (column == other).then_some((column, values))
        }
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::Eq,
            right,
        }) => {
            let (column, other) = match (column_of(left, table), column_of(right, table)) {
                (Some(column), None) => (column, right),
                (None, Some(column)) => (column, left),
                _ => return None,
            };
            let value = constant(other, &table.columns[column].data_type)?;
            Some((column, vec![value]))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use chronos_model::{ColumnSchema, IndexColumn, TableId, TableOptions, Uniqueness};
    use datafusion::logical_expr::{col, lit};

    use super::*;

    fn table() -> TableSchema {
        let column = |name: &str, data_type| ColumnSchema {
            name: name.into(),
            data_type,
            nullable: true,
            default: None,
            attributes: Default::default(),
        };
        TableSchema {
            id: TableId(1),
            name: "t".into(),
            columns: vec![
                column("a", DataType::Int4),
                column("b", DataType::Int4),
                column("c", DataType::Bool),
                column("d", DataType::Float8),
            ],
            shape: Default::default(),
            rules: Default::default(),
            primary_key: vec![],
            options: TableOptions::default(),
        }
    }

    fn index(columns: &[(usize, bool)], conditions: Vec<Condition>) -> IndexSchema {
        let column = |(column, descending): &(usize, bool)| IndexColumn {
            column: *column,
            descending: *descending,
            nulls_first: *descending,
        };
        IndexSchema {
            id: TableId(2),
            name: "i".into(),
            table: TableId(1),
            columns: columns.iter().map(column).collect(),
            included: vec![],
            unique: Uniqueness::No,
            conditions,
            state: IndexState::Valid,
            created: 0,
            for_foreign_key: false,
        }
    }

    /// Which of the values from -1 to 3 (NULL as 3) of columns a and b are in the ranges.
    fn chosen(index: &IndexSchema, filters: &[Expr]) -> Option<Vec<(i32, i32)>> {
        use std::ops::RangeBounds;
        let table = table();
        let facts = Facts::of(filters, &table);
        let stretch = stretch(index, &table, &facts)?;
        let value = |v: i32| match v {
            3 => Value::Null,
            v => Value::Int4(v),
        };
        let mut found = Vec::new();
        for (a, b) in (-1..=3).flat_map(|a| (-1..=3).map(move |b| (a, b))) {
            let row = [value(a), value(b), Value::Null, Value::Null];
            let mut entry = index.prefix_of_row(&table, &row).unwrap().unwrap().bytes;
            entry.extend_from_slice(b"\xff key");
            let within = |r: &KeyRange| (r.lower.clone(), r.upper.clone()).contains(&entry);
            if stretch.ranges.iter().any(within) {
                found.push((a, b));
            }
        }
        Some(found)
    }

    #[test]
    fn filters_become_stretches_of_entries() {
        for descending in [false, true] {
            let index = index(&[(0, descending), (1, descending)], vec![]);
            let chosen = |filters: &[Expr]| chosen(&index, filters);
            let (a, b) = (|| col("a"), || col("b"));
            assert_eq!(chosen(&[b().eq(lit(1i32))]), None);
            let all_of = |a: i32| (-1..=3).map(|b| (a, b)).collect::<Vec<_>>();
            assert_eq!(chosen(&[a().eq(lit(1i32))]), Some(all_of(1)));
            assert_eq!(chosen(&[a().is_null()]), Some(all_of(3)));
            let both = a().eq(lit(1i32)).and(b().gt_eq(lit(1i32)));
            assert_eq!(chosen(&[both]), Some(vec![(1, 1), (1, 2)]));
            let below = [a().lt_eq(lit(-1i32))];
            assert_eq!(chosen(&below), Some(all_of(-1)));
            let between = [a().between(lit(1i32), lit(2i32)), b().eq(lit(0i32))];
            assert_eq!(chosen(&between), Some([all_of(1), all_of(2)].concat()));
            let list = a().in_list(vec![lit(2i32), lit(0i32), lit(2i32)], false);
            let listed = [list, b().eq(lit(1i32))];
            assert_eq!(chosen(&listed), Some(vec![(0, 1), (2, 1)]));
            let either = a().eq(lit(2i32)).or(a().eq(lit(0i32)));
            assert_eq!(chosen(&[either]), Some([all_of(0), all_of(2)].concat()));
            let unlike = a().eq(lit(2i32)).or(b().eq(lit(0i32)));
            assert_eq!(chosen(&[unlike]), None);
        }
    }

    #[test]
    fn an_upper_bound_of_a_float_is_no_bound() {
        let index = index(&[(3, false)], vec![]);
        let table = table();
        let of = |filter: Expr| stretch(&index, &table, &Facts::of(&[filter], &table));
        assert_eq!(of(col("d").lt(lit(1.0))), None);
        assert!(of(col("d").gt(lit(1.0))).is_some());
    }

    #[test]
    fn conditions_are_implied_by_the_same_or_by_equality() {
        let table = table();
        let above = Condition::compare(&table, 0, CompareWith::Gt, &Value::Int4(5)).unwrap();
        let imply = |filter: Expr, wanted: &Condition| {
            Facts::of(&[filter], &table).imply(std::slice::from_ref(wanted), &table)
        };
        assert!(imply(col("a").gt(lit(5i32)), &above));
        assert!(imply(lit(5i32).lt(col("a")), &above));
        assert!(imply(col("a").eq(lit(6i32)), &above));
        assert!(!imply(col("a").eq(lit(5i32)), &above));
        assert!(!imply(col("a").gt(lit(6i32)), &above));
        assert!(!imply(col("b").gt(lit(5i32)), &above));
        let filled = Condition {
            column: 0,
            test: Test::IsNotNull,
        };
        assert!(imply(col("a").lt(lit(1i32)), &filled));
        assert!(imply(col("a").is_not_null(), &filled));
        assert!(!imply(col("a").is_null(), &filled));
        let flagged = flag(&col("c"), &table, true).unwrap();
        assert!(imply(col("c"), &flagged));
        assert!(!imply(Expr::Not(Box::new(col("c"))), &flagged));
    }
}
