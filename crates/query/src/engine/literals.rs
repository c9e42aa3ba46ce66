//! Constant texts that are cast to a type are read by our own readers, before
//! planning: PostgreSQL's spellings, PostgreSQL's errors.
//!
//! `'..'::t`, `CAST('..' AS t)` and `t '..'` become a literal that the engine reads
//! without doubt; arrays and vectors become ARRAY constructors.

use std::ops::ControlFlow;

use chronos_model::{text, DataType, Value};
use datafusion::sql::sqlparser::ast::{self, VisitMut, VisitorMut};

use crate::QueryError;

/// Rewrites every constant cast of a text; errors with what PostgreSQL would say.
pub(super) fn rewrite(statement: &mut ast::Statement) -> Result<(), QueryError> {
    struct Reader;
    impl VisitorMut for Reader {
        type Break = QueryError;
        fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<QueryError> {
            match read(expr) {
                Ok(Some(literal)) => *expr = literal,
                Ok(None) => {}
                Err(e) => return ControlFlow::Break(e),
            }
            ControlFlow::Continue(())
        }
    }
    match statement.visit(&mut Reader) {
        ControlFlow::Break(e) => Err(e),
        ControlFlow::Continue(()) => Ok(()),
    }
}

fn read(expr: &ast::Expr) -> Result<Option<ast::Expr>, QueryError> {
    if let ast::Expr::Value(value) = expr {
        return Ok(bare(&value.value));
    }
    if let ast::Expr::Interval(interval) = expr {
        return self::interval(interval);
    }
    let (written, sql_type) = match expr {
        ast::Expr::Cast {
            expr,
            data_type,
            kind: ast::CastKind::Cast | ast::CastKind::DoubleColon,
            ..
        } => match expr.as_ref() {
            ast::Expr::Value(value) => (&value.value, data_type),
            _ => return Ok(None),
        },
        ast::Expr::TypedString(typed) => (&typed.value.value, &typed.data_type),
        _ => return Ok(None),
    };
    let text = match written {
        ast::Value::SingleQuotedString(s) | ast::Value::EscapedStringLiteral(s) => s,
        ast::Value::DollarQuotedString(s) => &s.value,
        _ => return Ok(None),
    };
    let Ok(data_type) = crate::ddl::data_type(sql_type) else {
        return Ok(None);
    };
    if data_type.is_text() {
        return Ok(None);
    }
    if let Some(word) = word(&data_type, text) {
        return word.map(|call| Some(cast_as(call, sql_type.clone())));
    }
    let (data_type, shaped) = with_written_digits(data_type, text);
    let sql_type = shaped.as_ref().unwrap_or(sql_type);
    let data_type = unsized_vector(data_type, text);
    let value = text::parse(&data_type, text)?;
    Ok(literal(&value, &data_type, sql_type))
}

/// Constants without a cast that the engine does not read.
fn bare(value: &ast::Value) -> Option<ast::Expr> {
    match value {
        ast::Value::UnicodeStringLiteral(s) | ast::Value::NationalStringLiteral(s) => {
            Some(string(s))
        }
        // Beyond 64 bits an integer is a decimal. (2^63 itself may have a sign before it.)
        ast::Value::Number(number, _)
            if number.len() <= 38
                && number.bytes().all(|b| b.is_ascii_digit())
                && number.parse::<i64>().is_err()
                && number != "9223372036854775808" =>
        {
            Some(cast_as(
                string(number),
                parse_type(&DataType::Numeric(Some((38, 0))))?,
            ))
        }
        // Beyond a decimal's digits a number is a double, as far as that goes.
        ast::Value::Number(number, _) if is_beyond_decimal(number) => {
            Some(cast_as(string(number), parse_type(&DataType::Float8)?))
        }
        _ => None,
    }
}

fn is_beyond_decimal(number: &str) -> bool {
    let (digits, exponent) = match number.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().unwrap_or(i32::MAX)),
        None => return number.chars().filter(char::is_ascii_digit).count() > 38,
    };
    digits.len() as i32 + exponent.saturating_abs() > 37
}

/// Words that mean a time, which only the statement's clock knows.
fn word(data_type: &DataType, text: &str) -> Option<Result<ast::Expr, QueryError>> {
    if !matches!(
        data_type,
        DataType::Date | DataType::Timestamp | DataType::TimestampTz
    ) {
        return None;
    }
    let today = |days: i64| {
        let today = call("current_date");
        if days == 0 {
            return today;
        }
        ast::Expr::Nested(Box::new(ast::Expr::BinaryOp {
            left: Box::new(today),
            op: ast::BinaryOperator::Plus,
            right: Box::new(cast_as(
                string(&days.to_string()),
                ast::DataType::Int8(None),
            )),
        }))
    };
    let word = text.trim().to_ascii_lowercase();
    Some(Ok(match word.as_str() {
        "now" => call("now"),
        "today" => today(0),
        "tomorrow" => today(1),
        "yesterday" => today(-1),
        "epoch" => string("1970-01-01 00:00:00"),
        "infinity" | "-infinity" => {
            return Some(Err(QueryError::unsupported(format!(
                "{word} as a date or time"
            ))))
        }
        _ => return None,
    }))
}

/// A bare NUMERIC keeps the digits that are written, as far as 38 reach.
fn with_written_digits(data_type: DataType, text: &str) -> (DataType, Option<ast::DataType>) {
    let digits = text.trim().trim_start_matches(['-', '+']);
    let is_plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if data_type != DataType::Numeric(None) || !is_plain || digits.len() > 38 {
        return (data_type, None);
    }
    let scale = digits.split_once('.').map_or(0, |(_, behind)| behind.len());
    let shaped = DataType::Numeric(Some((38, scale as i8)));
    let sql_type = parse_type(&shaped);
    (shaped, sql_type)
}

/// `INTERVAL '..'`, read by our reader and written in units that the engine reads.
fn interval(interval: &ast::Interval) -> Result<Option<ast::Expr>, QueryError> {
    let ast::Expr::Value(value) = interval.value.as_ref() else {
        return Ok(None);
    };
    let ast::Value::SingleQuotedString(written) = &value.value else {
        return Ok(None);
    };
    let is_number = written.trim().parse::<f64>().is_ok();
    let text = match (&interval.leading_field, &interval.last_field) {
        (None, _) => written.clone(),
        (Some(unit), None) if is_number => format!("{written} {unit}"),
        (Some(ast::DateTimeField::Year), Some(ast::DateTimeField::Month)) => written.clone(),
        (Some(ast::DateTimeField::Day), Some(ast::DateTimeField::Second)) => written.clone(),
        _ => return Err(QueryError::unsupported(format!("the interval {interval}"))),
    };
    let Value::Interval(v) = text::parse(&DataType::Interval, &text)? else {
        return Ok(None);
    };
    let seconds = v.nanos / 1_000_000_000;
    let nanos = v.nanos % 1_000_000_000;
    let units = format!(
        "{} months {} days {seconds} seconds {nanos} nanoseconds",
        v.months, v.days
    );
    Ok(Some(ast::Expr::Interval(ast::Interval {
        value: Box::new(string(&units)),
        leading_field: None,
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    })))
}

fn call(name: &str) -> ast::Expr {
    ast::Expr::Function(ast::Function {
        name: ast::ObjectName::from(vec![ast::Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: ast::FunctionArguments::None,
        args: ast::FunctionArguments::List(ast::FunctionArgumentList {
            duplicate_treatment: None,
            args: vec![],
            clauses: vec![],
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

/// `'[1,2]'::vector` has as many dimensions as it has numbers.
fn unsized_vector(data_type: DataType, text: &str) -> DataType {
    match data_type {
        DataType::Vector(0) => DataType::Vector(text.matches(',').count() as u32 + 1),
        other => other,
    }
}

fn literal(value: &Value, data_type: &DataType, sql_type: &ast::DataType) -> Option<ast::Expr> {
    let items = match (value, data_type) {
        (Value::Interval(_), _) => {
            let written = ast::Interval {
                value: Box::new(string(&text::format(value))),
                leading_field: None,
                leading_precision: None,
                last_field: None,
                fractional_seconds_precision: None,
            };
            return interval(&written).ok().flatten();
        }
        (Value::Array(items), DataType::Array(item)) => items
            .iter()
            .map(|v| cast(v, item))
            .collect::<Option<Vec<_>>>()?,
        (Value::Vector(floats), _) => floats
            .iter()
            .map(|f| cast(&Value::Float4(*f), &DataType::Float4))
            .collect::<Option<Vec<_>>>()?,
        (Value::Bytea(bytes), _) => {
            let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            return Some(ast::Expr::Value(ast::Value::HexStringLiteral(hex).into()));
        }
        _ => return cast_as(string(&text::format(value)), sql_type.clone()).into(),
    };
    let array = ast::Expr::Array(ast::Array {
        elem: items,
        named: true,
    });
    Some(cast_as(array, sql_type.clone()))
}

fn cast(value: &Value, data_type: &DataType) -> Option<ast::Expr> {
    let sql_type = parse_type(data_type)?;
    Some(match value {
        Value::Null => cast_as(ast::Expr::Value(ast::Value::Null.into()), sql_type),
        other => cast_as(string(&text::format(other)), sql_type),
    })
}

fn parse_type(data_type: &DataType) -> Option<ast::DataType> {
    use datafusion::sql::sqlparser::{dialect::PostgreSqlDialect, parser::Parser};
    let dialect = PostgreSqlDialect {};
    Parser::new(&dialect)
        .try_with_sql(&data_type.to_string())
        .and_then(|mut p| p.parse_data_type())
        .ok()
}

fn string(text: &str) -> ast::Expr {
    ast::Expr::Value(ast::Value::SingleQuotedString(text.to_owned()).into())
}

fn cast_as(expr: ast::Expr, data_type: ast::DataType) -> ast::Expr {
    ast::Expr::Cast {
        kind: ast::CastKind::Cast,
        expr: Box::new(expr),
        data_type,
        array: false,
        format: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(sql: &str) -> Result<String, QueryError> {
        let mut statement = crate::sql::parse_query(sql)?;
        rewrite(&mut statement)?;
        Ok(statement.to_string())
    }

    #[test]
    fn constants_are_read_as_postgresql_reads_them() {
        assert_eq!(
            rewritten("SELECT TIMESTAMP '2024-01-01 00:00'").unwrap(),
            "SELECT CAST('2024-01-01 00:00:00' AS TIMESTAMP)"
        );
        assert_eq!(
            rewritten("SELECT ' 12 '::int").unwrap(),
            "SELECT CAST('12' AS INT)"
        );
        assert_eq!(
            rewritten("SELECT x::int, 'a b'::text").unwrap(),
            "SELECT x::INT, 'a b'::TEXT"
        );
        let error = rewritten("SELECT 'abc'::int").unwrap_err();
        assert_eq!(
            (error.code.0, error.message.as_str()),
            ("22P02", "invalid input syntax for type bigint: \"abc\"")
        );
        assert_eq!(
            rewritten("SELECT '2024-13-01'::date").unwrap_err().code.0,
            "22008"
        );
    }
}
