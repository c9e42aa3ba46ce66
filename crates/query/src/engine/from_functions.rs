//! Functions that give sets of rows, as PostgreSQL lets them be used.
//!
//! ```text
//! FROM unnest(t.a, ..) f        LATERAL (SELECT unnest(l.c0) AS f, .. FROM (SELECT t.a AS c0, ..) l) f
//! FROM generate_series(..) f    the same over the series as an array, unless it is of plain
//!                               integers: those the engine makes row by row
//! FROM jsonb_each(..) f         the same over its keys and its values as arrays
//! .. WITH ORDINALITY            and beside it the positions
//! SELECT generate_series(..)    SELECT unnest(the series as an array)
//! ```
//!
//! A function in FROM sees the relations before it, LATERAL or not; its column has the
//! function's name, or the alias.

use datafusion::sql::sqlparser::ast::{self, VisitMut, VisitorMut};
use std::ops::ControlFlow;

use crate::functions::ROW_FUNCTIONS;
use crate::sql::{fold, parse_query, quote};
use crate::QueryError;

/// The engine's name for a series as an array.
pub(super) const SERIES: &str = "__series";

/// A function call in FROM.
struct Call {
    function: String,
    arguments: Vec<ast::Expr>,
    with_ordinality: bool,
    alias: Option<ast::TableAlias>,
}

/// Rewrites a function in FROM.
pub(super) fn rewrite_factor(factor: &mut ast::TableFactor) -> Result<(), QueryError> {
    let Some(call) = call_of(factor) else {
        return Ok(());
    };
    let columns = column_names(&call);
    let is_engines = call.function == "generate_series"
        && call.arguments.iter().all(is_plain_number)
        && !call.with_ordinality;
    if is_engines {
        if let ast::TableFactor::Table { alias, .. } | ast::TableFactor::Function { alias, .. } =
            factor
        {
            *alias = Some(aliased(&call, columns));
        }
        return Ok(());
    }
    let alias = Some(aliased(&call, columns));
    *factor = ast::TableFactor::Derived {
        lateral: true,
        subquery: Box::new(as_query(&call)?),
        alias,
        sample: None,
    };
    Ok(())
}

fn call_of(factor: &ast::TableFactor) -> Option<Call> {
    match factor {
        ast::TableFactor::Table {
            name,
            alias,
            args: Some(arguments),
            with_ordinality,
            ..
        } => series_call(name, &arguments.args, *with_ordinality, alias),
        ast::TableFactor::Function {
            name,
            args,
            with_ordinality,
            alias,
            ..
        } => series_call(name, args, *with_ordinality, alias),
        ast::TableFactor::UNNEST {
            alias,
            array_exprs,
            with_offset: false,
            with_offset_alias: None,
            with_ordinality,
        } => Some(Call {
            function: "unnest".into(),
            arguments: array_exprs.clone(),
            with_ordinality: *with_ordinality,
            alias: alias.clone(),
        }),
        _ => None,
    }
}

fn series_call(
    name: &ast::ObjectName,
    arguments: &[ast::FunctionArg],
    with_ordinality: bool,
    alias: &Option<ast::TableAlias>,
) -> Option<Call> {
    let function = name.0.last()?.as_ident().map(fold)?;
    let is_known = matches!(function.as_str(), "generate_series" | "unnest")
        || json_columns(&function).is_some();
    if !is_known {
        return None;
    }
    let arguments = arguments
        .iter()
        .map(|argument| match argument {
            ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(e)) => Some(e.clone()),
            _ => None,
        })
        .collect::<Option<Vec<_>>>()?;
    Some(Call {
        function,
        arguments,
        with_ordinality,
        alias: alias.clone(),
    })
}

fn is_plain_number(expr: &ast::Expr) -> bool {
    match expr {
        ast::Expr::Value(v) => match &v.value {
            ast::Value::Number(n, _) => n.bytes().all(|b| b.is_ascii_digit()),
            _ => false,
        },
        ast::Expr::UnaryOp { expr, .. } | ast::Expr::Nested(expr) => is_plain_number(expr),
        ast::Expr::BinaryOp { left, right, .. } => is_plain_number(left) && is_plain_number(right),
        _ => false,
    }
}

/// The columns of a function of JSON that gives rows, if it is one.
fn json_columns(function: &str) -> Option<&'static [(&'static str, &'static str)]> {
    ROW_FUNCTIONS
        .iter()
        .find(|(name, _)| *name == function)
        .map(|(_, columns)| *columns)
}

/// How many columns hold values.
fn width(call: &Call) -> usize {
    if let Some(columns) = json_columns(&call.function) {
        columns.len()
    } else if call.function == "unnest" {
        call.arguments.len()
    } else {
        1
    }
}

/// The columns' names: from the alias's list, then the alias or the function itself.
fn column_names(call: &Call) -> Vec<ast::Ident> {
    let given = call.alias.as_ref().map_or(&[][..], |a| &a.columns);
    let own = match &call.alias {
        Some(alias) if width(call) == 1 => alias.name.clone(),
        _ => ast::Ident::new(call.function.as_str()),
    };
    let ordinality = call.with_ordinality.then(|| ast::Ident::new("ordinality"));
    let repeated = (1..=width(call)).map(|uses| match uses {
        1 => own.clone(),
        _ => ast::Ident::with_quote('"', super::names::repeated(&own.value, uses)),
    });
    let named = json_columns(&call.function)
        .filter(|columns| columns.iter().all(|(name, _)| !name.is_empty()));
    let of_values: Vec<ast::Ident> = match named {
        Some(columns) => columns
            .iter()
            .map(|(name, _)| ast::Ident::new(*name))
            .collect(),
        None => repeated.collect(),
    };
    let default = of_values.into_iter().chain(ordinality);
    let mut names: Vec<ast::Ident> = given.iter().map(|c| c.name.clone()).collect();
    names.extend(default.skip(given.len()));
    names
}

fn aliased(call: &Call, columns: Vec<ast::Ident>) -> ast::TableAlias {
    let name = match &call.alias {
        Some(alias) => alias.name.clone(),
        None => ast::Ident::new(call.function.as_str()),
    };
    ast::TableAlias {
        explicit: true,
        name,
        columns: columns
            .into_iter()
            .map(|name| ast::TableAliasColumnDef {
                name,
                data_type: None,
            })
            .collect(),
        at: None,
    }
}

fn as_query(call: &Call) -> Result<ast::Query, QueryError> {
    let list: Vec<String> = call.arguments.iter().map(ToString::to_string).collect();
    let arrays = match call.function.as_str() {
        "generate_series" => vec![format!("{SERIES}({})", list.join(", "))],
        json if json_columns(json).is_some() => json_columns(json)
            .unwrap_or_default()
            .iter()
            .map(|(_, values)| format!("{values}({})", list.join(", ")))
            .collect(),
        _ => list,
    };
    let (mut made, mut shown) = (Vec::new(), Vec::new());
    for (i, array) in arrays.iter().enumerate() {
        made.push(format!("({array}) AS c{i}"));
        let item = format!("unnest(__lists.c{i})");
        let written = call.arguments.get(i).and_then(written_item_type);
        let item = match item_type(array).or(written) {
            Some(item_type) => format!("CAST({item} AS {item_type})"),
            None => item,
        };
        shown.push(format!("{item} AS v{i}"));
    }
    if call.with_ordinality {
        let lengths: Vec<String> = (0..arrays.len())
            .map(|i| format!("coalesce(cardinality(__lists.c{i}), 0)"))
            .collect();
        let longest = match lengths.as_slice() {
            [one] => one.clone(),
            several => format!("greatest({})", several.join(", ")),
        };
        shown.push(format!(
            "unnest({SERIES}(1, CAST({longest} AS BIGINT))) AS {}",
            quote("ordinality")
        ));
    }
    let sql = format!(
        "SELECT {} FROM (SELECT {}) AS __lists",
        shown.join(", "),
        made.join(", ")
    );
    match parse_query(&sql)? {
        ast::Statement::Query(query) => Ok(*query),
        _ => Err(QueryError::unsupported(format!(
            "{} in FROM",
            call.function
        ))),
    }
}

/// The function that gives as an array what `name` gives as rows of one column.
fn array_function(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    if name == "generate_series" {
        return Some(SERIES);
    }
    match json_columns(&name) {
        Some([(_, values)]) => Some(values),
        _ => None,
    }
}

/// `elements` in `FROM jsonb_array_elements(..) AS elements` is its only column, `value`.
pub(super) fn rewrite_whole_rows(select: &mut ast::Select) {
    let joined = select.from.iter().flat_map(|table| {
        std::iter::once(&table.relation).chain(table.joins.iter().map(|join| &join.relation))
    });
    let aliases: Vec<String> = joined
        .filter_map(call_of)
        .filter(|call| matches!(json_columns(&call.function), Some([("value", _)])))
        .filter_map(|call| call.alias.filter(|alias| alias.columns.is_empty()))
        .map(|alias| fold(&alias.name))
        .collect();
    if aliases.is_empty() {
        return;
    }
    let is_alias = |expr: &ast::Expr| match expr {
        ast::Expr::Identifier(name) => aliases.contains(&fold(name)),
        _ => false,
    };
    for item in &mut select.projection {
        if let ast::SelectItem::UnnamedExpr(expr) = item {
            if let (true, ast::Expr::Identifier(name)) = (is_alias(expr), &expr) {
                let (alias, expr) = (name.clone(), expr.clone());
                *item = ast::SelectItem::ExprWithAlias { expr, alias };
            }
        }
    }
    struct Whole<F>(F);
    impl<F: Fn(&ast::Expr) -> bool> VisitorMut for Whole<F> {
        type Break = ();
        fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
            if let (true, ast::Expr::Identifier(name)) = (self.0(expr), &expr) {
                let value = ast::Ident::new("value");
                *expr = ast::Expr::CompoundIdentifier(vec![name.clone(), value]);
            }
            ControlFlow::Continue(())
        }
    }
    let _ = select.visit(&mut Whole(is_alias));
}

/// The type of the items that a call makes, where the engine takes them for texts.
fn item_type(call: &str) -> Option<&'static str> {
    match call.split('(').next()? {
        "__json_items" | "__json_values" => Some("JSON"),
        "__jsonb_items" | "__jsonb_values" => Some("JSONB"),
        "__regexp_matches" => Some("TEXT[]"),
        _ => None,
    }
}

/// The same of an array that is written as one of them: `($1)::uuid[]`, `ARRAY['..'::uuid]`.
fn written_item_type(array: &ast::Expr) -> Option<&'static str> {
    let named = |data_type: &ast::DataType| {
        ["JSON", "JSONB", "UUID"]
            .into_iter()
            .find(|name| data_type.to_string().eq_ignore_ascii_case(name))
    };
    match array {
        ast::Expr::Nested(inner) => written_item_type(inner),
        ast::Expr::Cast {
            data_type: ast::DataType::Array(ast::ArrayElemTypeDef::SquareBracket(item, _)),
            ..
        } => named(item),
        ast::Expr::Array(items) => match items.elem.first()? {
            ast::Expr::Cast { data_type, .. } => named(data_type),
            _ => None,
        },
        _ => None,
    }
}

/// In a SELECT list a series is a set of rows.
pub(super) fn rewrite_list(select: &mut ast::Select) {
    struct Series;
    impl VisitorMut for Series {
        type Break = ();
        fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
            let ast::Expr::Function(function) = expr else {
                return ControlFlow::Continue(());
            };
            if let Some(array) = array_function(&function.name.to_string()) {
                function.name = ast::ObjectName::from(vec![ast::Ident::new(array)]);
                let series = ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr.clone()));
                if let Ok(mut unnest) = super::dialect::parse_expression("unnest(NULL)") {
                    if let ast::Expr::Function(ast::Function {
                        args: ast::FunctionArguments::List(list),
                        ..
                    }) = &mut unnest
                    {
                        list.args = vec![series];
                    }
                    let typed = item_type(array).and_then(|item_type| {
                        let cast = format!("CAST({unnest} AS {item_type})");
                        super::dialect::parse_expression(&cast).ok()
                    });
                    *expr = typed.unwrap_or(unnest);
                }
            }
            ControlFlow::Continue(())
        }
        fn pre_visit_query(&mut self, _: &mut ast::Query) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
    }
    for item in &mut select.projection {
        if let ast::SelectItem::UnnamedExpr(expr) | ast::SelectItem::ExprWithAlias { expr, .. } =
            item
        {
            let _ = expr.visit(&mut Series);
        }
    }
}
