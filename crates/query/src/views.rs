//! Views: a name that stands for a query, put in its place before anything else is planned.
//!
//! ```text
//!   SELECT x FROM v AS a  ->  SELECT x FROM (SELECT "o" AS "x" FROM (the view's query) AS __view) AS a
//! ```
//!
//! A view's query is kept as it was written and read again each time, temporal clauses
//! included. Its columns are found by the names that the query gives them, so that columns
//! which tables gain later do not show; its tables are named with their schema, so that no
//! WITH of the statement around comes between.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use chronos_model::{Catalog, SqlState, TableId, ViewSchema};
use datafusion::sql::sqlparser::ast::{self, VisitMut, VisitorMut};

use crate::lex::{Token, TokenKind};
use crate::sql::{fold, parse_query, quote, table_name, Command};
use crate::QueryError;

/// Views may be made of views so deep.
const DEPTH_MAX: usize = 32;

/// CREATE VIEW.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateView {
    /// Folded name.
    pub name: String,
    /// Names of the first columns, folded.
    pub columns: Vec<String>,
    /// The query as it was written.
    pub query: String,
    /// Whether it may take a view's place.
    pub or_replace: bool,
}

/// Reads CREATE VIEW from tokens, because its query is kept as text; `None`: another statement.
pub(crate) fn parse_create(sql: &str, tokens: &[Token]) -> Result<Option<Command>, QueryError> {
    let is = |at: usize, word: &str| tokens.get(at).is_some_and(|t| t.is_word(sql, word));
    let mut at = 1;
    let or_replace = is(at, "or") && is(at + 1, "replace");
    at += if or_replace { 2 } else { 0 };
    for kind in ["temp", "temporary", "recursive", "materialized"] {
        if is(at, kind) && is(at + 1, "view") {
            let what = format!("CREATE {} VIEW", kind.to_ascii_uppercase());
            return Err(QueryError::unsupported(what));
        }
    }
    if !is(at, "view") {
        return Ok(None);
    }
    at += 1;
    let wrong = |at: usize| match tokens.get(at) {
        Some(token) => {
            let message = format!("syntax error at or near \"{}\"", token.text(sql));
            let mut error = QueryError::new(SqlState::SYNTAX_ERROR, message);
            error.offset = Some(token.start);
            error
        }
        None => QueryError::new(SqlState::SYNTAX_ERROR, "syntax error at end of input"),
    };
    let name_at = |at: usize| match tokens.get(at) {
        Some(token) if token.is_name() => Ok(crate::lex::ident(token, sql).into_owned()),
        _ => Err(wrong(at)),
    };
    let mut name = name_at(at)?;
    at += 1;
    let text = |at: usize| tokens.get(at).map_or("", |t| t.text(sql));
    if text(at) == "." {
        name = crate::sql::written_in(&name, &name_at(at + 1)?);
        at += 2;
    }
    let mut columns = Vec::new();
    if text(at) == "(" {
        loop {
            columns.push(name_at(at + 1)?);
            at += 2;
            match text(at) {
                "," => {}
                ")" => break,
                _ => return Err(wrong(at)),
            }
        }
        at += 1;
    }
    if is(at, "with") {
        return Err(QueryError::unsupported("CREATE VIEW .. WITH (..)"));
    }
    if !is(at, "as") || tokens.len() <= at + 1 {
        return Err(wrong(at));
    }
    let mut end = tokens.len();
    if text(end - 1) == ";" {
        end -= 1;
    }
    if is(end - 2, "check") && is(end - 1, "option") {
        return Err(QueryError::unsupported("WITH CHECK OPTION"));
    }
    let query = sql[tokens[at + 1].start..tokens[end - 1].end].to_owned();
    // What is no query is refused now.
    parse_query(&query)?;
    Ok(Some(Command::CreateView(CreateView {
        name,
        columns,
        query,
        or_replace,
    })))
}

/// Whether the first tokens may be those of CREATE VIEW.
pub(crate) fn may_create(sql: &str, tokens: &[Token]) -> bool {
    tokens
        .iter()
        .take(5)
        .any(|t| t.kind == TokenKind::Word && t.is_word(sql, "view"))
}

/// Puts the queries of views in their places.
pub(crate) fn expand(statement: &mut ast::Statement, catalog: &Catalog) -> Result<(), QueryError> {
    if catalog.views.is_empty() {
        return Ok(());
    }
    let mut expander = Expander::new(catalog, 0);
    match VisitMut::visit(statement, &mut expander) {
        ControlFlow::Break(e) => Err(e),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// The tables and views that a query names, those behind views not counted.
pub fn relations_read(
    query: &ast::Statement,
    catalog: &Catalog,
) -> Result<Vec<TableId>, QueryError> {
    let mut query = query.clone();
    let mut expander = Expander::new(catalog, 1);
    expander.only_looks = true;
    match VisitMut::visit(&mut query, &mut expander) {
        ControlFlow::Break(e) => Err(e),
        ControlFlow::Continue(()) => Ok(expander.read.into_iter().collect()),
    }
}

/// Views that read any of some relations, directly or by way of others, each after those that
/// it reads.
pub fn dependents(catalog: &Catalog, of: &[TableId]) -> Vec<std::sync::Arc<ViewSchema>> {
    let mut found: Vec<std::sync::Arc<ViewSchema>> = Vec::new();
    loop {
        let is_found = |id: &TableId| of.contains(id) || found.iter().any(|v| v.id == *id);
        let next = catalog
            .views
            .values()
            .find(|view| !is_found(&view.id) && view.reads.iter().any(is_found));
        match next {
            Some(view) => found.push(view.clone()),
            None => return found,
        }
    }
}

/// Whether a query has a `*` anywhere.
pub fn has_wildcard(query: &ast::Statement) -> bool {
    struct Finder;
    impl ast::Visitor for Finder {
        type Break = ();
        fn pre_visit_select(&mut self, select: &ast::Select) -> ControlFlow<()> {
            let is_wildcard = |item: &ast::SelectItem| {
                matches!(
                    item,
                    ast::SelectItem::Wildcard(_) | ast::SelectItem::QualifiedWildcard(..)
                )
            };
            match select.projection.iter().any(is_wildcard) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        }
    }
    ast::Visit::visit(query, &mut Finder).is_break()
}

struct Expander<'a> {
    catalog: &'a Catalog,
    /// Names of WITH, by the query that has them.
    scopes: Vec<Vec<String>>,
    /// How many views this is inside of.
    depth: usize,
    /// Whether nothing is replaced.
    only_looks: bool,
    read: BTreeSet<TableId>,
}

impl<'a> Expander<'a> {
    fn new(catalog: &'a Catalog, depth: usize) -> Expander<'a> {
        Expander {
            catalog,
            scopes: Vec::new(),
            depth,
            only_looks: false,
            read: BTreeSet::new(),
        }
    }

    fn is_cte(&self, name: &str) -> bool {
        self.scopes.iter().flatten().any(|n| n == name)
    }

    fn factor(&mut self, factor: &mut ast::TableFactor) -> Result<(), QueryError> {
        let ast::TableFactor::Table {
            name, alias, args, ..
        } = factor
        else {
            return Ok(());
        };
        let is_bare = name.0.len() == 1;
        let Ok(own) = table_name(name) else {
            return Ok(());
        };
        if is_bare && self.is_cte(&own) {
            return Ok(());
        }
        if let Some(view) = self.catalog.views.get(&own) {
            self.read.insert(view.id);
            if args.is_some() {
                return Err(QueryError::unsupported(format!(
                    "a temporal clause behind the view \"{own}\""
                ))
                .with_hint("Write it behind the tables that the view reads."));
            }
            if !self.only_looks {
                let alias = alias.take();
                *factor = self.derived(view, alias)?;
            }
            return Ok(());
        }
        let Some(table) = self.catalog.table(&own) else {
            return Ok(());
        };
        self.read.insert(table.id);
        if self.depth > 0 && is_bare && !self.only_looks {
            let ident = ast::Ident::with_quote('"', own);
            let schema = ast::Ident::new("public");
            *name = ast::ObjectName::from(vec![schema, ident.clone()]);
            alias.get_or_insert_with(|| table_alias(ident));
        }
        Ok(())
    }

    /// A view as a subquery.
    fn derived(
        &self,
        view: &ViewSchema,
        alias: Option<ast::TableAlias>,
    ) -> Result<ast::TableFactor, QueryError> {
        if self.depth >= DEPTH_MAX {
            return Err(QueryError::new(
                SqlState::TOO_COMPLEX,
                format!("views are made of views more than {DEPTH_MAX} deep"),
            ));
        }
        let mut statement = parse_query(&view_query(view))?;
        let mut inner = Expander::new(self.catalog, self.depth + 1);
        if let ControlFlow::Break(e) = VisitMut::visit(&mut statement, &mut inner) {
            return Err(e);
        }
        let ast::Statement::Query(subquery) = statement else {
            return Err(QueryError::new(SqlState::INTERNAL, "a view is no query"));
        };
        let name = ast::Ident::with_quote('"', view.name.clone());
        Ok(ast::TableFactor::Derived {
            lateral: false,
            subquery,
            alias: Some(alias.unwrap_or_else(|| table_alias(name))),
            sample: None,
        })
    }
}

fn table_alias(name: ast::Ident) -> ast::TableAlias {
    ast::TableAlias {
        explicit: true,
        name,
        columns: vec![],
        at: None,
    }
}

/// The query of a view with the view's names for its columns.
fn view_query(view: &ViewSchema) -> String {
    let names = view.columns.iter().map(|c| quote(&c.name));
    match view.columns.iter().all(|c| c.source.is_some()) {
        true => {
            let sources = view.columns.iter().filter_map(|c| c.source.as_deref());
            let list = sources.map(quote).zip(names);
            let list: Vec<String> = list.map(|(s, n)| format!("{s} AS {n}")).collect();
            // A comment may be at the end of the query.
            format!(
                "SELECT {} FROM ({}\n) AS __view",
                list.join(", "),
                view.query
            )
        }
        false => {
            let names: Vec<String> = names.collect();
            format!(
                "SELECT * FROM ({}\n) AS __view ({})",
                view.query,
                names.join(", ")
            )
        }
    }
}

impl VisitorMut for Expander<'_> {
    type Break = QueryError;

    fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<QueryError> {
        let mut names = Vec::new();
        if let Some(with) = &mut query.with {
            if with.recursive {
                names.extend(with.cte_tables.iter().map(|c| fold(&c.alias.name)));
            } else {
                // Each sees those before it, and not itself.
                for cte in &mut with.cte_tables {
                    let mut scopes = self.scopes.clone();
                    scopes.push(names.clone());
                    let mut inner = Expander {
                        scopes,
                        read: BTreeSet::new(),
                        ..Expander::new(self.catalog, self.depth)
                    };
                    inner.only_looks = self.only_looks;
                    VisitMut::visit(&mut cte.query, &mut inner)?;
                    self.read.append(&mut inner.read);
                    names.push(fold(&cte.alias.name));
                }
            }
        }
        self.scopes.push(names);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut ast::Query) -> ControlFlow<QueryError> {
        self.scopes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut ast::TableFactor) -> ControlFlow<QueryError> {
        match self.factor(factor) {
            Ok(()) => ControlFlow::Continue(()),
            Err(e) => ControlFlow::Break(e),
        }
    }
}
