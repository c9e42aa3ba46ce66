//! Column names as PostgreSQL gives them: a function's name for its call, the
//! type's for a cast constant, `?column?` for what has none.
//!
//! Every unnamed expression of a SELECT list gets its name as an alias before
//! planning. Names may repeat in SQL and not in the engine, so a repeated one
//! carries a mark that is taken off the result's columns.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow_schema::{Field, Schema, SchemaRef};
use datafusion::sql::sqlparser::ast::{self, VisitMut, VisitorMut};

use crate::sql::fold;

/// Separates a repeated name from what makes it unique.
const MARK: char = '\u{1f}';
/// Where the numbers of columns beside a wildcard begin: above those of repeated names.
const WILDCARD: usize = 100_000;
/// The name of what has no name.
const NAMELESS: &str = "?column?";

/// Names every unnamed expression.
pub(super) fn assign(statement: &mut ast::Statement) {
    struct Namer;
    impl VisitorMut for Namer {
        type Break = ();
        fn post_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<()> {
            name_items(&mut select.projection);
            ControlFlow::Continue(())
        }
    }
    let _ = statement.visit(&mut Namer);
    if let ast::Statement::Query(query) = statement {
        if let ast::SetExpr::Select(select) = query.body.as_mut() {
            mark_beside_wildcard(&mut select.projection);
        }
    }
}

/// `SELECT *, a`: the wildcard may give a column of that name, too. Only for the outermost
/// query, whose marks are taken off: by such a name nobody could refer to either of them.
fn mark_beside_wildcard(items: &mut [ast::SelectItem]) {
    if items.iter().all(|item| output_column(item).is_some()) {
        return;
    }
    for (position, item) in items.iter_mut().enumerate() {
        let ast::SelectItem::UnnamedExpr(expr) = item else {
            continue;
        };
        let Some(name) = own_name(expr).filter(|_| is_column(expr)) else {
            continue;
        };
        *item = ast::SelectItem::ExprWithAlias {
            alias: ast::Ident::with_quote('"', repeated(&name, WILDCARD + position)),
            expr: expr.clone(),
        };
    }
}

fn name_items(items: &mut [ast::SelectItem]) {
    let mut given: HashMap<String, usize> = HashMap::new();
    for item in items.iter_mut() {
        let Some((name, expr)) = output_column(item) else {
            continue;
        };
        let uses = given.entry(name.clone()).or_insert(0);
        *uses += 1;
        let is_unnamed = matches!(item, ast::SelectItem::UnnamedExpr(_));
        // A column has its name already, unless it repeats an earlier one.
        if *uses == 1 && (!is_unnamed || is_column(expr)) {
            continue;
        }
        let alias = if *uses == 1 {
            name
        } else {
            repeated(&name, *uses)
        };
        *item = ast::SelectItem::ExprWithAlias {
            expr: expr.clone(),
            alias: ast::Ident::with_quote('"', alias),
        };
    }
}

/// The name that an item of a SELECT list shows, and what it shows; `None`: a wildcard.
pub(super) fn output_column(item: &ast::SelectItem) -> Option<(String, &ast::Expr)> {
    match item {
        ast::SelectItem::ExprWithAlias { expr, alias } => Some((shown_name(&fold(alias)), expr)),
        ast::SelectItem::UnnamedExpr(expr) => {
            let name = own_name(expr).unwrap_or_else(|| NAMELESS.to_owned());
            Some((name, expr))
        }
        _ => None,
    }
}

/// A name for a further use of `name` in one list; shown as `name`.
pub(super) fn repeated(name: &str, uses: usize) -> String {
    format!("{name}{MARK}{uses}")
}

/// A name without its mark.
fn shown_name(name: &str) -> String {
    name.split(MARK).next().unwrap_or_default().to_owned()
}

/// Output columns whose alias would hide an input column from an ORDER BY expression are
/// marked: there a name means the input column. Only for the outermost query, whose marks
/// are taken off.
pub(super) fn hide_from_order(query: &mut ast::Query) {
    let ast::SetExpr::Select(select) = query.body.as_mut() else {
        return;
    };
    let Some(ast::OrderBy {
        kind: ast::OrderByKind::Expressions(order),
        ..
    }) = &mut query.order_by
    else {
        return;
    };
    let is_bare = |expr: &ast::Expr| matches!(expr, ast::Expr::Identifier(_));
    let hidden: Vec<String> = order
        .iter()
        .filter(|key| !is_bare(&key.expr))
        .filter_map(|key| super::checks::hidden_by_alias(&key.expr, select))
        .collect();
    for name in hidden {
        let marked = ast::Ident::with_quote('"', repeated(&name, 0));
        for item in &mut select.projection {
            if let ast::SelectItem::ExprWithAlias { alias, .. } = item {
                if fold(alias) == name {
                    *alias = marked.clone();
                }
            }
        }
        for key in order.iter_mut() {
            if let ast::Expr::Identifier(ident) = &mut key.expr {
                if fold(ident) == name {
                    *ident = marked.clone();
                }
            }
        }
    }
}

fn is_column(expr: &ast::Expr) -> bool {
    matches!(
        expr,
        ast::Expr::Identifier(_) | ast::Expr::CompoundIdentifier(_)
    )
}

/// PostgreSQL's rules ("FigureColname" in its parser); `None`: nameless.
fn own_name(expr: &ast::Expr) -> Option<String> {
    use ast::Expr as E;
    let fixed = |name: &str| Some(name.to_owned());
    match expr {
        E::Identifier(ident) => Some(fold(ident)),
        E::CompoundIdentifier(parts) => parts.last().map(fold),
        E::Function(function) => function.name.0.last().and_then(|p| p.as_ident()).map(fold),
        E::Nested(inner) | E::Collate { expr: inner, .. } => own_name(inner),
        E::Cast {
            expr: inner,
            data_type,
            ..
        } => own_name(inner).or_else(|| type_name(data_type)),
        E::TypedString(typed) => type_name(&typed.data_type),
        E::Case { else_result, .. } => {
            let column = else_result
                .as_deref()
                .filter(|e| is_column(e))
                .and_then(own_name);
            column.or_else(|| fixed("case"))
        }
        E::Exists { negated: false, .. } => fixed("exists"),
        E::Subquery(query) => subquery_name(query),
        E::Extract { .. } => fixed("extract"),
        E::Position { .. } => fixed("position"),
        E::Substring { .. } => fixed("substring"),
        E::Overlay { .. } => fixed("overlay"),
        E::Trim { .. } => fixed("btrim"),
        E::Ceil { .. } => fixed("ceil"),
        E::Floor { .. } => fixed("floor"),
        E::Array(_) => fixed("array"),
        E::AtTimeZone { .. } => fixed("timezone"),
        E::Interval(_) => fixed("interval"),
        _ => None,
    }
}

fn subquery_name(query: &ast::Query) -> Option<String> {
    let ast::SetExpr::Select(select) = query.body.as_ref() else {
        return None;
    };
    match select.projection.first()? {
        ast::SelectItem::UnnamedExpr(expr) => own_name(expr),
        ast::SelectItem::ExprWithAlias { alias, .. } => Some(fold(alias)),
        _ => None,
    }
}

/// The internal name of a type (`int8`, `timestamptz`).
fn type_name(data_type: &ast::DataType) -> Option<String> {
    use chronos_model::DataType as T;
    let name = match crate::ddl::data_type(data_type).ok()? {
        T::Bool => "bool",
        T::Int2 => "int2",
        T::Int4 => "int4",
        T::Int8 => "int8",
        T::Float4 => "float4",
        T::Float8 => "float8",
        T::Numeric(_) => "numeric",
        T::Text => "text",
        T::Varchar(_) => "varchar",
        T::Bytea => "bytea",
        T::Uuid => "uuid",
        T::Date => "date",
        T::Time => "time",
        T::Timestamp => "timestamp",
        T::TimestampTz => "timestamptz",
        T::Interval => "interval",
        T::Json => "json",
        T::Jsonb => "jsonb",
        T::Array(_) => return None,
        T::Vector(_) => "vector",
    };
    Some(name.to_owned())
}

/// The schema with the marks taken off.
pub(super) fn unmarked(schema: &Schema) -> SchemaRef {
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .map(|f| match f.name().split_once(MARK) {
            Some((name, _)) => f.as_ref().clone().with_name(name),
            None => f.as_ref().clone(),
        })
        .collect();
    Arc::new(Schema::new(fields))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(sql: &str) -> Vec<String> {
        let mut statement = crate::sql::parse_query(sql).unwrap();
        assign(&mut statement);
        let ast::Statement::Query(query) = statement else {
            panic!("no query")
        };
        let ast::SetExpr::Select(select) = *query.body else {
            panic!("no select")
        };
        let name = |item: &ast::SelectItem| match item {
            ast::SelectItem::UnnamedExpr(expr) => own_name(expr).unwrap(),
            ast::SelectItem::ExprWithAlias { alias, .. } => alias.value.clone(),
            other => other.to_string(),
        };
        select.projection.iter().map(name).collect()
    }

    #[test]
    fn names_are_postgresqls() {
        let sql = "SELECT a, t.b, max(a), 1, a + 1, '1'::int, a::text, CASE WHEN a THEN 1 END, DATE '2024-01-01', count(*) FROM t";
        let expected = [
            "a",
            "b",
            "max",
            "?column?",
            "?column?\u{1f}2",
            "int8",
            "a\u{1f}2",
            "case",
            "date",
            "count",
        ];
        assert_eq!(names(sql), expected);
        assert_eq!(names("SELECT *, count(*) FROM t"), ["*", "count"]);
    }

    #[test]
    fn marks_do_not_show() {
        let marked = Schema::new(vec![Field::new(
            "max\u{1f}2",
            arrow_schema::DataType::Int64,
            true,
        )]);
        assert_eq!(unmarked(&marked).field(0).name(), "max");
    }
}
