//! Schemas: where unqualified names of relations are looked for, and what CREATE and DROP SCHEMA
//! say.
//!
//! A qualified name is understood wherever a name is read ([`crate::sql::table_name`]). An
//! unqualified one means `public`, unless the session's `search_path` says otherwise: then it is
//! qualified here, in the syntax tree, before anything is planned.
//!
//! ```text
//!   search_path = s, public     SELECT .. FROM t, u   ->   SELECT .. FROM s.t, u
//! ```

use std::borrow::Cow;
use std::ops::ControlFlow;

use chronos_model::{
    name_in, name_parts, own_name, Catalog, SqlState, PUBLIC_SCHEMA, SCHEMA_SEPARATOR,
};
use datafusion::sql::sqlparser::ast::{self, VisitMut, VisitorMut};

use crate::sql::{fold, parse_query, Command};
use crate::system_tables::quote_ident;
use crate::QueryError;

/// What DROP SCHEMA drops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropSchemas {
    /// Folded names.
    pub names: Vec<String>,
    /// Whether they may be missing.
    pub if_exists: bool,
    /// Whether what is in them goes, too.
    pub cascade: bool,
}

/// The schemas that a search path names and that are there, in order.
pub fn effective_path(setting: &str, catalog: &Catalog, user: &str) -> Vec<String> {
    let mut path: Vec<String> = Vec::new();
    for name in listed(setting) {
        let name = match name.as_str() {
            "$user" => user.to_owned(),
            _ => name,
        };
        if catalog.has_schema(&name) && !path.contains(&name) {
            path.push(name);
        }
    }
    path
}

/// The names of a search path.
fn listed(setting: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = setting.chars().peekable();
    loop {
        while rest.next_if(|c| c.is_whitespace() || *c == ',').is_some() {}
        let Some(first) = rest.peek().copied() else {
            return names;
        };
        let mut name = String::new();
        if first == '"' {
            rest.next();
            while let Some(c) = rest.next() {
                if c == '"' && rest.next_if_eq(&'"').is_none() {
                    break;
                }
                name.push(c);
            }
        } else {
            while let Some(c) = rest.next_if(|c| !c.is_whitespace() && *c != ',') {
                name.extend(c.to_lowercase());
            }
        }
        names.push(name);
    }
}

/// Where names are looked for.
pub struct Path<'a> {
    /// What there is.
    pub catalog: &'a Catalog,
    /// The schemas, in order.
    pub schemas: &'a [String],
}

impl Path<'_> {
    /// Whether unqualified names mean `public`, as they do if nothing is said.
    fn is_plain(&self) -> bool {
        self.schemas.len() == 1 && self.schemas[0] == PUBLIC_SCHEMA
    }

    /// The schema of an unqualified name of something that is there; `None`: of nothing.
    fn schema_of(&self, name: &str) -> Option<&str> {
        let has = |schema: &&String| crate::ddl::is_taken(self.catalog, &name_in(schema, name));
        self.schemas.iter().find(has).map(String::as_str)
    }

    /// The schema in which an unqualified name is created.
    fn schema_of_new(&self) -> Result<&str, QueryError> {
        let first = self.schemas.first().map(String::as_str);
        first.ok_or_else(|| {
            let message = "no schema has been selected to create in";
            QueryError::new(SqlState("3F000"), message)
        })
    }

    fn existing(&self, name: &mut ast::ObjectName) -> Result<(), QueryError> {
        let Some(own) = unqualified(name) else {
            return Ok(());
        };
        match self.schema_of(&own) {
            Some(PUBLIC_SCHEMA) => Ok(()),
            Some(schema) => {
                qualify(name, schema);
                Ok(())
            }
            // What is in `public` alone is not found.
            None if crate::ddl::is_taken(self.catalog, &own) => {
                Err(QueryError::unknown_table(&own))
            }
            None => Ok(()),
        }
    }

    fn new_name(&self, name: &mut ast::ObjectName) -> Result<(), QueryError> {
        if unqualified(name).is_some() {
            match self.schema_of_new()? {
                PUBLIC_SCHEMA => {}
                schema => qualify(name, schema),
            }
        }
        Ok(())
    }

    /// The same for a name that was read as [`written_name`](crate::sql::written_name).
    fn existing_text(&self, name: &mut String) -> Result<(), QueryError> {
        self.settle(name, |path, own| match path.schema_of(own) {
            Some(schema) => Ok(Some(name_in(schema, own))),
            None if crate::ddl::is_taken(path.catalog, own) => Err(QueryError::unknown_table(own)),
            None => Ok(None),
        })
    }

    fn new_text(&self, name: &mut String) -> Result<(), QueryError> {
        self.settle(name, |path, own| {
            Ok(Some(name_in(path.schema_of_new()?, own)))
        })
    }

    fn settle(
        &self,
        name: &mut String,
        found: impl Fn(&Self, &str) -> Result<Option<String>, QueryError>,
    ) -> Result<(), QueryError> {
        let is_qualified = crate::sql::is_written_qualified(name);
        if is_qualified {
            let (schema, own) = name_parts(name);
            *name = name_in(schema, own);
        } else if !self.is_plain() {
            if let Some(full) = found(self, name)? {
                *name = full;
            }
        }
        Ok(())
    }

    /// Qualifies the names in a statement that are not, where `public` is not meant.
    pub fn qualify(&self, command: &mut Command) -> Result<(), QueryError> {
        match command {
            Command::CreateTableAs(create) => self.new_text(&mut create.name)?,
            Command::CreateView(create) => self.new_text(&mut create.name)?,
            Command::CreateSequence(sequence, _) => self.new_text(&mut sequence.name)?,
            Command::Comment(comment) => self.existing_text(&mut comment.relation)?,
            Command::AlterOptions(alter) => self.existing_text(&mut alter.table)?,
            Command::Maintain(maintenance) => {
                let mut tables = maintenance.tables.iter_mut();
                tables.try_for_each(|name| self.existing_text(name))?;
            }
            _ => {}
        }
        if self.is_plain() {
            return Ok(());
        }
        self.qualify_tree(command)
    }

    fn qualify_tree(&self, command: &mut Command) -> Result<(), QueryError> {
        let all = |names: &mut Vec<ast::ObjectName>| {
            let mut names = names.iter_mut();
            names.try_for_each(|name| self.existing(name))
        };
        match command {
            Command::Query(statement) | Command::ExplainWrite(statement, _) => {
                self.visit(&mut **statement)
            }
            Command::Insert(insert, _) => self.visit(&mut **insert),
            Command::Update(update, with) => self.visit_with(&mut **update, with),
            Command::Delete(delete, with) => self.visit_with(&mut **delete, with),
            Command::Erase(erase) => {
                self.existing(&mut erase.table)?;
                self.visit(&mut erase.keys)
            }
            Command::CreateTableAs(create) => self.visit(&mut *create.query),
            Command::CreateView(create) => {
                let mut query = parse_query(&create.query)?;
                let before = query.clone();
                self.visit(&mut query)?;
                if query != before {
                    create.query = query.to_string();
                }
                Ok(())
            }
            Command::CreateTable(create) => {
                self.new_name(&mut create.name)?;
                for column in &mut create.columns {
                    for option in &mut column.options {
                        if let ast::ColumnOption::Default(default) = &mut option.option {
                            self.default(default);
                        }
                        if let ast::ColumnOption::ForeignKey(key) = &mut option.option {
                            self.parent(&mut key.foreign_table, &create.name)?;
                        }
                    }
                }
                for constraint in &mut create.constraints {
                    if let ast::TableConstraint::ForeignKey(key) = constraint {
                        self.parent(&mut key.foreign_table, &create.name)?;
                    }
                }
                Ok(())
            }
            Command::CreateIndex(create) => self.existing(&mut create.table_name),
            Command::AlterTable(alter) => self.alter(alter),
            Command::DropTables(names, ..)
            | Command::DropViews(names, ..)
            | Command::DropIndexes(names, _)
            | Command::DropSequences(names, _)
            | Command::Truncate { names, .. } => all(names),
            Command::Copy(statement) => {
                if let ast::Statement::Copy {
                    source: ast::CopySource::Table { table_name, .. },
                    ..
                } = &mut **statement
                {
                    self.existing(table_name)?;
                }
                self.visit(&mut **statement)
            }
            _ => Ok(()),
        }
    }

    /// A table that a foreign key of another, perhaps of itself, refers to. As if it was looked
    /// for when the table that refers is there already.
    fn parent(
        &self,
        name: &mut ast::ObjectName,
        table: &ast::ObjectName,
    ) -> Result<(), QueryError> {
        let own = unqualified(name);
        let of_table = table.0.last().and_then(|p| p.as_ident()).map(fold);
        let is_itself = match own.filter(|own| Some(own) == of_table.as_ref()) {
            None => false,
            Some(own) => {
                let schema = match table.0.as_slice() {
                    [.., schema, _] => schema.as_ident().map(fold),
                    _ => None,
                };
                let place = |of: &str| self.schemas.iter().position(|schema| schema == of);
                let new = place(schema.as_deref().unwrap_or(PUBLIC_SCHEMA));
                match (new, self.schema_of(&own).and_then(place)) {
                    (Some(new), Some(other)) => new <= other,
                    (_, other) => other.is_none(),
                }
            }
        };
        match is_itself {
            true => {
                *name = table.clone();
                Ok(())
            }
            false => self.existing(name),
        }
    }

    fn alter(&self, alter: &mut ast::AlterTable) -> Result<(), QueryError> {
        self.existing(&mut alter.name)?;
        for operation in &mut alter.operations {
            match operation {
                ast::AlterTableOperation::AddConstraint {
                    constraint: ast::TableConstraint::ForeignKey(key),
                    ..
                } => self.existing(&mut key.foreign_table)?,
                ast::AlterTableOperation::AddColumn { column_def, .. } => {
                    for option in &mut column_def.options {
                        if let ast::ColumnOption::Default(default) = &mut option.option {
                            self.default(default);
                        }
                        if let ast::ColumnOption::ForeignKey(key) = &mut option.option {
                            self.existing(&mut key.foreign_table)?;
                        }
                    }
                }
                ast::AlterTableOperation::AlterColumn {
                    op: ast::AlterColumnOperation::SetDefault { value },
                    ..
                } => self.default(value),
                _ => {}
            }
        }
        Ok(())
    }

    /// Texts in a default that are names of sequences: it is kept, and the path is not.
    fn default(&self, expression: &mut ast::Expr) {
        struct Names<'a>(&'a Path<'a>);
        impl VisitorMut for Names<'_> {
            type Break = ();
            fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
                if let ast::Expr::Value(value) = expr {
                    if let ast::Value::SingleQuotedString(name) = &mut value.value {
                        let schema = self.0.schema_of(name).filter(|s| *s != PUBLIC_SCHEMA);
                        let is_sequence = schema.is_some_and(|schema| {
                            let sequences = &self.0.catalog.sequences;
                            sequences.contains_key(&name_in(schema, name))
                        });
                        if let Some(schema) = schema.filter(|_| is_sequence) {
                            *name = format!("{}.{}", quote_ident(schema), quote_ident(name));
                        }
                    }
                }
                ControlFlow::Continue(())
            }
        }
        let names: ControlFlow<()> = expression.visit(&mut Names(self));
        debug_assert!(names.is_continue());
    }

    fn visit(&self, tree: &mut impl VisitMut) -> Result<(), QueryError> {
        let mut qualifier = Qualifier {
            path: self,
            scopes: Vec::new(),
        };
        match tree.visit(&mut qualifier) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(error),
        }
    }

    /// A write, and the WITH before it.
    fn visit_with(
        &self,
        tree: &mut impl VisitMut,
        with: &mut Option<Box<ast::With>>,
    ) -> Result<(), QueryError> {
        let mut qualifier = Qualifier {
            path: self,
            scopes: Vec::new(),
        };
        if let Some(with) = with {
            let names = qualifier.enter_with(with);
            if let ControlFlow::Break(error) = names {
                return Err(error);
            }
        }
        match tree.visit(&mut qualifier) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(error),
        }
    }
}

/// The folded name, if it has no schema before it.
fn unqualified(name: &ast::ObjectName) -> Option<String> {
    match name.0.as_slice() {
        [only] => only.as_ident().map(fold),
        _ => None,
    }
}

fn qualify(name: &mut ast::ObjectName, schema: &str) {
    let schema = ast::Ident::with_quote('"', schema);
    name.0.insert(0, ast::ObjectNamePart::Identifier(schema));
}

/// Qualifies the relations of queries, but for the names that WITH gives.
struct Qualifier<'a> {
    path: &'a Path<'a>,
    /// Names that WITH gives, by query.
    scopes: Vec<Vec<String>>,
}

impl Qualifier<'_> {
    /// Goes through a WITH, each query of which sees those before it, and remembers its names.
    fn enter_with(&mut self, with: &mut ast::With) -> ControlFlow<QueryError> {
        let names: Vec<String> = with
            .cte_tables
            .iter()
            .map(|cte| fold(&cte.alias.name))
            .collect();
        self.scopes.push(match with.recursive {
            true => names.clone(),
            false => vec![],
        });
        let at = self.scopes.len() - 1;
        for (number, cte) in with.cte_tables.iter_mut().enumerate() {
            cte.query.visit(self)?;
            if !with.recursive {
                self.scopes[at].push(names[number].clone());
            }
        }
        ControlFlow::Continue(())
    }
}

impl VisitorMut for Qualifier<'_> {
    type Break = QueryError;

    fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<QueryError> {
        // What is qualified stays so when it is met again.
        match &mut query.with {
            Some(with) => self.enter_with(with),
            None => {
                self.scopes.push(Vec::new());
                ControlFlow::Continue(())
            }
        }
    }

    fn post_visit_query(&mut self, _: &mut ast::Query) -> ControlFlow<QueryError> {
        self.scopes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, name: &mut ast::ObjectName) -> ControlFlow<QueryError> {
        let own = unqualified(name);
        let is_cte = own.is_some_and(|own| self.scopes.iter().flatten().any(|n| *n == own));
        if is_cte {
            return ControlFlow::Continue(());
        }
        match self.path.existing(name) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

/// A default as it is planned, whatever the session's path is: sequences that it names without a
/// schema are of `public`.
pub fn stored_default(expression: &str) -> Cow<'_, str> {
    const CALL: &str = "nextval('";
    let mut written = Cow::Borrowed(expression);
    let mut from = 0;
    while let Some(at) = written[from..].find(CALL) {
        from += at + CALL.len();
        let Some(end) = written[from..].find('\'') else {
            break;
        };
        let name = &written[from..from + end];
        let is_qualified = match name.strip_prefix('"') {
            Some(quoted) => quoted.contains("\".") || own_name(quoted) != quoted,
            None => name.contains('.'),
        };
        if !is_qualified {
            written.to_mut().insert_str(from, "public.");
        }
    }
    written
}

/// SQL that was kept, as people read it: names of relations with their schemas.
pub fn shown_sql(sql: &str) -> String {
    if !sql.contains(SCHEMA_SEPARATOR) {
        return sql.to_owned();
    }
    // Such names are quoted.
    let mut shown = String::with_capacity(sql.len());
    for (number, part) in sql.split('"').enumerate() {
        match (number % 2 == 1, part.split_once(SCHEMA_SEPARATOR)) {
            (true, Some((schema, own))) => {
                shown += &format!("{}.{}", quote_ident(schema), quote_ident(own));
            }
            (true, None) => shown += &format!("\"{part}\""),
            (false, _) => shown += part,
        }
    }
    shown
}

/// CREATE SCHEMA: the name, and whether it may exist.
pub(crate) fn create_schema(
    name: &ast::SchemaName,
    if_not_exists: bool,
) -> Result<Command, QueryError> {
    let name = match name {
        ast::SchemaName::Simple(name) => name,
        _ => return Err(QueryError::unsupported("CREATE SCHEMA .. AUTHORIZATION")),
    };
    let name = unqualified(name).ok_or_else(|| {
        let message = format!("improper schema name: {name}");
        QueryError::new(SqlState::SYNTAX_ERROR, message)
    })?;
    if name.starts_with("pg_") {
        let message = format!("unacceptable schema name \"{name}\"");
        return Err(QueryError::new(SqlState("42939"), message)
            .with_detail("The prefix \"pg_\" is reserved for system schemas."));
    }
    if name.is_empty() || name.chars().any(|c| c.is_control()) {
        let message = format!("invalid schema name {name:?}");
        return Err(QueryError::new(SqlState("42602"), message));
    }
    Ok(Command::CreateSchema(name, if_not_exists))
}

/// DROP SCHEMA.
pub(crate) fn drop_schemas(
    names: &[ast::ObjectName],
    if_exists: bool,
    cascade: bool,
) -> Result<Command, QueryError> {
    let names: Option<Vec<String>> = names.iter().map(unqualified).collect();
    let names =
        names.ok_or_else(|| QueryError::new(SqlState::SYNTAX_ERROR, "improper schema name"))?;
    Ok(Command::DropSchemas(DropSchemas {
        names,
        if_exists,
        cascade,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_path_names_schemas() {
        let mut catalog = Catalog::default();
        catalog.schemas.insert("s".into(), 1);
        catalog.schemas.insert("A b".into(), 2);
        let path = |setting: &str| effective_path(setting, &catalog, "s");
        assert_eq!(path("\"$user\", public"), ["s", "public"]);
        assert_eq!(path("public,S , nope,s"), ["public", "s"]);
        assert_eq!(path("\"A b\", \"S\""), ["A b"]);
        assert!(path("").is_empty() && path("\"\"").is_empty());
    }
}
