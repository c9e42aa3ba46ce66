//! What clients write about system tables, as what DataFusion can plan.
//!
//! Applied to the syntax tree before planning, and only to statements that
//! [`concern`](concerns) system tables or use PostgreSQL's notations for them; all
//! others are left alone. The rules, each for any query and not for a known one:
//!
//! ```text
//! pg_catalog.f(x)                        f(x)
//! a OPERATOR(pg_catalog.~) b             a ~ b
//! e COLLATE "default" | "C" | "POSIX"    e                 text compares bytewise here
//! e::oid, ::name, ::"char" ..            e::int4, ::text
//! e::regclass, ::regtype ..              the object id; where it is shown (in a SELECT
//!                                        list, cast to text, concatenated): the name
//! EXISTS (..) in a SELECT list           (SELECT count(1) ..) > 0
//! ARRAY(SELECT e .. ORDER BY o)          coalesce((SELECT array_agg(e ORDER BY o) ..), make_array())
//! (SELECT e FROM system table ..)        (SELECT first_value(e) ..)
//!                                        DataFusion wants a correlated one aggregated
//! a subquery over what is always empty   NULL, false, an empty array
//! CASE WHEN t.typtype = 'c' THEN .. END  NULL: there are no composite types
//! a LIKE p ESCAPE '/'                    a LIKE p, its escapes written as backslashes
//! ```
//!
//! "Always empty" are system relations about what Chronos does not have, such as
//! `pg_policy`: a subquery that inner-joins one has no row, whatever else it says.
//! Three rules know a certain client: asyncpg's recursive scalar subquery over
//! domains (there are none) is NULL, Grafana's expansion of `search_path` is
//! `public`, and JDBC's `_pg_expandarray` is unnested.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, Expr, ObjectName, Visit, VisitMut, Visitor, VisitorMut,
};

use super::{is_always_empty, is_system};
use crate::sql::fold;

/// Rewrites a statement that concerns system tables; says whether it did.
pub(crate) fn rewrite(statement: &mut ast::Statement) -> bool {
    let concerned = concerns(statement);
    if concerned {
        let _ = statement.visit(&mut Rewriter);
    }
    concerned
}

/// Whether a statement names a system table or uses a notation that is rewritten.
fn concerns(statement: &ast::Statement) -> bool {
    struct Finder;
    impl Visitor for Finder {
        type Break = ();
        fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<()> {
            found(names_system(name) || is_qualified(name))
        }
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            found(match expr {
                Expr::Like { escape_char, .. } | Expr::ILike { escape_char, .. } => {
                    other_escape(escape_char).is_some()
                }
                Expr::Collate { .. }
                | Expr::BinaryOp {
                    op: BinaryOperator::PGCustomBinaryOperator(_),
                    ..
                } => true,
                Expr::Function(f) => {
                    f.name.0.len() > 1
                        || matches!(f.args, ast::FunctionArguments::Subquery(_))
                        || is_rewritten(f)
                }
                Expr::Cast { data_type, .. } => target(data_type).is_some(),
                Expr::TypedString(typed) => target(&typed.data_type).is_some(),
                Expr::Identifier(ident) => keyword_function(ident).is_some(),
                _ => false,
            })
        }
    }
    fn found(is: bool) -> ControlFlow<()> {
        if is {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
    statement.visit(&mut Finder).is_break()
}

fn is_rewritten(function: &ast::Function) -> bool {
    let name = function.name.to_string().to_ascii_lowercase();
    matches!(
        name.as_str(),
        "generate_subscripts"
            | "to_regclass"
            | "to_regtype"
            | "to_regnamespace"
            | "to_regrole"
            | "to_regproc"
    )
}

fn is_qualified(name: &ObjectName) -> bool {
    matches!(schema_and_name(name), Some((Some(schema), _)) if schema == "pg_catalog")
}

/// A name's schema, if it has one, and its last part, folded.
fn schema_and_name(name: &ObjectName) -> Option<(Option<String>, String)> {
    let mut parts = name.0.iter().rev();
    let last = fold(parts.next()?.as_ident()?);
    let schema = match parts.next() {
        Some(part) => Some(fold(part.as_ident()?)),
        None => None,
    };
    Some((schema, last))
}

fn names_system(name: &ObjectName) -> bool {
    schema_and_name(name).is_some_and(|(schema, name)| is_system(schema.as_deref(), &name))
}

/// What a cast to one of PostgreSQL's catalog types becomes.
enum Target {
    /// Another type.
    Type(ast::DataType),
    /// An object identifier: the stem of our functions' names.
    Object(&'static str),
}

fn target(data_type: &ast::DataType) -> Option<Target> {
    let text = || Some(Target::Type(ast::DataType::Text));
    match data_type {
        ast::DataType::Regclass => Some(Target::Object("regclass")),
        ast::DataType::Array(ast::ArrayElemTypeDef::SquareBracket(item, size)) => {
            match target(item)? {
                Target::Type(item) => Some(Target::Type(ast::DataType::Array(
                    ast::ArrayElemTypeDef::SquareBracket(Box::new(item), *size),
                ))),
                Target::Object(_) => None,
            }
        }
        ast::DataType::Custom(name, _) => {
            let (schema, name) = schema_and_name(name)?;
            match name.as_str() {
                "oid" | "xid" | "cid" | "cardinal_number" => {
                    Some(Target::Type(ast::DataType::Int4(None)))
                }
                "name" | "cstring" | "unknown" | "sql_identifier" | "character_data"
                | "yes_or_no" | "pg_node_tree" | "aclitem" => text(),
                "char" if schema.is_some() || data_type.to_string().contains('"') => text(),
                "regclass" => Some(Target::Object("regclass")),
                "regtype" => Some(Target::Object("regtype")),
                "regnamespace" => Some(Target::Object("regnamespace")),
                "regrole" => Some(Target::Object("regrole")),
                "regproc" | "regprocedure" => Some(Target::Object("regproc")),
                "int2vector" | "oidvector" => {
                    let item = if name == "int2vector" {
                        ast::DataType::Int2(None)
                    } else {
                        ast::DataType::Int4(None)
                    };
                    Some(Target::Type(ast::DataType::Array(
                        ast::ArrayElemTypeDef::SquareBracket(Box::new(item), None),
                    )))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

struct Rewriter;

impl VisitorMut for Rewriter {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut ast::TableFactor) -> ControlFlow<()> {
        if let ast::TableFactor::Table {
            name,
            args: Some(_),
            ..
        }
        | ast::TableFactor::Function { name, .. } = factor
        {
            unqualify(name);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<()> {
        if is_empty(select) {
            drop_hard_items(select);
        }
        for item in &mut select.projection {
            if let ast::SelectItem::UnnamedExpr(Expr::Identifier(ident)) = item {
                if let Some(name) = keyword_function(ident) {
                    *item = ast::SelectItem::ExprWithAlias {
                        expr: call(name, vec![]),
                        alias: ast::Ident::new(name),
                    };
                }
            }
            if let ast::SelectItem::UnnamedExpr(expr)
            | ast::SelectItem::ExprWithAlias { expr, .. } = item
            {
                show_object(expr);
                let _ = expr.visit(&mut ExistsAsCount);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Some(constant) = without_rows(expr) {
            *expr = constant;
        }
        if let Some(expanded) = expanded_array(expr) {
            *expr = expanded;
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Collate {
                expr: inner,
                collation,
            } if is_bytewise(collation) => *expr = take(inner),
            Expr::BinaryOp { left, op, right } => {
                plain_operator(op);
                if *op == BinaryOperator::StringConcat {
                    show_again(left);
                    show_again(right);
                }
            }
            Expr::Cast { .. } => cast(expr),
            Expr::TypedString(typed) if target(&typed.data_type).is_some() => {
                *expr = Expr::Cast {
                    kind: ast::CastKind::DoubleColon,
                    expr: Box::new(Expr::Value(typed.value.clone())),
                    data_type: typed.data_type.clone(),
                    array: false,
                    format: None,
                };
                cast(expr);
            }
            Expr::Identifier(ident) => {
                if let Some(name) = keyword_function(ident) {
                    *expr = call(name, vec![]);
                }
            }
            Expr::Function(function) => {
                unqualify(&mut function.name);
                if let Some(rewritten) = self::function(function) {
                    *expr = rewritten;
                }
            }
            Expr::Like {
                pattern,
                escape_char,
                ..
            }
            | Expr::ILike {
                pattern,
                escape_char,
                ..
            } => {
                if let Some(escape) = other_escape(escape_char) {
                    *escape_char = None;
                    let escape = Expr::Value(ast::Value::SingleQuotedString(escape).into());
                    **pattern = call("__like_pattern", vec![take(pattern), escape]);
                }
            }
            Expr::Subquery(query) => {
                if let Some(condition) = aggregate(query) {
                    *expr = when(condition, Expr::Subquery(query.clone()));
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// In a SELECT list, where DataFusion has no EXISTS, its rows are counted.
struct ExistsAsCount;

impl VisitorMut for ExistsAsCount {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let Expr::Exists { subquery, negated } = expr else {
            return ControlFlow::Continue(());
        };
        let ast::SetExpr::Select(select) = subquery.body.as_mut() else {
            return ControlFlow::Continue(());
        };
        if subquery.with.is_some()
            || is_empty(select)
            || is_grouped(select)
            || !relations(&select.from).any(names_system)
        {
            return ControlFlow::Continue(());
        }
        let one = || Expr::Value(ast::Value::Number("1".into(), false).into());
        let zero = Expr::Value(ast::Value::Number("0".into(), false).into());
        select.distinct = None;
        select.projection = vec![ast::SelectItem::UnnamedExpr(call("count", vec![one()]))];
        subquery.order_by = None;
        subquery.limit_clause = None;
        let op = if *negated {
            BinaryOperator::Eq
        } else {
            BinaryOperator::Gt
        };
        let count = call(
            "coalesce",
            vec![Expr::Subquery(subquery.clone()), zero.clone()],
        );
        *expr = Expr::BinaryOp {
            left: Box::new(count),
            op,
            right: Box::new(zero),
        };
        ControlFlow::Continue(())
    }
}

/// JDBC's `(information_schema._pg_expandarray(a)).n`: an array's subscripts, and the
/// `.x` of it: its items. The function alone stands for the items.
fn expanded_array(expr: &Expr) -> Option<Expr> {
    let argument = |expr: &Expr| match expr {
        Expr::Function(ast::Function {
            name,
            args: ast::FunctionArguments::List(list),
            ..
        }) if schema_and_name(name).is_some_and(|(_, name)| name == "_pg_expandarray") => {
            match list.args.as_slice() {
                [ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(array))] => {
                    Some(array.clone())
                }
                _ => None,
            }
        }
        _ => None,
    };
    if let Some(array) = argument(expr) {
        return Some(call("unnest", vec![array]));
    }
    let Expr::CompoundFieldAccess { root, access_chain } = expr else {
        return None;
    };
    let Expr::Nested(inner) = root.as_ref() else {
        return None;
    };
    let [ast::AccessExpr::Dot(Expr::Identifier(field))] = access_chain.as_slice() else {
        return None;
    };
    match (fold(field).as_str(), argument(inner)) {
        ("n", Some(array)) => {
            let first = Expr::Value(ast::Value::Number("1".into(), false).into());
            Some(call("generate_subscripts", vec![array, first]))
        }
        ("x", Some(array)) => Some(call("unnest", vec![array])),
        ("x", None) if matches!(**inner, Expr::Identifier(_) | Expr::CompoundIdentifier(_)) => {
            Some((**inner).clone())
        }
        _ => None,
    }
}

fn take(expr: &mut Box<Expr>) -> Expr {
    std::mem::replace(&mut **expr, null())
}

fn null() -> Expr {
    Expr::Value(ast::Value::Null.into())
}

fn boolean(value: bool) -> Expr {
    Expr::Value(ast::Value::Boolean(value).into())
}

fn call(name: &str, args: Vec<Expr>) -> Expr {
    let args = args
        .into_iter()
        .map(|e| ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(e)))
        .collect();
    Expr::Function(function_of(
        name,
        ast::FunctionArgumentList {
            duplicate_treatment: None,
            args,
            clauses: vec![],
        },
    ))
}

fn function_of(name: &str, args: ast::FunctionArgumentList) -> ast::Function {
    ast::Function {
        name: ObjectName::from(vec![ast::Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: ast::FunctionArguments::None,
        args: ast::FunctionArguments::List(args),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    }
}

/// Functions that SQL calls without parentheses and the parser takes for columns.
fn keyword_function(ident: &ast::Ident) -> Option<&'static str> {
    if ident.quote_style.is_some() {
        return None;
    }
    ["current_schema", "current_role"]
        .into_iter()
        .find(|name| ident.value.eq_ignore_ascii_case(name))
}

fn unqualify(name: &mut ObjectName) {
    if is_qualified(name) {
        name.0.drain(..name.0.len() - 1);
    }
}

fn is_bytewise(collation: &ObjectName) -> bool {
    let name = schema_and_name(collation).map(|(_, name)| name.to_ascii_lowercase());
    matches!(
        name.as_deref(),
        Some("default" | "c" | "posix" | "ucs_basic")
    )
}

fn plain_operator(op: &mut BinaryOperator) {
    let BinaryOperator::PGCustomBinaryOperator(parts) = op else {
        return;
    };
    let plain = match parts.last().map(String::as_str) {
        Some("~") => BinaryOperator::PGRegexMatch,
        Some("~*") => BinaryOperator::PGRegexIMatch,
        Some("!~") => BinaryOperator::PGRegexNotMatch,
        Some("!~*") => BinaryOperator::PGRegexNotIMatch,
        Some("~~") => BinaryOperator::PGLikeMatch,
        Some("!~~") => BinaryOperator::PGNotLikeMatch,
        Some("~~*") => BinaryOperator::PGILikeMatch,
        Some("!~~*") => BinaryOperator::PGNotILikeMatch,
        Some("=") => BinaryOperator::Eq,
        Some("<>") => BinaryOperator::NotEq,
        Some("<") => BinaryOperator::Lt,
        Some("<=") => BinaryOperator::LtEq,
        Some(">") => BinaryOperator::Gt,
        Some(">=") => BinaryOperator::GtEq,
        Some("+") => BinaryOperator::Plus,
        Some("-") => BinaryOperator::Minus,
        Some("*") => BinaryOperator::Multiply,
        Some("/") => BinaryOperator::Divide,
        Some("||") => BinaryOperator::StringConcat,
        _ => return,
    };
    *op = plain;
}

/// A cast to an object identifier or a type that is another here.
fn cast(expr: &mut Expr) {
    let Expr::Cast {
        expr: inner,
        data_type,
        ..
    } = expr
    else {
        return;
    };
    if let ast::DataType::Custom(name, _) = data_type {
        unqualify(name);
    }
    match target(data_type) {
        Some(Target::Object(stem)) => *expr = call(&format!("__{stem}_oid"), vec![take(inner)]),
        Some(Target::Type(other)) => *data_type = other,
        None => {}
    }
    let Expr::Cast {
        expr: inner,
        data_type,
        ..
    } = expr
    else {
        return;
    };
    if matches!(
        data_type,
        ast::DataType::Text | ast::DataType::Varchar(_) | ast::DataType::CharacterVarying(_)
    ) || is_text(data_type)
    {
        show_again(inner);
    }
}

fn is_text(data_type: &ast::DataType) -> bool {
    matches!(data_type, ast::DataType::Custom(name, _) if schema_and_name(name).is_some_and(|(_, n)| n == "text" || n == "varchar"))
}

/// An object id that was rewritten and is to be shown after all.
fn show_again(expr: &mut Expr) {
    let Expr::Function(function) = expr else {
        return;
    };
    let name = function.name.to_string();
    if let Some(stem) = name
        .strip_prefix("__reg")
        .and_then(|n| n.strip_suffix("_oid"))
    {
        function.name = ObjectName::from(vec![ast::Ident::new(format!("__reg{stem}_name"))]);
    }
}

/// A cast to an object identifier at the top of a SELECT list shows the name.
fn show_object(expr: &mut Expr) {
    match expr {
        Expr::Cast {
            expr: inner,
            data_type,
            ..
        } => {
            if let Some(Target::Object(stem)) = target(data_type) {
                *expr = call(&format!("__{stem}_name"), vec![take(inner)]);
            }
        }
        Expr::Function(function) => {
            let name = schema_and_name(&function.name)
                .map(|(_, name)| name)
                .unwrap_or_default();
            let stem = match name.as_str() {
                "to_regclass" => "regclass",
                "to_regtype" => "regtype",
                "to_regnamespace" => "regnamespace",
                "to_regrole" => "regrole",
                "to_regproc" => "regproc",
                _ => return,
            };
            let inner = std::mem::replace(expr, null());
            *expr = call(&format!("__{stem}_name"), vec![inner]);
        }
        _ => {}
    }
}

fn function(function: &mut ast::Function) -> Option<Expr> {
    if let ast::FunctionArguments::Subquery(query) = &mut function.args {
        if !function.name.to_string().eq_ignore_ascii_case("array") {
            return None;
        }
        return collect(query);
    }
    if function
        .name
        .to_string()
        .eq_ignore_ascii_case("generate_subscripts")
    {
        function.name = ObjectName::from(vec![ast::Ident::new("__subscripts")]);
        let inner = Expr::Function(function.clone());
        return Some(call("unnest", vec![inner]));
    }
    None
}

/// `ARRAY(SELECT ..)` as a scalar subquery.
fn collect(query: &mut ast::Query) -> Option<Expr> {
    let order_by = match query.order_by.take() {
        Some(ast::OrderBy {
            kind: ast::OrderByKind::Expressions(order),
            ..
        }) => order,
        Some(_) => return None,
        None => vec![],
    };
    let ast::SetExpr::Select(select) = query.body.as_mut() else {
        return None;
    };
    let item = single_item(select)?.clone();
    let order_by = order_by
        .into_iter()
        .map(|mut o| {
            // `ORDER BY 1` means the item.
            if matches!(&o.expr, Expr::Value(v) if matches!(&v.value, ast::Value::Number(n, _) if n == "1")) {
                o.expr = item.clone();
            }
            o
        })
        .collect::<Vec<_>>();
    let clauses = if order_by.is_empty() {
        vec![]
    } else {
        vec![ast::FunctionArgumentClause::OrderBy(order_by)]
    };
    let args = vec![ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(item))];
    let list = ast::FunctionArgumentList {
        duplicate_treatment: None,
        args,
        clauses,
    };
    select.projection = vec![ast::SelectItem::UnnamedExpr(Expr::Function(function_of(
        "array_agg",
        list,
    )))];
    // Of no rows, the array is empty.
    let items = Expr::Subquery(Box::new(query.clone()));
    Some(call("coalesce", vec![items, call("make_array", vec![])]))
}

fn single_item(select: &ast::Select) -> Option<&Expr> {
    match select.projection.as_slice() {
        [ast::SelectItem::UnnamedExpr(expr) | ast::SelectItem::ExprWithAlias { expr, .. }] => {
            Some(expr)
        }
        _ => None,
    }
}

/// A scalar subquery over system tables, aggregated if it is not. What its WHERE
/// says of outer columns alone is taken out and returned.
fn aggregate(query: &mut ast::Query) -> Option<Expr> {
    if query.limit_clause.is_some() || query.fetch.is_some() || query.with.is_some() {
        return None;
    }
    let ast::SetExpr::Select(select) = query.body.as_mut() else {
        return None;
    };
    if !relations(&select.from).any(names_system) || is_grouped(select) {
        return None;
    }
    let item = single_item(select)?.clone();
    query.order_by = None;
    select.distinct = None;
    select.projection = vec![ast::SelectItem::UnnamedExpr(call(
        "first_value",
        vec![item],
    ))];
    take_outer_conditions(select)
}

/// Removes from WHERE the conditions on columns of outer queries only.
fn take_outer_conditions(select: &mut ast::Select) -> Option<Expr> {
    let own: Vec<String> = select
        .from
        .iter()
        .flat_map(|t| std::iter::once(&t.relation).chain(t.joins.iter().map(|j| &j.relation)))
        .filter_map(|factor| match factor {
            ast::TableFactor::Table {
                alias: Some(alias), ..
            }
            | ast::TableFactor::Derived {
                alias: Some(alias), ..
            } => Some(fold(&alias.name)),
            ast::TableFactor::Table { name, .. } => schema_and_name(name).map(|(_, name)| name),
            _ => None,
        })
        .collect();
    let mut conditions = Vec::new();
    conjuncts(select.selection.take()?, &mut conditions);
    let (outer, inner): (Vec<Expr>, Vec<Expr>) =
        conditions.into_iter().partition(|c| is_outer(c, &own));
    select.selection = conjunction(inner);
    conjunction(outer)
}

fn conjuncts(expr: Expr, into: &mut Vec<Expr>) {
    match expr {
        Expr::BinaryOp {
            left,
            op: BinaryOperator::And,
            right,
        } => {
            conjuncts(*left, into);
            conjuncts(*right, into);
        }
        Expr::Nested(inner)
            if matches!(
                *inner,
                Expr::BinaryOp {
                    op: BinaryOperator::And,
                    ..
                }
            ) =>
        {
            conjuncts(*inner, into)
        }
        other => into.push(other),
    }
}

fn conjunction(conditions: Vec<Expr>) -> Option<Expr> {
    conditions.into_iter().reduce(|left, right| Expr::BinaryOp {
        left: Box::new(left),
        op: BinaryOperator::And,
        right: Box::new(right),
    })
}

/// Whether a condition names columns, and none of the relations in `own`.
fn is_outer(condition: &Expr, own: &[String]) -> bool {
    struct Finder<'a> {
        own: &'a [String],
        named: bool,
    }
    impl Visitor for Finder<'_> {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::CompoundIdentifier(parts) => {
                    self.named = true;
                    let qualifier = parts.iter().rev().nth(1).map(fold).unwrap_or_default();
                    if self.own.contains(&qualifier) {
                        return ControlFlow::Break(());
                    }
                }
                Expr::Identifier(_)
                | Expr::Subquery(_)
                | Expr::Exists { .. }
                | Expr::InSubquery { .. } => {
                    return ControlFlow::Break(());
                }
                _ => {}
            }
            ControlFlow::Continue(())
        }
    }
    let mut finder = Finder { own, named: false };
    condition.visit(&mut finder).is_continue() && finder.named
}

/// `CASE WHEN condition THEN result END`
fn when(condition: Expr, result: Expr) -> Expr {
    Expr::Case {
        case_token: ast::helpers::attached_token::AttachedToken::empty(),
        end_token: ast::helpers::attached_token::AttachedToken::empty(),
        operand: None,
        conditions: vec![ast::CaseWhen { condition, result }],
        else_result: None,
    }
}

/// The escape character of LIKE if it is not the backslash, which DataFusion knows.
fn other_escape(escape: &Option<ast::ValueWithSpan>) -> Option<String> {
    match escape.as_ref().map(|v| &v.value) {
        Some(ast::Value::SingleQuotedString(s)) if s != "\\" => Some(s.clone()),
        _ => None,
    }
}

/// Whether a SELECT groups, or aggregates all its rows into one.
fn is_grouped(select: &ast::Select) -> bool {
    /// Finds an aggregate that is not a subquery's own.
    struct Finder {
        depth: usize,
    }
    impl Visitor for Finder {
        type Break = ();
        fn pre_visit_query(&mut self, _: &ast::Query) -> ControlFlow<()> {
            self.depth += 1;
            ControlFlow::Continue(())
        }
        fn post_visit_query(&mut self, _: &ast::Query) -> ControlFlow<()> {
            self.depth -= 1;
            ControlFlow::Continue(())
        }
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Function(f)
                    if self.depth == 0 && f.over.is_none() && is_aggregate(&f.name) =>
                {
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    let has_groups =
        !matches!(&select.group_by, ast::GroupByExpr::Expressions(list, _) if list.is_empty());
    has_groups
        || select.having.is_some()
        || select.projection.visit(&mut Finder { depth: 0 }).is_break()
}

fn is_aggregate(name: &ObjectName) -> bool {
    let name = schema_and_name(name)
        .map(|(_, name)| name)
        .unwrap_or_default();
    matches!(
        name.as_str(),
        "array_agg"
            | "avg"
            | "bool_and"
            | "bool_or"
            | "count"
            | "every"
            | "first_value"
            | "json_agg"
            | "max"
            | "min"
            | "string_agg"
            | "sum"
    )
}

/// The names of all relations of a FROM clause.
fn relations(from: &[ast::TableWithJoins]) -> impl Iterator<Item = &ObjectName> {
    from.iter()
        .flat_map(|t| std::iter::once(&t.relation).chain(t.joins.iter().map(|j| &j.relation)))
        .filter_map(|factor| match factor {
            ast::TableFactor::Table {
                name, args: None, ..
            } => Some(name),
            _ => None,
        })
}

/// Whether a SELECT has no row because it inner-joins what is always empty.
fn is_empty(select: &ast::Select) -> bool {
    use ast::JoinOperator as J;
    let names_empty = |factor: &ast::TableFactor| match factor {
        ast::TableFactor::Table {
            name, args: None, ..
        } => schema_and_name(name)
            .is_some_and(|(schema, name)| is_always_empty(schema.as_deref(), &name)),
        _ => false,
    };
    let is_inner = |operator: &J| matches!(operator, J::Join(_) | J::Inner(_) | J::CrossJoin(_));
    let keeps_left =
        |operator: &J| is_inner(operator) || matches!(operator, J::Left(_) | J::LeftOuter(_));
    !is_grouped(select)
        && select.from.iter().any(|t| {
            (names_empty(&t.relation) && t.joins.iter().all(|j| keeps_left(&j.join_operator)))
                || t.joins
                    .iter()
                    .any(|j| is_inner(&j.join_operator) && names_empty(&j.relation))
                    && t.joins.iter().all(|j| keeps_left(&j.join_operator))
        })
}

fn has_no_rows(query: &ast::Query) -> bool {
    match query.body.as_ref() {
        ast::SetExpr::Select(select) => query.with.is_none() && is_empty(select),
        _ => false,
    }
}

/// The constant that an expression over a subquery without rows is.
fn without_rows(expr: &Expr) -> Option<Expr> {
    match expr {
        Expr::Subquery(query) if has_no_rows(query) => Some(null()),
        // There are no composite types.
        Expr::Case {
            operand: None,
            conditions,
            else_result,
            ..
        } if matches!(conditions.as_slice(), [only] if only.condition.to_string().ends_with(".typtype = 'c'"))
            && else_result.as_ref().is_none_or(|e| **e == null()) =>
        {
            Some(null())
        }
        Expr::Subquery(query) if query.with.as_ref().is_some_and(|w| w.recursive) => Some(null()),
        Expr::Exists { subquery, negated } if has_no_rows(subquery) => Some(boolean(*negated)),
        Expr::InSubquery {
            subquery, negated, ..
        } if has_no_rows(subquery) => Some(boolean(*negated)),
        Expr::InSubquery {
            expr,
            subquery,
            negated,
        } if subquery
            .to_string()
            .contains("current_setting('search_path')") =>
        {
            let list = vec![Expr::Value(
                ast::Value::SingleQuotedString("public".into()).into(),
            )];
            Some(Expr::InList {
                expr: expr.clone(),
                list,
                negated: *negated,
            })
        }
        Expr::Function(f) => match &f.args {
            ast::FunctionArguments::Subquery(query)
                if has_no_rows(query) || unnests_storage_options(query) =>
            {
                let item =
                    ast::ArrayElemTypeDef::SquareBracket(Box::new(ast::DataType::Text), None);
                let empty = Box::new(call("make_array", vec![]));
                let data_type = ast::DataType::Array(item);
                Some(Expr::Cast {
                    kind: ast::CastKind::DoubleColon,
                    expr: empty,
                    data_type,
                    array: false,
                    format: None,
                })
            }
            _ => None,
        },
        _ => None,
    }
}

/// psql's `\d+` lists the options of the relation in which long values are stored;
/// there is none.
fn unnests_storage_options(query: &ast::Query) -> bool {
    let text = query.to_string();
    text.contains("'toast.'") && text.to_ascii_lowercase().contains("unnest(")
}

/// In a SELECT without rows, what cannot be planned may as well be NULL.
fn drop_hard_items(select: &mut ast::Select) {
    struct Finder;
    impl Visitor for Finder {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Subquery(_)
                | Expr::CompoundFieldAccess { .. }
                | Expr::Function(ast::Function {
                    args: ast::FunctionArguments::Subquery(_),
                    ..
                }) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    for item in &mut select.projection {
        if let ast::SelectItem::UnnamedExpr(expr) | ast::SelectItem::ExprWithAlias { expr, .. } =
            item
        {
            if Visit::visit(&*expr, &mut Finder).is_break() {
                *expr = null();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::parse_query;

    fn rewritten(sql: &str) -> String {
        let mut statement = parse_query(sql).unwrap();
        rewrite(&mut statement);
        statement.to_string()
    }

    #[test]
    fn ordinary_statements_are_left_alone() {
        for sql in [
            "SELECT a, a FROM t WHERE b = 'pg_class'",
            "SELECT (SELECT max(x) FROM u WHERE u.y = t.y) FROM t",
            "SELECT a::text, b::int FROM t",
        ] {
            let mut statement = parse_query(sql).unwrap();
            let before = statement.clone();
            assert!(!rewrite(&mut statement), "{sql}");
            assert_eq!(statement, before);
        }
    }

    #[test]
    fn notations() {
        for (sql, expected) in [
            (
                "SELECT pg_catalog.f(x) FROM t WHERE a OPERATOR(pg_catalog.~) '^(t)$' COLLATE pg_catalog.default",
                "SELECT f(x) FROM t WHERE a ~ '^(t)$'",
            ),
            ("SELECT x::pg_catalog.oid, y::name FROM t", "SELECT x::INT4, y::TEXT FROM t"),
            ("SELECT 1 WHERE x = 't'::regclass", "SELECT 1 WHERE x = __regclass_oid('t')"),
            ("SELECT x::regclass FROM t", "SELECT __regclass_name(x) FROM t"),
            ("SELECT 1 WHERE x::regclass::text = 'a'", "SELECT 1 WHERE __regclass_name(x)::TEXT = 'a'"),
            ("SELECT 1 WHERE a = regclass 't'", "SELECT 1 WHERE a = __regclass_oid('t')"),
            ("SELECT 1 WHERE a LIKE 'x/_' ESCAPE '/'", "SELECT 1 WHERE a LIKE __like_pattern('x/_', '/')"),
            ("SELECT current_schema", "SELECT current_schema() AS current_schema"),
        ] {
            assert_eq!(rewritten(sql), expected, "{sql}");
        }
    }

    #[test]
    fn subqueries() {
        for (sql, expected) in [
            (
                "SELECT (SELECT adbin FROM pg_attrdef d WHERE d.adrelid = a.attrelid) FROM pg_attribute a",
                "SELECT (SELECT first_value(adbin) FROM pg_attrdef d WHERE d.adrelid = a.attrelid) FROM pg_attribute a",
            ),
            (
                "SELECT (SELECT adbin FROM pg_attrdef d WHERE d.adrelid = a.attrelid AND a.atthasdef) FROM pg_attribute a",
                "SELECT CASE WHEN a.atthasdef THEN (SELECT first_value(adbin) FROM pg_attrdef d WHERE d.adrelid = a.attrelid) END \
                 FROM pg_attribute a",
            ),
            ("SELECT (SELECT x FROM pg_policy), 1 FROM pg_class", "SELECT NULL, 1 FROM pg_class"),
            (
                "SELECT EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid) FROM pg_class c",
                "SELECT coalesce((SELECT count(1) FROM pg_index i WHERE i.indrelid = c.oid), 0) > 0 FROM pg_class c",
            ),
            (
                "SELECT (information_schema._pg_expandarray(i.indkey)).n, information_schema._pg_expandarray(i.indkey) FROM pg_index i",
                "SELECT unnest(__subscripts(i.indkey, 1)), unnest(i.indkey) FROM pg_index i",
            ),
            ("SELECT (SELECT max(a) FROM t) FROM pg_policy", "SELECT NULL FROM pg_policy"),
            ("SELECT 1 FROM pg_class WHERE EXISTS (SELECT 1 FROM pg_trigger)", "SELECT 1 FROM pg_class WHERE false"),
            (
                "SELECT ARRAY(SELECT rolname FROM pg_roles ORDER BY 1) FROM pg_class",
                "SELECT coalesce((SELECT array_agg(rolname ORDER BY rolname) FROM pg_roles), make_array()) FROM pg_class",
            ),
            ("SELECT CASE WHEN t.typtype = 'c' THEN (SELECT 1) ELSE NULL END FROM pg_type t", "SELECT NULL FROM pg_type t"),
            ("SELECT ARRAY(SELECT 1 FROM pg_policy) FROM pg_class", "SELECT make_array()::TEXT[] FROM pg_class"),
            ("SELECT count(*), (SELECT count(*) FROM pg_policy) FROM pg_class", "SELECT count(*), (SELECT count(*) FROM pg_policy) FROM pg_class"),
        ] {
            assert_eq!(rewritten(sql), expected, "{sql}");
        }
    }

    #[test]
    fn an_outer_join_with_what_is_empty_has_rows() {
        let sql = "SELECT (SELECT relname FROM pg_class c LEFT JOIN pg_policy p ON true LIMIT 1)";
        assert!(rewritten(sql).contains("pg_policy"), "{}", rewritten(sql));
    }
}
