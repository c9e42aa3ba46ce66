//! Columns that need not be grouped, because the primary key of their table is.
//!
//! ```text
//! SELECT a.id, a.name, count(*) FROM a JOIN b .. GROUP BY a.id
//! SELECT a.id, a.name, count(*) FROM a JOIN b .. GROUP BY a.id, a.name
//! ```
//!
//! A key has one row at any moment, so the groups stay what they were. Of a table that is read with
//! a temporal clause a key may have several; there PostgreSQL's rule does not hold, and the columns
//! have to be written.

use std::ops::ControlFlow;
use std::sync::Arc;

use chronos_model::{Catalog, TableSchema};
use datafusion::sql::sqlparser::ast::{
    self, Expr, GroupByExpr, Visit, VisitMut, Visitor, VisitorMut,
};

use crate::sql::{fold, table_name};

/// Writes such columns out in every GROUP BY.
pub(super) fn rewrite(statement: &mut ast::Statement, catalog: &Catalog) {
    struct Grouper<'a>(&'a Catalog);
    impl VisitorMut for Grouper<'_> {
        type Break = ();
        fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<()> {
            group(query, self.0);
            ControlFlow::Continue(())
        }
    }
    let _ = statement.visit(&mut Grouper(catalog));
}

/// A table of FROM, by the name that its columns are qualified with.
struct Item {
    qualifier: ast::Ident,
    table: Arc<TableSchema>,
}

fn group(query: &mut ast::Query, catalog: &Catalog) {
    let order_by = query.order_by.clone();
    let ast::SetExpr::Select(select) = query.body.as_mut() else {
        return;
    };
    let GroupByExpr::Expressions(grouped, modifiers) = &select.group_by else {
        return;
    };
    let is_plain = |e: &Expr| matches!(e, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
    if !modifiers.is_empty() || !grouped.iter().any(is_plain) {
        return;
    }
    let relations = select.from.iter().map(|t| 1 + t.joins.len()).sum::<usize>();
    let items = items(&select.from, catalog);
    let mut added = Vec::new();
    for item in items {
        let is_alone = relations == 1;
        let names = |e: &Expr| column_of(e, &item, is_alone);
        let keys = &item.table.primary_key;
        let has_key = |key: &usize| {
            let name = &item.table.columns[*key].name;
            grouped.iter().any(|e| names(e).as_ref() == Some(name))
        };
        if item.table.has_hidden_key() || !keys.iter().all(has_key) {
            continue;
        }
        let mut used = used(select, &item, is_alone);
        if let Some(order_by) = &order_by {
            let _ = order_by.visit(&mut used);
        }
        for column in used.columns {
            let is_grouped = grouped.iter().any(|e| names(e).as_ref() == Some(&column));
            if !is_grouped {
                added.push(Expr::CompoundIdentifier(vec![
                    item.qualifier.clone(),
                    ast::Ident::with_quote('"', column),
                ]));
            }
        }
    }
    if let GroupByExpr::Expressions(grouped, _) = &mut select.group_by {
        grouped.extend(added);
    }
}

fn items(from: &[ast::TableWithJoins], catalog: &Catalog) -> Vec<Item> {
    from.iter()
        .flat_map(|t| std::iter::once(&t.relation).chain(t.joins.iter().map(|j| &j.relation)))
        .filter_map(|factor| match factor {
            ast::TableFactor::Table {
                name,
                alias,
                args: None,
                version: None,
                ..
            } => {
                let written = table_name(name).ok()?;
                let table = catalog.table(&written)?.clone();
                let qualifier = match alias {
                    Some(alias) => alias.name.clone(),
                    None => name.0.last()?.as_ident()?.clone(),
                };
                Some(Item { qualifier, table })
            }
            _ => None,
        })
        .collect()
}

/// The column of the item that an expression names.
fn column_of(expr: &Expr, item: &Item, is_alone: bool) -> Option<String> {
    let name = match expr {
        Expr::Identifier(name) if is_alone => fold(name),
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [.., qualifier, name] if fold(qualifier) == fold(&item.qualifier) => fold(name),
            _ => return None,
        },
        _ => return None,
    };
    item.table.column_index(&name).map(|_| name)
}

/// Columns of an item that stand anywhere in a SELECT, but for WHERE and FROM.
struct Used<'a> {
    item: &'a Item,
    is_alone: bool,
    columns: Vec<String>,
}

impl Used<'_> {
    fn add(&mut self, column: String) {
        if !self.columns.contains(&column) {
            self.columns.push(column);
        }
    }

    fn add_all(&mut self) {
        let table = Arc::clone(&self.item.table);
        for column in &table.columns {
            self.add(column.name.clone());
        }
    }
}

impl Visitor for Used<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Some(column) = column_of(expr, self.item, self.is_alone) {
            self.add(column);
        }
        ControlFlow::Continue(())
    }
}

fn used<'a>(select: &ast::Select, item: &'a Item, is_alone: bool) -> Used<'a> {
    let mut used = Used {
        item,
        is_alone,
        columns: Vec::new(),
    };
    for shown in &select.projection {
        match shown {
            ast::SelectItem::Wildcard(_) if is_alone => used.add_all(),
            ast::SelectItem::QualifiedWildcard(
                ast::SelectItemQualifiedWildcardKind::ObjectName(name),
                _,
            ) => {
                let qualifier = name.0.last().and_then(|p| p.as_ident()).map(fold);
                if qualifier == Some(fold(&item.qualifier)) {
                    used.add_all();
                }
            }
            other => drop(other.visit(&mut used)),
        }
    }
    if let Some(having) = &select.having {
        let _ = having.visit(&mut used);
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::parse_query;

    fn grouped(sql: &str) -> String {
        let crate::sql::Command::CreateTable(create) =
            crate::sql::parse("CREATE TABLE a (id BIGINT PRIMARY KEY, name TEXT, size INT)")
                .expect("a table")
        else {
            panic!("a table");
        };
        let mut catalog = Catalog::default();
        let table = crate::ddl::table_schema(&create).expect("a schema");
        catalog.tables.insert(table.name.clone(), Arc::new(table));
        let mut statement = parse_query(sql).expect(sql);
        rewrite(&mut statement, &catalog);
        let written = statement.to_string();
        let (_, rest) = written.split_once("GROUP BY ").expect("a GROUP BY");
        rest.split(" HAVING").next().expect("the groups").to_owned()
    }

    #[test]
    fn what_the_key_determines_is_grouped_by() {
        for (sql, expected) in [
            (
                "SELECT id, name, count(*) FROM a GROUP BY id",
                "id, a.\"name\"",
            ),
            (
                "SELECT x.*, count(*) FROM a x JOIN b ON true GROUP BY x.id",
                "x.id, x.\"name\", x.\"size\"",
            ),
            (
                "SELECT x.id, count(*) FROM a x, b GROUP BY x.id HAVING max(b.n) > x.size",
                "x.id, x.\"size\"",
            ),
            ("SELECT name, count(*) FROM a GROUP BY name", "name"),
            ("SELECT name, count(*) FROM a, b GROUP BY id", "id"),
        ] {
            assert_eq!(grouped(sql), expected, "{sql}");
        }
    }
}
