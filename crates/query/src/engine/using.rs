//! JOIN .. USING and NATURAL JOIN: the joined columns are merged, come first in `*`, and in
//! outer joins have the value of whichever side is there.
//!
//! The engine keeps both sides' columns, shows the left one where it stands, and takes it
//! for the merged column. So such joins are put into marked parentheses, and planned here
//! when the engine comes to them: merged columns, then the others of the left and of the
//! right side. A SELECT without `*` over inner and left joins only is the engine's own.
//!
//! What is merged has one name: of an inner join's right column that is the merged one; a
//! left join's is kept beside it where the SELECT names it. Others are not to be had.

use std::ops::ControlFlow;
use std::sync::Arc;

use chronos_model::SystemColumn;
use datafusion::common::{Column, DFSchema};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::planner::RelationPlannerContext;
use datafusion::logical_expr::{when, Expr, JoinType, LogicalPlan, LogicalPlanBuilder, Projection};
use datafusion::sql::sqlparser::ast::{
    self, JoinConstraint, JoinOperator, TableFactor, TableWithJoins, Visit, VisitMut, Visitor,
    VisitorMut,
};

use crate::sql::fold;
use crate::QueryError;

const MARK: &str = "__using";

/// Puts joins with merged columns into marked parentheses.
pub(super) fn mark(statement: &mut ast::Statement) -> Result<(), QueryError> {
    struct Marker;
    impl VisitorMut for Marker {
        type Break = QueryError;
        fn pre_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<QueryError> {
            match mark_select(select) {
                Ok(()) => ControlFlow::Continue(()),
                Err(e) => ControlFlow::Break(e),
            }
        }
    }
    match statement.visit(&mut Marker) {
        ControlFlow::Break(e) => Err(e),
        ControlFlow::Continue(()) => Ok(()),
    }
}

fn mark_select(select: &mut ast::Select) -> Result<(), QueryError> {
    let shows_all = |item: &ast::SelectItem| matches!(item, ast::SelectItem::Wildcard(_));
    let mut marker = Joins {
        named: names_of(select),
        renamed: Vec::new(),
        has_outer: false,
        has_any: false,
    };
    let mut from = select.from.clone();
    for tables in &mut from {
        marker.mark(tables);
    }
    let has_star = select.projection.iter().any(shows_all);
    if !marker.has_any || !(has_star || marker.has_outer) {
        return Ok(());
    }
    let is_qualified =
        |item: &ast::SelectItem| matches!(item, ast::SelectItem::QualifiedWildcard(..));
    if select.projection.iter().any(is_qualified) {
        let what = "table.* beside * or with an outer JOIN USING";
        return Err(QueryError::unsupported(what));
    }
    select.from = from;
    let hidden: Vec<ast::ObjectName> = marker
        .renamed
        .iter()
        .filter(|r| r.is_hidden)
        .map(|r| ast::ObjectName::from(vec![r.to.clone()]))
        .collect();
    for item in &mut select.projection {
        // Under its new name, a column would show that.
        if let ast::SelectItem::UnnamedExpr(ast::Expr::CompoundIdentifier(parts)) = item {
            if let Some(own) = parts.last().cloned() {
                *item = ast::SelectItem::ExprWithAlias {
                    expr: ast::Expr::CompoundIdentifier(std::mem::take(parts)),
                    alias: own,
                };
            }
        }
        if let (ast::SelectItem::Wildcard(options), false) = (item, hidden.is_empty()) {
            options.opt_exclude = Some(ast::ExcludeSelectItem::Multiple(hidden.clone()));
        }
    }
    let _ = select.visit(&mut Renamer {
        renamed: &marker.renamed,
        depth: 0,
    });
    Ok(())
}

/// `table.column` pairs that the SELECT itself names.
fn names_of(select: &ast::Select) -> Vec<(String, String)> {
    struct Finder(Vec<(String, String)>);
    impl Visitor for Finder {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<()> {
            if let ast::Expr::CompoundIdentifier(parts) = expr {
                if let [table, column] = parts.as_slice() {
                    self.0.push((fold(table), fold(column)));
                }
            }
            ControlFlow::Continue(())
        }
    }
    let mut finder = Finder(Vec::new());
    let _ = select.visit(&mut finder);
    finder.0
}

/// A right side's column and what the SELECT finds it as.
struct Renamed {
    table: String,
    column: String,
    to: ast::Ident,
    /// A column of its own, not shown by `*`.
    is_hidden: bool,
}

/// Marks joins and gathers what that means for the SELECT.
struct Joins {
    named: Vec<(String, String)>,
    renamed: Vec<Renamed>,
    has_outer: bool,
    has_any: bool,
}

impl Joins {
    fn mark(&mut self, tables: &mut TableWithJoins) {
        let joins = std::mem::take(&mut tables.joins);
        self.mark_factor(&mut tables.relation);
        for mut join in joins {
            self.mark_factor(&mut join.relation);
            let Some((join_type, constraint)) = join_parts(&join.join_operator) else {
                tables.joins.push(join);
                continue;
            };
            let names: Vec<ast::Ident> = match constraint {
                JoinConstraint::Using(names) => names
                    .iter()
                    .filter_map(|n| n.0.last()?.as_ident().cloned())
                    .collect(),
                JoinConstraint::Natural => vec![],
                _ => {
                    tables.joins.push(join);
                    continue;
                }
            };
            self.has_any = true;
            self.has_outer |= matches!(join_type, JoinType::Right | JoinType::Full);
            let hidden = self.rename(&join.relation, join_type, &names);
            let before = std::mem::take(&mut tables.joins);
            let placeholder = TableFactor::TableFunction {
                expr: ast::Expr::Value(ast::Value::Null.into()),
                alias: None,
            };
            let mut left = std::mem::replace(&mut tables.relation, placeholder);
            if !before.is_empty() {
                left = nested(left, before, None);
            }
            tables.relation = nested(left, vec![join], Some(hidden));
        }
    }

    fn mark_factor(&mut self, factor: &mut TableFactor) {
        if let TableFactor::NestedJoin {
            table_with_joins, ..
        } = factor
        {
            self.mark(table_with_joins);
        }
    }

    /// What the right side's merged columns are found as; gives those kept for that.
    fn rename(
        &mut self,
        right: &TableFactor,
        join_type: JoinType,
        names: &[ast::Ident],
    ) -> Vec<ast::Ident> {
        let table = match right {
            TableFactor::Table {
                alias: Some(alias), ..
            }
            | TableFactor::Derived {
                alias: Some(alias), ..
            } => fold(&alias.name),
            TableFactor::Table { name, .. } => match name.0.last().and_then(|p| p.as_ident()) {
                Some(ident) => fold(ident),
                None => return vec![],
            },
            _ => return vec![],
        };
        let mut hidden = Vec::new();
        for name in names {
            let column = fold(name);
            if !self.named.contains(&(table.clone(), column.clone())) {
                continue;
            }
            let (to, is_hidden) = match join_type {
                JoinType::Inner => (name.clone(), false),
                JoinType::Left => {
                    let own = ast::Ident::with_quote('"', hidden_name(&table, &column));
                    hidden.push(name.clone());
                    (own, true)
                }
                _ => continue,
            };
            self.renamed.push(Renamed {
                table: table.clone(),
                column,
                to,
                is_hidden,
            });
        }
        hidden
    }
}

fn hidden_name(table: &str, column: &str) -> String {
    format!("{MARK}_{table}_{column}")
}

fn nested(
    relation: TableFactor,
    joins: Vec<ast::Join>,
    hidden: Option<Vec<ast::Ident>>,
) -> TableFactor {
    TableFactor::NestedJoin {
        table_with_joins: Box::new(TableWithJoins { relation, joins }),
        alias: hidden.map(|hidden| ast::TableAlias {
            explicit: true,
            name: ast::Ident::new(MARK),
            columns: hidden
                .into_iter()
                .map(|name| ast::TableAliasColumnDef {
                    name,
                    data_type: None,
                })
                .collect(),
            at: None,
        }),
    }
}

fn join_parts(operator: &JoinOperator) -> Option<(JoinType, &JoinConstraint)> {
    Some(match operator {
        JoinOperator::Join(c) | JoinOperator::Inner(c) => (JoinType::Inner, c),
        JoinOperator::Left(c) | JoinOperator::LeftOuter(c) => (JoinType::Left, c),
        JoinOperator::Right(c) | JoinOperator::RightOuter(c) => (JoinType::Right, c),
        JoinOperator::FullOuter(c) => (JoinType::Full, c),
        _ => return None,
    })
}

struct Renamer<'a> {
    renamed: &'a [Renamed],
    depth: usize,
}

impl VisitorMut for Renamer<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut ast::Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut ast::Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
        if let ast::Expr::CompoundIdentifier(parts) = expr {
            if let ([table, column], 0) = (parts.as_slice(), self.depth) {
                let (table, column) = (fold(table), fold(column));
                let found = self
                    .renamed
                    .iter()
                    .find(|r| r.table == table && r.column == column);
                if let Some(renamed) = found {
                    *expr = ast::Expr::Identifier(renamed.to.clone());
                }
            }
        }
        ControlFlow::Continue(())
    }
}

/// The plan of a marked join; `None`: not marked.
pub(super) fn plan(
    factor: &TableFactor,
    context: &mut dyn RelationPlannerContext,
) -> DfResult<Option<LogicalPlan>> {
    let TableFactor::NestedJoin {
        table_with_joins,
        alias: Some(alias),
    } = factor
    else {
        return Ok(None);
    };
    if alias.name.value != MARK {
        return Ok(None);
    }
    let [join] = table_with_joins.joins.as_slice() else {
        return Ok(None);
    };
    let Some((join_type, constraint)) = join_parts(&join.join_operator) else {
        return Ok(None);
    };
    let left = context.plan(table_with_joins.relation.clone())?;
    let right = context.plan(join.relation.clone())?;
    let names = match constraint {
        JoinConstraint::Using(names) => names
            .iter()
            .filter_map(|n| n.0.last()?.as_ident().map(fold))
            .collect(),
        _ => common_names(left.schema(), right.schema()),
    };
    let pairs = names
        .iter()
        .map(|name| Ok((column(left.schema(), name)?, column(right.schema(), name)?)))
        .collect::<DfResult<Vec<_>>>()?;
    let (left_columns, right_columns) = (left.schema().columns(), right.schema().columns());
    let on = pairs
        .iter()
        .map(|(l, r)| Expr::Column(l.clone()).eq(Expr::Column(r.clone())));
    let joined = match pairs.is_empty() {
        true if join_type == JoinType::Inner => {
            LogicalPlanBuilder::from(left).cross_join(right)?.build()?
        }
        _ => LogicalPlanBuilder::from(left)
            .join_on(right, join_type, on)?
            .build()?,
    };
    let others = left_columns.into_iter().chain(right_columns);
    let mut shown = pairs
        .iter()
        .map(|(l, r)| merged(l, r, join_type))
        .collect::<DfResult<Vec<_>>>()?;
    let is_other = |c: &Column| {
        !pairs.iter().any(|(l, r)| l == c || r == c) && SystemColumn::of_name(&c.name).is_none()
    };
    shown.extend(others.filter(is_other).map(Expr::Column));
    for hidden in &alias.columns {
        let hidden = fold(&hidden.name);
        if let Some((_, right)) = pairs.iter().find(|(_, r)| r.name == hidden) {
            let table = right.relation.as_ref().map_or("", |r| r.table());
            let name = hidden_name(table, &hidden);
            shown.push(Expr::Column(right.clone()).alias(name));
        }
    }
    let projection = Projection::try_new(shown, Arc::new(joined))?;
    Ok(Some(LogicalPlan::Projection(projection)))
}

fn common_names(left: &DFSchema, right: &DFSchema) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for field in left.fields() {
        let name = field.name();
        let is_common = right.fields().iter().any(|f| f.name() == name);
        if is_common && !names.contains(name) && SystemColumn::of_name(name).is_none() {
            names.push(name.clone());
        }
    }
    names
}

fn column(schema: &DFSchema, name: &str) -> DfResult<Column> {
    let (qualifier, field) = schema.qualified_field_with_unqualified_name(name)?;
    Ok(Column::new(qualifier.cloned(), field.name()))
}

fn merged(left: &Column, right: &Column, join_type: JoinType) -> DfResult<Expr> {
    let (l, r) = (Expr::Column(left.clone()), Expr::Column(right.clone()));
    Ok(match join_type {
        JoinType::Right => r,
        JoinType::Full => when(l.clone().is_not_null(), l)
            .otherwise(r)?
            .alias_qualified(Some(MARK), &left.name),
        _ => l,
    })
}
