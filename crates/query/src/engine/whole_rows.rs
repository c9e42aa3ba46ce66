//! Rows as JSON: `row_to_json(t)`, `json_agg(t)` and their like, where `t` is no column but a whole row of FROM.
//!
//! ```text
//! json_agg(t)               json_agg(__row_json('a', t.a, 'b', t.b))
//! row_to_json(t)            to_json(__row_json(..))
//! row_to_json(ROW(x, y))    to_json(__row_json('f1', x, 'f2', y))
//! ```
//!
//! Columns are those of the table, the CTE or the subquery, as far as the syntax tells them; other rows stay what the
//! planner makes of them. The row of an outer join's other side that is missing is NULL: one all of whose columns are NULL is
//! taken for it.

use std::ops::ControlFlow;

use chronos_model::Catalog;
use datafusion::sql::sqlparser::ast::{self, Expr, VisitMut, VisitorMut};

use super::dialect::parse_expression;
use crate::sql::{fold, quote};

/// Functions of JSON that may be given rows.
const TAKERS: &[&str] = &[
    "row_to_json",
    "to_json",
    "to_jsonb",
    "json_agg",
    "jsonb_agg",
    "json_build_object",
    "jsonb_build_object",
    "json_build_array",
    "jsonb_build_array",
    "json_object_agg",
    "jsonb_object_agg",
];

/// A relation of FROM.
struct Relation {
    alias: String,
    columns: Vec<String>,
    /// Whether an outer join may leave it out.
    is_nullable: bool,
}

/// Rewrites what is said of whole rows.
pub(super) fn rewrite(statement: &mut ast::Statement, catalog: &Catalog) {
    let mut rewriter = Rewriter {
        catalog,
        ctes: Vec::new(),
        marks: Vec::new(),
    };
    let _ = statement.visit(&mut rewriter);
}

struct Rewriter<'a> {
    catalog: &'a Catalog,
    /// CTEs in sight, innermost last, and their columns if they are known.
    ctes: Vec<(String, Option<Vec<String>>)>,
    /// How many CTEs were in sight before each query around this one.
    marks: Vec<usize>,
}

impl VisitorMut for Rewriter<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<()> {
        self.marks.push(self.ctes.len());
        let ctes = query.with.iter().flat_map(|with| &with.cte_tables);
        for cte in ctes {
            let columns = self.named(&cte.alias, |this| this.of_query(&cte.query));
            self.ctes.push((fold(&cte.alias.name), columns));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut ast::Query) -> ControlFlow<()> {
        let mark = self.marks.pop().unwrap_or(0);
        self.ctes.truncate(mark);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<()> {
        let mut relations = Vec::new();
        for table in &select.from {
            self.of_join(table, &mut relations);
        }
        let mut expressions = Within {
            relations: &relations,
            depth: 0,
        };
        let _ = select.visit(&mut expressions);
        ControlFlow::Continue(())
    }
}

impl Rewriter<'_> {
    fn of_join(&self, table: &ast::TableWithJoins, found: &mut Vec<Relation>) {
        let from = found.len();
        found.extend(self.relation(&table.relation));
        for join in &table.joins {
            use ast::JoinOperator as J;
            let (left, right) = match &join.join_operator {
                J::Left(_) | J::LeftOuter(_) => (false, true),
                J::Right(_) | J::RightOuter(_) => (true, false),
                J::FullOuter(_) => (true, true),
                _ => (false, false),
            };
            for before in &mut found[from..] {
                before.is_nullable |= left;
            }
            found.extend(self.relation(&join.relation).map(|relation| Relation {
                is_nullable: right,
                ..relation
            }));
        }
    }

    fn relation(&self, factor: &ast::TableFactor) -> Option<Relation> {
        let (alias, columns) = match factor {
            ast::TableFactor::Table {
                name, alias, args, ..
            } => {
                let is_call = args.as_ref().is_some_and(|args| !is_temporal(args));
                if is_call {
                    return None;
                }
                let table = fold(name.0.last()?.as_ident()?);
                let columns = match alias {
                    Some(alias) => self.named(alias, |this| this.of_table(&table)),
                    None => self.of_table(&table),
                };
                let alias = alias.as_ref().map_or(table, |alias| fold(&alias.name));
                (alias, columns)
            }
            ast::TableFactor::Derived {
                subquery,
                alias: Some(alias),
                ..
            } => {
                let columns = self.named(alias, |this| this.of_query(subquery));
                (fold(&alias.name), columns)
            }
            _ => return None,
        };
        Some(Relation {
            alias,
            columns: columns?,
            is_nullable: false,
        })
    }

    /// Columns under the names that an alias gives the first of them.
    fn named(
        &self,
        alias: &ast::TableAlias,
        columns: impl FnOnce(&Self) -> Option<Vec<String>>,
    ) -> Option<Vec<String>> {
        let mut columns = columns(self)?;
        for (column, given) in columns.iter_mut().zip(&alias.columns) {
            *column = fold(&given.name);
        }
        Some(columns)
    }

    fn of_table(&self, name: &str) -> Option<Vec<String>> {
        if let Some((_, columns)) = self.ctes.iter().rev().find(|(cte, _)| cte == name) {
            return columns.clone();
        }
        let table = self.catalog.table(name)?;
        Some(table.columns.iter().map(|c| c.name.clone()).collect())
    }

    fn of_query(&self, query: &ast::Query) -> Option<Vec<String>> {
        if query.with.is_some() {
            return None;
        }
        self.of_body(&query.body)
    }

    fn of_body(&self, body: &ast::SetExpr) -> Option<Vec<String>> {
        match body {
            ast::SetExpr::Select(select) => self.of_select(select),
            ast::SetExpr::Query(query) => self.of_query(query),
            ast::SetExpr::SetOperation { left, .. } => self.of_body(left),
            ast::SetExpr::Values(values) => {
                let width = values.rows.first()?.content.len();
                Some((1..=width).map(|i| format!("column{i}")).collect())
            }
            _ => None,
        }
    }

    fn of_select(&self, select: &ast::Select) -> Option<Vec<String>> {
        let mut columns = Vec::new();
        for item in &select.projection {
            match item {
                ast::SelectItem::ExprWithAlias { alias, .. } => columns.push(fold(alias)),
                ast::SelectItem::UnnamedExpr(Expr::Identifier(name)) => columns.push(fold(name)),
                ast::SelectItem::UnnamedExpr(Expr::CompoundIdentifier(path)) => {
                    columns.push(fold(path.last()?));
                }
                ast::SelectItem::Wildcard(_) => columns.extend(self.of_all(&select.from)?),
                ast::SelectItem::QualifiedWildcard(
                    ast::SelectItemQualifiedWildcardKind::ObjectName(name),
                    _,
                ) => {
                    let wanted = fold(name.0.last()?.as_ident()?);
                    let mut relations = Vec::new();
                    for table in &select.from {
                        self.of_join(table, &mut relations);
                    }
                    let found = relations.into_iter().find(|r| r.alias == wanted)?;
                    columns.extend(found.columns);
                }
                _ => return None,
            }
        }
        Some(columns)
    }

    /// What `*` stands for; `None`: a relation is not known, or joins merge columns.
    fn of_all(&self, from: &[ast::TableWithJoins]) -> Option<Vec<String>> {
        let mut columns = Vec::new();
        for table in from {
            columns.extend(self.relation(&table.relation)?.columns);
            for join in &table.joins {
                use ast::JoinOperator as J;
                let constraint = match &join.join_operator {
                    J::Join(c) | J::Inner(c) | J::Left(c) | J::LeftOuter(c) => c,
                    J::Right(c) | J::RightOuter(c) | J::FullOuter(c) | J::CrossJoin(c) => c,
                    _ => return None,
                };
                if matches!(
                    constraint,
                    ast::JoinConstraint::Using(_) | ast::JoinConstraint::Natural
                ) {
                    return None;
                }
                columns.extend(self.relation(&join.relation)?.columns);
            }
        }
        Some(columns)
    }
}

/// `t(__sys_as_of(..))` is a table.
fn is_temporal(args: &ast::TableFunctionArgs) -> bool {
    args.args.iter().all(|argument| {
        let text = argument.to_string();
        text.starts_with("__sys_") || text.starts_with("__valid_")
    })
}

/// The expressions of one SELECT, without those of queries within it.
struct Within<'a> {
    relations: &'a [Relation],
    depth: usize,
}

impl VisitorMut for Within<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut ast::Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut ast::Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let (0, Expr::Function(function)) = (self.depth, expr) {
            self.arguments(function);
        }
        ControlFlow::Continue(())
    }
}

impl Within<'_> {
    fn arguments(&self, function: &mut ast::Function) {
        let name = function.name.to_string().to_ascii_lowercase();
        if !TAKERS.contains(&name.as_str()) {
            return;
        }
        let ast::FunctionArguments::List(list) = &mut function.args else {
            return;
        };
        let mut is_row = false;
        for argument in &mut list.args {
            let ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(given)) = argument else {
                continue;
            };
            let row = match given {
                Expr::Identifier(name) => self.whole(&fold(name)),
                Expr::Function(row) => of_items(row),
                Expr::Tuple(items) => object(items.iter().map(ToString::to_string)),
                _ => None,
            };
            if let Some(Ok(row)) = row.map(|text| parse_expression(&text)) {
                *given = row;
                is_row = true;
            }
        }
        let other = match name.as_str() {
            _ if !is_row => return,
            "row_to_json" => "to_json",
            "json_agg" => "__json_agg_rows",
            _ => return,
        };
        function.name = ast::ObjectName::from(vec![ast::Ident::new(other)]);
    }

    /// The row of a relation as a call; `None`: there is none, or a column has the name.
    fn whole(&self, name: &str) -> Option<String> {
        if self
            .relations
            .iter()
            .any(|r| r.columns.iter().any(|c| c == name))
        {
            return None;
        }
        let relation = self.relations.iter().find(|r| r.alias == name)?;
        let column = |c: &String| format!("{}.{}", quote(name), quote(c));
        let members = relation.columns.iter().map(|c| {
            let key = c.replace('\'', "''");
            format!("'{key}', {}", column(c))
        });
        let row = format!("__row_json({})", members.collect::<Vec<_>>().join(", "));
        if !relation.is_nullable {
            return Some(row);
        }
        let missing = relation
            .columns
            .iter()
            .map(|c| format!("{} IS NULL", column(c)));
        let missing = missing.collect::<Vec<_>>().join(" AND ");
        Some(format!(
            "CAST(CASE WHEN {missing} THEN NULL ELSE {row} END AS JSON)"
        ))
    }
}

fn of_items(function: &ast::Function) -> Option<String> {
    if !function.name.to_string().eq_ignore_ascii_case("row") {
        return None;
    }
    match &function.args {
        ast::FunctionArguments::List(list) => object(list.args.iter().map(ToString::to_string)),
        _ => None,
    }
}

fn object(items: impl Iterator<Item = String>) -> Option<String> {
    let members = items
        .enumerate()
        .map(|(i, item)| format!("'f{}', {item}", i + 1));
    let members: Vec<String> = members.collect();
    (!members.is_empty()).then(|| format!("__row_json({})", members.join(", ")))
}
