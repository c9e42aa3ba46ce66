//! `generate_series` in FROM: what the engine's takes, and the column that PostgreSQL gives.

use chronos_model::text::DAY_MICROS;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;
use datafusion::sql::sqlparser::ast;

/// A bound as the engine's table function takes it: without its type's name, a timestamp
/// in nanoseconds where they reach, a date as the instant at which it begins.
pub(super) fn bound(expr: Expr) -> Expr {
    let Expr::Literal(value, _) = expr else {
        return expr;
    };
    let nanos = |micros: i64| micros.checked_mul(1000);
    let value = match value {
        ScalarValue::TimestampMicrosecond(Some(micros), zone) => match nanos(micros) {
            Some(nanos) => ScalarValue::TimestampNanosecond(Some(nanos), zone),
            None => ScalarValue::TimestampMicrosecond(Some(micros), zone),
        },
        ScalarValue::Date32(Some(days)) => match nanos(i64::from(days) * DAY_MICROS) {
            Some(nanos) => ScalarValue::TimestampNanosecond(Some(nanos), Some("UTC".into())),
            None => ScalarValue::Date32(Some(days)),
        },
        other => other,
    };
    Expr::Literal(value, None)
}

/// `FROM generate_series(..) x`: the column is called x too; without a name, like the
/// function.
pub(super) fn name_column(factor: &mut ast::TableFactor) {
    let ast::TableFactor::Table {
        name,
        alias,
        args: Some(_),
        with_ordinality: false,
        ..
    } = factor
    else {
        return;
    };
    if !name.to_string().eq_ignore_ascii_case("generate_series") {
        return;
    }
    let column = |name: &ast::Ident| ast::TableAliasColumnDef {
        name: name.clone(),
        data_type: None,
    };
    match alias {
        Some(alias) if alias.columns.is_empty() => alias.columns = vec![column(&alias.name)],
        Some(_) => {}
        None => {
            let name = ast::Ident::new("generate_series");
            *alias = Some(ast::TableAlias {
                explicit: true,
                columns: vec![column(&name)],
                name,
                at: None,
            });
        }
    }
}
