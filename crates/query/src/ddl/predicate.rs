//! The WHERE of a partial index as conditions that the store can decide: comparisons of
//! columns with constants and tests for NULL, joined by AND. Everything else is refused.

use chronos_model::{text, CompareWith, Condition, DataType, SqlState, TableSchema, Test, Value};
use datafusion::sql::sqlparser::ast::{self, BinaryOperator, Expr, UnaryOperator};

use crate::sql::fold;
use crate::QueryError;

/// The conditions of a predicate, all of which must hold.
pub(super) fn conditions(
    predicate: &Expr,
    table: &TableSchema,
) -> Result<Vec<Condition>, QueryError> {
    let mut conditions = Vec::new();
    add(predicate, table, &mut conditions)?;
    Ok(conditions)
}

fn unsupported(expr: &Expr) -> QueryError {
    QueryError::unsupported(format!("{expr} in the WHERE of an index")).with_hint(
        "Join comparisons of columns with constants, and IS NULL or IS NOT NULL, by AND.",
    )
}

fn add(expr: &Expr, table: &TableSchema, out: &mut Vec<Condition>) -> Result<(), QueryError> {
    match expr {
        Expr::Nested(inner) => return add(inner, table, out),
        Expr::BinaryOp {
            left,
            op: BinaryOperator::And,
            right,
        } => {
            add(left, table, out)?;
            return add(right, table, out);
        }
        Expr::BinaryOp { left, op, right } => {
            let how = compare_with(op).ok_or_else(|| unsupported(expr))?;
            let condition = match (column(left, table)?, column(right, table)?) {
                (Some(column), None) => compare(table, column, how, right),
                (None, Some(column)) => compare(table, column, swapped(how), left),
                _ => return Err(unsupported(expr)),
            };
            out.push(condition?.ok_or_else(|| unsupported(expr))?);
        }
        Expr::Between {
            expr: inner,
            negated: false,
            low,
            high,
        } => {
            let column = column(inner, table)?.ok_or_else(|| unsupported(expr))?;
            for (how, bound) in [(CompareWith::GtEq, low), (CompareWith::LtEq, high)] {
                let condition = compare(table, column, how, bound)?;
                out.push(condition.ok_or_else(|| unsupported(expr))?);
            }
        }
        Expr::IsNull(inner) => out.push(null_test(expr, inner, table, Test::IsNull)?),
        Expr::IsNotNull(inner) => out.push(null_test(expr, inner, table, Test::IsNotNull)?),
        Expr::UnaryOp {
            op: UnaryOperator::Not,
            expr: inner,
        } => out.push(flag(expr, inner, table, false)?),
        other => out.push(flag(expr, other, table, true)?),
    }
    Ok(())
}

fn null_test(
    whole: &Expr,
    inner: &Expr,
    table: &TableSchema,
    test: Test,
) -> Result<Condition, QueryError> {
    let column = column(inner, table)?.ok_or_else(|| unsupported(whole))?;
    Ok(Condition { column, test })
}

/// A column of type BOOL on its own, or behind NOT.
fn flag(
    whole: &Expr,
    inner: &Expr,
    table: &TableSchema,
    value: bool,
) -> Result<Condition, QueryError> {
    let column = column(inner, table)?.filter(|c| table.columns[*c].data_type == DataType::Bool);
    let column = column.ok_or_else(|| unsupported(whole))?;
    let value = Value::Bool(value);
    Ok(Condition::compare(table, column, CompareWith::Eq, &value)?)
}

fn compare_with(op: &BinaryOperator) -> Option<CompareWith> {
    Some(match op {
        BinaryOperator::Eq => CompareWith::Eq,
        BinaryOperator::NotEq => CompareWith::NotEq,
        BinaryOperator::Lt => CompareWith::Lt,
        BinaryOperator::LtEq => CompareWith::LtEq,
        BinaryOperator::Gt => CompareWith::Gt,
        BinaryOperator::GtEq => CompareWith::GtEq,
        _ => return None,
    })
}

/// The comparison with its sides exchanged.
fn swapped(how: CompareWith) -> CompareWith {
    match how {
        CompareWith::Lt => CompareWith::Gt,
        CompareWith::LtEq => CompareWith::GtEq,
        CompareWith::Gt => CompareWith::Lt,
        CompareWith::GtEq => CompareWith::LtEq,
        same => same,
    }
}

fn column(expr: &Expr, table: &TableSchema) -> Result<Option<usize>, QueryError> {
    let name = match expr {
        Expr::Nested(inner) => return column(inner, table),
        // As PostgreSQL, and `pg_get_expr`, write a VARCHAR beside a text.
        Expr::Cast {
            expr: inner,
            data_type,
            ..
        } => {
            let found = column(inner, table)?;
            let is_same = |c: &usize| {
                super::data_type(data_type)
                    .is_ok_and(|to| is_unlimited_text(&to) && table.columns[*c].data_type.is_text())
            };
            return Ok(found.filter(is_same));
        }
        Expr::Identifier(name) => fold(name),
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [of, name] if fold(of) == table.name => fold(name),
            _ => return Ok(None),
        },
        _ => return Ok(None),
    };
    match table.column_index(&name) {
        Some(column) => Ok(Some(column)),
        None => Err(QueryError::new(
            SqlState::UNDEFINED_COLUMN,
            format!("column \"{name}\" does not exist"),
        )),
    }
}

/// `None`: the other side is no constant of the column's type.
fn compare(
    table: &TableSchema,
    column: usize,
    how: CompareWith,
    constant: &Expr,
) -> Result<Option<Condition>, QueryError> {
    let data_type = &table.columns[column].data_type;
    // The engine tells -0 from 0 and NaNs apart, which keys do not.
    let is_float = matches!(data_type, DataType::Float4 | DataType::Float8);
    if is_float || !data_type.is_key_type() {
        return Ok(None);
    }
    let Some(value) = constant_of(constant, data_type)? else {
        return Ok(None);
    };
    Ok(Some(Condition::compare(table, column, how, &value)?))
}

fn constant_of(expr: &Expr, data_type: &DataType) -> Result<Option<Value>, QueryError> {
    Ok(match expr {
        Expr::Nested(inner) => constant_of(inner, data_type)?,
        Expr::Cast {
            expr: inner,
            data_type: written,
            ..
        } if is_alike(&super::data_type(written)?, data_type) => constant_of(inner, data_type)?,
        Expr::TypedString(typed) if super::data_type(&typed.data_type)? == *data_type => {
            literal(&typed.value.value, data_type)?
        }
        Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr: inner,
        } => match &**inner {
            Expr::Value(v) => match &v.value {
                ast::Value::Number(digits, _) => number(&format!("-{digits}"), data_type)?,
                _ => None,
            },
            _ => None,
        },
        Expr::Value(v) => literal(&v.value, data_type)?,
        _ => None,
    })
}

fn is_unlimited_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Text | DataType::Varchar(None))
}

/// Whether a constant of one type is the same one of the other: `5::numeric` of NUMERIC(6,2).
fn is_alike(of: &DataType, data_type: &DataType) -> bool {
    of == data_type
        || (is_unlimited_text(of) && data_type.is_text())
        || matches!(
            (of, data_type),
            (DataType::Numeric(None), DataType::Numeric(_))
        )
}

fn literal(value: &ast::Value, data_type: &DataType) -> Result<Option<Value>, QueryError> {
    Ok(match value {
        ast::Value::Number(digits, _) => number(digits, data_type)?,
        ast::Value::Boolean(b) if *data_type == DataType::Bool => Some(Value::Bool(*b)),
        ast::Value::SingleQuotedString(s) | ast::Value::EscapedStringLiteral(s) => {
            match data_type {
                // Its length would be cut or refused; comparing asks for neither.
                DataType::Text | DataType::Varchar(_) => Some(Value::Text(s.clone())),
                DataType::Numeric(_) => number(s, data_type)?,
                _ => Some(text::parse(data_type, s)?),
            }
        }
        _ => None,
    })
}

/// A number that the column's type holds exactly.
fn number(digits: &str, data_type: &DataType) -> Result<Option<Value>, QueryError> {
    match data_type {
        DataType::Int2 | DataType::Int4 | DataType::Int8 => Ok(text::parse(data_type, digits).ok()),
        DataType::Numeric(shape) => {
            let (_, scale) = DataType::numeric_shape(*shape);
            let fraction = digits.split_once('.').map_or("", |(_, f)| f);
            let is_plain = digits
                .bytes()
                .all(|b| b.is_ascii_digit() || b"+-.".contains(&b));
            if !is_plain || fraction.trim_end_matches('0').len() > scale.max(0) as usize {
                return Ok(None);
            }
            Ok(text::parse(data_type, digits).ok())
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ddl::table_schema;
    use crate::sql::{parse, Command};

    fn of(sql: &str) -> Result<Vec<Condition>, QueryError> {
        let table = "CREATE TABLE t (a int, b text, c bool, d numeric(9,2), e float8, f timestamptz, g json)";
        let (Command::CreateTable(create), Command::CreateIndex(index)) = (
            parse(table)?,
            parse(&format!("CREATE INDEX ON t (a) WHERE {sql}"))?,
        ) else {
            panic!("{sql}");
        };
        conditions(index.predicate.as_ref().unwrap(), &table_schema(&create)?)
    }

    #[test]
    fn comparisons_and_tests_for_null_are_taken() {
        let same = |a: &str, b: &str| assert_eq!(of(a).unwrap(), of(b).unwrap(), "{a}");
        same("a > 5", "5 < t.a");
        same("a BETWEEN -1 AND 2", "(a >= -1) AND ((a <= 2))");
        same("b = 'x'", "((b)::text = 'x'::text)");
        same("d = 5", "d = (5)::numeric");
        same("c", "c = true");
        same("NOT c", "c = 'f'");
        same("d <> 1.50", "d <> '1.5'");
        same(
            "f < '2024-01-01'",
            "f < timestamptz '2024-01-01 00:00:00+00'",
        );
        assert_eq!(
            of("b = 'x' AND e IS NOT NULL AND g IS NULL").unwrap().len(),
            3
        );
    }

    #[test]
    fn what_the_store_cannot_decide_is_refused() {
        for (sql, code) in [
            ("a > 5 OR a < 2", "0A000"),
            ("lower(b) = 'x'", "0A000"),
            ("a > d", "0A000"),
            ("a + 1 > 5", "0A000"),
            ("e > 1.5", "0A000"),
            ("a > 1.5", "0A000"),
            ("d > 1.005", "0A000"),
            ("a IN (1, 2)", "0A000"),
            ("g = '1'", "0A000"),
            ("b", "0A000"),
            ("nope = 1", "42703"),
            ("f > 'soon'", "22007"),
        ] {
            assert_eq!(of(sql).unwrap_err().code.0, code, "{sql}");
        }
    }
}
