//! Phrases of PostgreSQL's grammar that stand for other expressions.
//!
//! ```text
//! x BETWEEN SYMMETRIC a AND b          x BETWEEN a AND b OR x BETWEEN b AND a
//! x LIKE ANY (ARRAY[a, b])             x LIKE a OR x LIKE b; of other arrays __like_any('..', x, array)
//! (a, b) OVERLAPS (c, d)               __overlaps(a, b, c, d)
//! (a, b) < (SELECT c, d ..)            (SELECT (a, b) < (__row.c0, __row.c1) FROM (SELECT ..) AS __row)
//! CAST(x AS TIMESTAMP(n))              __rounded(CAST(x AS TIMESTAMP), n)
//! array[2:], array[:2]                 array[2:2147483647], array[1:2]
//! make_interval(days => 10)            make_interval(0, 0, 0, 10)
//! mode() WITHIN GROUP (ORDER BY x)     __mode(array_agg(x ORDER BY x))
//! array_agg(DISTINCT x ORDER BY x)     array_sort(array_agg(DISTINCT x), ..); string_agg likewise
//! ```
//!
//! `BETWEEN SYMMETRIC` is no phrase of the parser: [`marked`] writes the mark `!!` for the word, an operator that
//! PostgreSQL gave up, before the text is parsed.

use std::borrow::Cow;
use std::ops::ControlFlow;

use chronos_model::SqlState;
use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator as Op, Expr, UnaryOperator as Unary, VisitMut, VisitorMut,
};

use super::dialect::parse_expression;
use crate::lex::{self, Token, TokenKind};
use crate::QueryError;

/// Positions of `make_interval`'s parameters.
const INTERVAL_PARAMETERS: &[&str] = &["years", "months", "weeks", "days", "hours", "mins", "secs"];
/// An upper bound that no array reaches.
const SLICE_END: &str = "2147483647";
/// Digits of a second that times have anyway.
const MICROSECOND_DIGITS: u64 = 6;

/// The text with `!!` for SYMMETRIC, of the same length.
pub(crate) fn marked(sql: &str) -> Cow<'_, str> {
    let mentions = |word: &[u8]| {
        let mut windows = sql.as_bytes().windows(word.len());
        windows.any(|w| w.eq_ignore_ascii_case(word))
    };
    if !mentions(b"symmetric") {
        return sql.into();
    }
    let tokens: Vec<Token> = lex::tokens(sql)
        .filter(|t| t.kind != TokenKind::Comment)
        .collect();
    let mut text = sql.to_owned();
    for pair in tokens.windows(2) {
        let [between, word] = pair else { continue };
        let mark = match () {
            () if !between.is_word(sql, "between") => continue,
            () if word.is_word(sql, "symmetric") => "!!       ",
            () if word.is_word(sql, "asymmetric") => "          ",
            () => continue,
        };
        text.replace_range(word.start..word.end, mark);
    }
    text.into()
}

/// Rewrites the statement's expressions, or refuses them.
pub(super) fn rewrite(statement: &mut ast::Statement) -> Result<(), QueryError> {
    struct Rewriter;
    impl VisitorMut for Rewriter {
        type Break = QueryError;

        fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<QueryError> {
            if let ast::SetExpr::Values(values) = query.body.as_mut() {
                typed_values(values);
            }
            ControlFlow::Continue(())
        }

        fn pre_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<QueryError> {
            match merged_windows(select) {
                Ok(()) => ControlFlow::Continue(()),
                Err(e) => ControlFlow::Break(e),
            }
        }

        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<QueryError> {
            match rewritten(expr) {
                Ok(Some(other)) => *expr = other,
                Ok(None) => {}
                Err(e) => return ControlFlow::Break(e),
            }
            ControlFlow::Continue(())
        }
    }
    match statement.visit(&mut Rewriter) {
        ControlFlow::Break(e) => Err(e),
        ControlFlow::Continue(()) => Ok(()),
    }
}

fn rewritten(expr: &mut Expr) -> Result<Option<Expr>, QueryError> {
    match expr {
        Expr::Between {
            expr,
            negated,
            low,
            high,
        } => symmetric(expr, *negated, low, high),
        Expr::Like {
            negated,
            any,
            expr,
            pattern,
            ..
        } => like(if *negated { "!~~" } else { "~~" }, *any, expr, pattern),
        Expr::ILike {
            negated,
            any,
            expr,
            pattern,
            ..
        } => like(if *negated { "!~~*" } else { "~~*" }, *any, expr, pattern),
        Expr::BinaryOp { left, op, right } => match op {
            Op::Overlaps => overlaps(left, right),
            Op::Eq | Op::NotEq | Op::Lt | Op::LtEq | Op::Gt | Op::GtEq => {
                row_and_subquery(left, op, right)
            }
            _ => Ok(None),
        },
        Expr::Cast {
            data_type, expr, ..
        } => Ok(rounded(expr.to_string(), data_type)),
        Expr::TypedString(typed) => Ok(rounded(typed.value.to_string(), &typed.data_type)),
        Expr::CompoundFieldAccess { access_chain, .. } => {
            for access in access_chain {
                close_slice(access)?;
            }
            Ok(None)
        }
        Expr::Function(function) => of_function(function),
        _ => Ok(None),
    }
    .map(|e: Option<String>| e.map(|text| parse_expression(&text)).transpose())?
}

/// A text without a type in VALUES is read as what another row says that the column is.
fn typed_values(values: &mut ast::Values) {
    let width = values.rows.first().map_or(0, |row| row.content.len());
    for column in 0..width {
        let given = values
            .rows
            .iter()
            .find_map(|row| match row.content.get(column) {
                Some(Expr::Cast {
                    data_type,
                    kind: ast::CastKind::Cast | ast::CastKind::DoubleColon,
                    ..
                }) => Some(data_type.clone()),
                Some(Expr::TypedString(typed)) => Some(typed.data_type.clone()),
                _ => None,
            });
        let Some(data_type) = given else { continue };
        for row in &mut values.rows {
            let Some(item) = row.content.get_mut(column) else {
                continue;
            };
            let is_untyped = matches!(item, Expr::Value(v)
                if matches!(v.value, ast::Value::SingleQuotedString(_) | ast::Value::Null));
            if is_untyped {
                *item = Expr::Cast {
                    kind: ast::CastKind::Cast,
                    expr: Box::new(item.clone()),
                    data_type: data_type.clone(),
                    array: false,
                    format: None,
                };
            }
        }
    }
}

/// `OVER (w ORDER BY x)` with what WINDOW says of `w`, which the engine would leave out.
fn merged_windows(select: &mut ast::Select) -> Result<(), QueryError> {
    struct Merger {
        named: Vec<(String, ast::WindowSpec)>,
        depth: usize,
    }
    impl VisitorMut for Merger {
        type Break = QueryError;
        fn pre_visit_query(&mut self, _: &mut ast::Query) -> ControlFlow<QueryError> {
            self.depth += 1;
            ControlFlow::Continue(())
        }
        fn post_visit_query(&mut self, _: &mut ast::Query) -> ControlFlow<QueryError> {
            self.depth -= 1;
            ControlFlow::Continue(())
        }
        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<QueryError> {
            if let (
                0,
                Expr::Function(ast::Function {
                    over: Some(ast::WindowType::WindowSpec(spec)),
                    ..
                }),
            ) = (self.depth, expr)
            {
                if let Err(e) = extend(spec, &self.named) {
                    return ControlFlow::Break(e);
                }
            }
            ControlFlow::Continue(())
        }
    }
    let mut named: Vec<(String, ast::WindowSpec)> = Vec::new();
    for definition in &mut select.named_window {
        if let ast::NamedWindowExpr::WindowSpec(spec) = &mut definition.1 {
            extend(spec, &named)?;
            named.push((crate::sql::fold(&definition.0), spec.clone()));
        }
    }
    match select.visit(&mut Merger { named, depth: 0 }) {
        ControlFlow::Break(e) => Err(e),
        ControlFlow::Continue(()) => Ok(()),
    }
}

fn extend(
    spec: &mut ast::WindowSpec,
    named: &[(String, ast::WindowSpec)],
) -> Result<(), QueryError> {
    let Some(name) = spec.window_name.take() else {
        return Ok(());
    };
    let name = crate::sql::fold(&name);
    let windowing = |message: String| QueryError::new(SqlState("42P20"), message);
    let base = named
        .iter()
        .find(|(of, _)| *of == name)
        .map(|(_, base)| base);
    let base = base.ok_or_else(|| {
        let message = format!("window \"{name}\" does not exist");
        QueryError::new(SqlState::UNDEFINED_OBJECT, message)
    })?;
    if !spec.partition_by.is_empty() {
        let message = format!("cannot override PARTITION BY clause of window \"{name}\"");
        return Err(windowing(message));
    }
    if !spec.order_by.is_empty() && !base.order_by.is_empty() {
        let message = format!("cannot override ORDER BY clause of window \"{name}\"");
        return Err(windowing(message));
    }
    if base.window_frame.is_some() {
        let message = format!("cannot copy window \"{name}\" because it has a frame clause");
        return Err(windowing(message));
    }
    spec.partition_by = base.partition_by.clone();
    if spec.order_by.is_empty() {
        spec.order_by = base.order_by.clone();
    }
    Ok(())
}

/// `low` with the mark, wherever it leads, taken off.
fn unmarked(low: &Expr) -> Option<Expr> {
    match low {
        Expr::UnaryOp {
            op: Unary::PGPrefixFactorial,
            expr,
        } => Some((**expr).clone()),
        Expr::BinaryOp { left, op, right } => Some(Expr::BinaryOp {
            left: Box::new(unmarked(left)?),
            op: op.clone(),
            right: right.clone(),
        }),
        Expr::Cast {
            kind,
            expr,
            data_type,
            array,
            format,
        } => Some(Expr::Cast {
            kind: kind.clone(),
            expr: Box::new(unmarked(expr)?),
            data_type: data_type.clone(),
            array: *array,
            format: format.clone(),
        }),
        _ => None,
    }
}

fn symmetric(
    expr: &Expr,
    negated: bool,
    low: &Expr,
    high: &Expr,
) -> Result<Option<String>, QueryError> {
    let Some(low) = unmarked(low) else {
        return Ok(None);
    };
    let not = if negated { "NOT " } else { "" };
    Ok(Some(format!(
        "({not}(({expr}) BETWEEN ({low}) AND ({high}) OR ({expr}) BETWEEN ({high}) AND ({low})))"
    )))
}

/// What stands in the parentheses of ANY or ALL.
fn like(op: &str, any: bool, expr: &Expr, pattern: &Expr) -> Result<Option<String>, QueryError> {
    let (name, link, array) = match pattern {
        pattern if any => ("__like_any", " OR ", pattern.clone()),
        Expr::Function(f) if f.name.to_string().eq_ignore_ascii_case("all") => {
            match arguments(f).as_deref() {
                Some([one]) => ("__like_all", " AND ", one.clone()),
                _ => return Ok(None),
            }
        }
        _ => return Ok(None),
    };
    let mut array = array;
    while let Expr::Nested(inner) = array {
        array = *inner;
    }
    Ok(Some(match &array {
        Expr::Subquery(_) => {
            let message = "LIKE ANY and LIKE ALL of a subquery";
            return Err(QueryError::unsupported(message)
                .with_hint("Write EXISTS (SELECT 1 FROM .. WHERE x LIKE ..)."));
        }
        Expr::Array(array) if !array.elem.is_empty() => {
            let each = array
                .elem
                .iter()
                .map(|item| format!("({expr}) {op} ({item})"));
            format!("({})", each.collect::<Vec<_>>().join(link))
        }
        array => format!("{name}('{op}', ({expr})::TEXT, CAST(({array}) AS TEXT[]))"),
    }))
}

fn row(expr: &Expr) -> Option<Vec<Expr>> {
    match expr {
        Expr::Tuple(items) if items.len() > 1 => Some(items.clone()),
        Expr::Nested(inner) => row(inner),
        Expr::Function(f) if f.name.to_string().eq_ignore_ascii_case("row") => arguments(f),
        _ => None,
    }
}

fn overlaps(left: &Expr, right: &Expr) -> Result<Option<String>, QueryError> {
    match (row(left).as_deref(), row(right).as_deref()) {
        (Some([a, b]), Some([c, d])) => Ok(Some(format!("__overlaps({a}, {b}, {c}, {d})"))),
        (Some(_), Some(_)) => Err(QueryError::new(
            SqlState::SYNTAX_ERROR,
            "wrong number of parameters on a side of OVERLAPS expression",
        )),
        _ => Ok(None),
    }
}

fn row_and_subquery(left: &Expr, op: &Op, right: &Expr) -> Result<Option<String>, QueryError> {
    let Expr::Subquery(subquery) = right else {
        return Ok(None);
    };
    let Some(items) = row(left) else {
        return Ok(None);
    };
    let names: Vec<String> = (0..items.len()).map(|i| format!("__c{i}")).collect();
    let columns: Vec<String> = names.iter().map(|name| format!("__row.{name}")).collect();
    let items: Vec<String> = items.iter().map(|item| format!("({item})")).collect();
    Ok(Some(format!(
        "(SELECT ({}) {op} ({}) FROM ({subquery}) AS __row ({}))",
        items.join(", "),
        columns.join(", "),
        names.join(", ")
    )))
}

fn rounded(value: String, data_type: &ast::DataType) -> Option<String> {
    let (digits, whole) = match data_type {
        ast::DataType::Timestamp(Some(digits), zone) => {
            (*digits, ast::DataType::Timestamp(None, *zone))
        }
        ast::DataType::Time(Some(digits), zone) => (*digits, ast::DataType::Time(None, *zone)),
        _ => return None,
    };
    let cast = format!("CAST({value} AS {whole})");
    Some(match digits {
        MICROSECOND_DIGITS.. => cast,
        digits => format!("__rounded({cast}, {digits})"),
    })
}

/// Gives a slice without bounds those that leave nothing out.
fn close_slice(access: &mut ast::AccessExpr) -> Result<(), QueryError> {
    if let ast::AccessExpr::Subscript(ast::Subscript::Slice {
        lower_bound,
        upper_bound,
        ..
    }) = access
    {
        if lower_bound.is_none() {
            *lower_bound = Some(parse_expression("1")?);
        }
        if upper_bound.is_none() {
            *upper_bound = Some(parse_expression(SLICE_END)?);
        }
    }
    Ok(())
}

fn arguments(function: &ast::Function) -> Option<Vec<Expr>> {
    let ast::FunctionArguments::List(list) = &function.args else {
        return None;
    };
    list.args
        .iter()
        .map(|argument| match argument {
            ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(e)) => Some(e.clone()),
            _ => None,
        })
        .collect()
}

fn of_function(function: &ast::Function) -> Result<Option<String>, QueryError> {
    match function.name.to_string().to_ascii_lowercase().as_str() {
        "make_interval" => interval_of_names(function),
        "current_timestamp" | "localtimestamp" => Ok(now_with_digits(function)),
        "string_agg" | "array_agg" => Ok(distinct_sorted(function)),
        "mode" | "percentile_disc" => Ok(of_sorted(function)),
        "percentile_cont" => {
            let fractions = arguments(function);
            let is_one = matches!(fractions.as_deref(), Some([e]) if !matches!(e, Expr::Array(_)));
            Ok(if is_one { None } else { of_sorted(function) })
        }
        _ => Ok(None),
    }
}

fn now_with_digits(function: &ast::Function) -> Option<String> {
    let zone = match function.name.to_string().to_ascii_lowercase().as_str() {
        "current_timestamp" => "TIMESTAMPTZ",
        _ => "TIMESTAMP",
    };
    match arguments(function).as_deref() {
        Some([digits]) => Some(format!("__rounded(CAST(now() AS {zone}), {digits})")),
        _ => None,
    }
}

fn interval_of_names(function: &ast::Function) -> Result<Option<String>, QueryError> {
    let ast::FunctionArguments::List(list) = &function.args else {
        return Ok(None);
    };
    let mut values = vec!["0".to_owned(); INTERVAL_PARAMETERS.len()];
    let mut is_named = false;
    for (i, argument) in list.args.iter().enumerate() {
        let name = match argument {
            ast::FunctionArg::Named { name, .. } => Some(crate::sql::fold(name)),
            ast::FunctionArg::ExprNamed {
                name: Expr::Identifier(name),
                ..
            } => Some(crate::sql::fold(name)),
            _ => None,
        };
        let (position, value) = match (argument, name) {
            (
                ast::FunctionArg::Named { arg, .. } | ast::FunctionArg::ExprNamed { arg, .. },
                Some(name),
            ) => {
                is_named = true;
                let position = INTERVAL_PARAMETERS.iter().position(|p| *p == name);
                let position = position.ok_or_else(|| {
                    QueryError::new(
                        SqlState::UNDEFINED_FUNCTION,
                        format!("function make_interval({name} => ..) does not exist"),
                    )
                })?;
                (position, arg.to_string())
            }
            (ast::FunctionArg::Unnamed(arg), _) if i < values.len() => (i, arg.to_string()),
            _ => return Ok(None),
        };
        values[position] = value;
    }
    Ok(is_named.then(|| format!("make_interval({})", values.join(", "))))
}

/// Distinct values are sorted when they are all there: the engine takes them out of the order that they came in.
fn distinct_sorted(function: &ast::Function) -> Option<String> {
    let ast::FunctionArguments::List(list) = &function.args else {
        return None;
    };
    let order = list.clauses.iter().find_map(|clause| match clause {
        ast::FunctionArgumentClause::OrderBy(order) => Some(order.as_slice()),
        _ => None,
    });
    let is_distinct = list.duplicate_treatment == Some(ast::DuplicateTreatment::Distinct);
    // PostgreSQL, too, sorts distinct values only by themselves.
    let [order] = order.filter(|_| is_distinct)? else {
        return None;
    };
    let direction = match order.options.asc {
        Some(false) => "DESC",
        _ => "ASC",
    };
    let nulls = match order.options.nulls_first {
        Some(true) => "NULLS FIRST",
        Some(false) => "NULLS LAST",
        None if direction == "DESC" => "NULLS FIRST",
        None => "NULLS LAST",
    };
    let mut items = function.clone();
    items.name = ast::ObjectName::from(vec![ast::Ident::new("array_agg")]);
    let ast::FunctionArguments::List(list) = &mut items.args else {
        return None;
    };
    list.clauses.clear();
    if function.name.to_string().eq_ignore_ascii_case("array_agg") {
        return Some(format!("array_sort({items}, '{direction}', '{nulls}')"));
    }
    let separator = list.args.pop()?;
    let [item] = list.args.as_slice() else {
        return None;
    };
    let is_there = parse_expression(&format!("({item}) IS NOT NULL")).ok()?;
    items.filter = Some(Box::new(match items.filter.take() {
        None => is_there,
        Some(filter) => Expr::BinaryOp {
            left: Box::new(Expr::Nested(filter)),
            op: Op::And,
            right: Box::new(is_there),
        },
    }));
    Some(format!(
        "array_to_string(array_sort({items}, '{direction}', '{nulls}'), {separator})"
    ))
}

/// An aggregate over sorted values: a function of the array of them.
fn of_sorted(function: &ast::Function) -> Option<String> {
    let [order] = function.within_group.as_slice() else {
        return None;
    };
    let name = function.name.to_string().to_ascii_lowercase();
    let item = match name.as_str() {
        "percentile_cont" => format!("CAST({} AS DOUBLE PRECISION)", order.expr),
        _ => order.expr.to_string(),
    };
    let filter = match &function.filter {
        Some(filter) => format!("({filter}) AND ({}) IS NOT NULL", order.expr),
        None => format!("({}) IS NOT NULL", order.expr),
    };
    let over = match &function.over {
        Some(_) => return None,
        None => "",
    };
    let sorted = format!("array_agg({item} ORDER BY {order}) FILTER (WHERE {filter}){over}");
    let given = arguments(function)?;
    let fractions: String = given.iter().map(|e| format!("{e}, ")).collect();
    Some(format!("__{name}({fractions}{sorted})"))
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
    fn phrases_become_expressions() {
        for (given, expected) in [
            (
                "SELECT a BETWEEN SYMMETRIC 2 + 1 AND 1",
                "SELECT (((a) BETWEEN (2 + 1) AND (1) OR (a) BETWEEN (1) AND (2 + 1)))",
            ),
            (
                "SELECT a BETWEEN ASYMMETRIC 1 AND 2",
                "SELECT a BETWEEN 1 AND 2",
            ),
            (
                "SELECT a NOT LIKE ALL (ARRAY['x', b])",
                "SELECT ((a) !~~ ('x') AND (a) !~~ (b))",
            ),
            (
                "SELECT (a, b) OVERLAPS (c, d)",
                "SELECT __overlaps(a, b, c, d)",
            ),
            (
                "SELECT a::TIMESTAMP(2)",
                "SELECT __rounded(CAST(a AS TIMESTAMP), 2)",
            ),
            (
                "SELECT a[2:], a[:]",
                "SELECT a[2:2147483647], a[1:2147483647]",
            ),
            (
                "SELECT make_interval(hours => 2, 3)",
                "SELECT make_interval(0, 3, 0, 0, 2, 0, 0)",
            ),
            (
                "SELECT mode() WITHIN GROUP (ORDER BY a DESC)",
                "SELECT __mode(array_agg(a ORDER BY a DESC) FILTER (WHERE (a) IS NOT NULL))",
            ),
        ] {
            assert_eq!(rewritten(given).unwrap(), expected);
        }
        assert!(rewritten("SELECT a LIKE ANY (SELECT b)").is_err());
        assert!(rewritten("SELECT (a, b, c) OVERLAPS (c, d)").is_err());
    }

    #[test]
    fn only_what_follows_between_is_marked() {
        for same in ["SELECT symmetric FROM t", "SELECT 'between symmetric'"] {
            assert_eq!(marked(same), same);
        }
        let sql = "a BETWEEN symmetric b";
        assert_eq!(marked(sql).len(), sql.len());
    }
}
