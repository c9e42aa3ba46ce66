//! JOIN .. USING and NATURAL JOIN: the joined columns are merged, come first in `*`, and in
//! outer joins have the value of whichever side is there.
//!
//! The engine keeps both sides' columns and takes the left one for the merged column. So
//! every such join is put into parentheses whose alias says what the SELECT needs, and is
//! planned here when the engine comes to it:
//!
//! ```text
//! SELECT *        merged columns, then the others of the left and of the right side
//! no * at all     all columns of both sides, and the merged ones without a qualifier
//! ```

use std::ops::ControlFlow;
use std::sync::Arc;

use chronos_model::SystemColumn;
use datafusion::common::{Column, DFSchema};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::planner::RelationPlannerContext;
use datafusion::logical_expr::{when, Expr, JoinType, LogicalPlan, LogicalPlanBuilder, Projection};
use datafusion::sql::sqlparser::ast::{
    self, JoinConstraint, JoinOperator, TableFactor, TableWithJoins, VisitMut, VisitorMut,
};

use crate::sql::fold;
use crate::QueryError;

const FOR_STAR: &str = "__using_star";
const FOR_NAMES: &str = "__using_names";

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
    let mark = if select.projection.iter().any(shows_all) {
        FOR_STAR
    } else {
        FOR_NAMES
    };
    let mut merged = Vec::new();
    for tables in &mut select.from {
        mark_joins(tables, mark, &mut merged);
    }
    if merged.is_empty() || mark == FOR_NAMES {
        return Ok(());
    }
    let is_qualified =
        |item: &ast::SelectItem| matches!(item, ast::SelectItem::QualifiedWildcard(..));
    if select.projection.iter().any(is_qualified) {
        return Err(QueryError::unsupported(
            "both * and table.* with JOIN USING",
        ));
    }
    let _ = select.visit(&mut Unqualifier {
        merged: &merged,
        depth: 0,
    });
    Ok(())
}

/// The right side of an inner join with USING, and its merged columns; with other joins
/// nothing may be concluded.
type Merged = (Option<String>, Vec<String>);

fn mark_joins(tables: &mut TableWithJoins, mark: &str, merged: &mut Vec<Merged>) {
    let joins = std::mem::take(&mut tables.joins);
    mark_factor(&mut tables.relation, mark, merged);
    for mut join in joins {
        mark_factor(&mut join.relation, mark, merged);
        let Some((join_type, constraint)) = join_parts(&join.join_operator) else {
            tables.joins.push(join);
            continue;
        };
        let names = match constraint {
            JoinConstraint::Using(names) => names
                .iter()
                .filter_map(|n| n.0.last()?.as_ident().map(fold))
                .collect(),
            JoinConstraint::Natural => vec![],
            _ => {
                tables.joins.push(join);
                continue;
            }
        };
        let right = match (&join.relation, join_type) {
            (
                TableFactor::Table {
                    alias: Some(alias), ..
                },
                JoinType::Inner,
            )
            | (
                TableFactor::Derived {
                    alias: Some(alias), ..
                },
                JoinType::Inner,
            ) => Some(fold(&alias.name)),
            (TableFactor::Table { name, .. }, JoinType::Inner) => {
                name.0.last().and_then(|p| p.as_ident()).map(fold)
            }
            _ => None,
        };
        merged.push((right, names));
        let before = std::mem::take(&mut tables.joins);
        let placeholder = TableFactor::TableFunction {
            expr: ast::Expr::Value(ast::Value::Null.into()),
            alias: None,
        };
        let mut left = std::mem::replace(&mut tables.relation, placeholder);
        if !before.is_empty() {
            left = nested(left, before, None);
        }
        tables.relation = nested(left, vec![join], Some(mark));
    }
}

fn mark_factor(factor: &mut TableFactor, mark: &str, merged: &mut Vec<Merged>) {
    if let TableFactor::NestedJoin {
        table_with_joins,
        alias,
    } = factor
    {
        let mark = if alias.is_some() { FOR_STAR } else { mark };
        mark_joins(table_with_joins, mark, merged);
    }
}

fn nested(relation: TableFactor, joins: Vec<ast::Join>, mark: Option<&str>) -> TableFactor {
    TableFactor::NestedJoin {
        table_with_joins: Box::new(TableWithJoins { relation, joins }),
        alias: mark.map(|mark| ast::TableAlias {
            explicit: true,
            name: ast::Ident::new(mark),
            columns: vec![],
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

/// In an inner join, the right side's column is the merged one.
struct Unqualifier<'a> {
    merged: &'a [Merged],
    depth: usize,
}

impl VisitorMut for Unqualifier<'_> {
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
                let (table, name) = (fold(table), fold(column));
                let is_merged = self
                    .merged
                    .iter()
                    .any(|(right, names)| right.as_ref() == Some(&table) && names.contains(&name));
                if is_merged {
                    *expr = ast::Expr::Identifier(column.clone());
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
    let for_star = alias.name.value == FOR_STAR;
    if !for_star && alias.name.value != FOR_NAMES {
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
    let shown = if for_star {
        for_wildcard(&pairs, join_type, others)?
    } else {
        for_names(&pairs, join_type, others)?
    };
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
            .alias(&left.name),
        _ => l,
    })
}

fn for_wildcard(
    pairs: &[(Column, Column)],
    join_type: JoinType,
    others: impl Iterator<Item = Column>,
) -> DfResult<Vec<Expr>> {
    let mut shown = pairs
        .iter()
        .map(|(l, r)| merged(l, r, join_type))
        .collect::<DfResult<Vec<_>>>()?;
    let is_other = |c: &Column| {
        !pairs.iter().any(|(l, r)| l == c || r == c) && SystemColumn::of_name(&c.name).is_none()
    };
    shown.extend(others.filter(is_other).map(Expr::Column));
    Ok(shown)
}

fn for_names(
    pairs: &[(Column, Column)],
    join_type: JoinType,
    others: impl Iterator<Item = Column>,
) -> DfResult<Vec<Expr>> {
    // An earlier merged column is replaced by the new one.
    let replaced = |c: &Column| {
        c.relation.is_none()
            && pairs
                .iter()
                .any(|(l, r)| l.name == c.name || r.name == c.name)
    };
    let mut shown: Vec<Expr> = others.filter(|c| !replaced(c)).map(Expr::Column).collect();
    for (l, r) in pairs {
        shown.push(merged(l, r, join_type)?.unalias().alias(&l.name));
    }
    Ok(shown)
}
