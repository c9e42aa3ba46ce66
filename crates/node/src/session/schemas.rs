//! CREATE SCHEMA, DROP SCHEMA, and the search path of a session.

use std::sync::Arc;

use chronos_model::{name_parts, shown_name, Catalog, CatalogEdit, SqlState, TableId};
use chronos_query::schemas::{DropSchemas, Path};
use chronos_query::sql::{self, Command};
use chronos_query::{views, QueryPlan};

use super::command::done;
use super::Session;
use crate::{Error, Outcome, Severity};

impl Session {
    /// Takes over what `search_path` is by now.
    pub(super) fn take_search_path(&mut self) {
        self.take_written();
        let set = self.settings.changed_value("search_path");
        if self.facts.search_path.as_deref() != set {
            self.facts.search_path = set.map(Arc::from);
        }
    }

    /// Qualifies the names in a statement that the search path finds elsewhere than in `public`.
    pub(super) fn qualify(&self, command: &mut Command, catalog: &Catalog) -> Result<(), Error> {
        let schemas = self.facts.path(catalog);
        let path = Path {
            catalog,
            schemas: &schemas,
        };
        Ok(path.qualify(command)?)
    }

    /// A query without parameters, its names as the search path means them.
    pub(super) fn plan_text(
        &self,
        query: &str,
        catalog: &Arc<Catalog>,
    ) -> Result<QueryPlan, Error> {
        let mut command = sql::parse(query)?;
        self.qualify(&mut command, catalog)?;
        match command {
            Command::Query(statement) => self.plan_over(&statement, &[], &[], catalog),
            _ => Err(Error::new(SqlState::SYNTAX_ERROR, "it is no query")),
        }
    }

    pub(super) async fn create_schema(
        &mut self,
        name: &str,
        if_not_exists: bool,
    ) -> Result<Outcome, Error> {
        let catalog = self.catalog();
        if catalog.has_schema(name) || ["information_schema", "chronos"].contains(&name) {
            let message = format!("schema \"{name}\" already exists");
            if !if_not_exists {
                return Err(Error::new(SqlState("42P06"), message));
            }
            let message = format!("{message}, skipping");
            self.notice(Severity::Notice, SqlState("42P06"), message);
            return done("CREATE SCHEMA");
        }
        let edit = CatalogEdit::Schema(name.to_owned());
        self.edit_catalog(&catalog, vec![edit]).await?;
        done("CREATE SCHEMA")
    }

    pub(super) async fn drop_schemas(&mut self, drop: &DropSchemas) -> Result<Outcome, Error> {
        let catalog = self.catalog();
        let mut found: Vec<&str> = Vec::new();
        for name in &drop.names {
            if ["public", "pg_catalog", "information_schema", "chronos"].contains(&name.as_str()) {
                let message = format!("DROP SCHEMA of \"{name}\" is not supported");
                return Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, message));
            }
            match (catalog.schemas.contains_key(name), drop.if_exists) {
                (true, _) if found.contains(&name.as_str()) => {}
                (true, _) => found.push(name),
                (false, true) => self.notice(
                    Severity::Notice,
                    SqlState::SUCCESSFUL_COMPLETION,
                    format!("schema \"{name}\" does not exist, skipping"),
                ),
                (false, false) => {
                    let message = format!("schema \"{name}\" does not exist");
                    return Err(Error::new(SqlState("3F000"), message));
                }
            }
        }
        let mut edits = self.emptied(&catalog, &found, drop.cascade)?;
        let gone = found.iter().map(|name| (*name).to_owned());
        edits.extend(gone.map(CatalogEdit::DropSchema));
        self.edit_catalog(&catalog, edits).await?;
        done("DROP SCHEMA")
    }

    /// The edits that take everything out of schemas, with what depends on it elsewhere.
    fn emptied(
        &mut self,
        catalog: &Catalog,
        schemas: &[&str],
        cascade: bool,
    ) -> Result<Vec<CatalogEdit>, Error> {
        let is_in = |name: &String| schemas.contains(&name_parts(name).0);
        let tables = catalog.tables.values().filter(|t| is_in(&t.name));
        let tables: Vec<TableId> = tables.map(|t| t.id).collect();
        let views = catalog.views.values().filter(|v| is_in(&v.name));
        let mut dropped: Vec<TableId> = tables.clone();
        dropped.extend(views.map(|v| v.id));
        // Those that go with a table are dropped with it.
        let sequences = catalog.sequences.values().filter(|s| is_in(&s.name));
        let sequences = sequences.filter(|s| s.owner.is_none());
        let sequences: Vec<_> = sequences.collect();
        let dependents = views::dependents(catalog, &dropped);
        let mut names: Vec<String> = Vec::new();
        for id in &dropped {
            names.extend(catalog.table_by_id(*id).map(|t| what("table", &t.name)));
            names.extend(catalog.view_by_id(*id).map(|v| what("view", &v.name)));
        }
        names.extend(sequences.iter().map(|s| what("sequence", &s.name)));
        let outside = dependents.iter().filter(|view| !dropped.contains(&view.id));
        names.extend(outside.map(|view| what("view", &view.name)));
        if !cascade && !names.is_empty() {
            let of = schemas.first().copied().unwrap_or_default();
            let details: Vec<String> = names
                .iter()
                .map(|name| format!("{name} depends on schema {of}"))
                .collect();
            let message = format!("cannot drop schema {of} because other objects depend on it");
            return Err(Error::new(SqlState("2BP01"), message)
                .with_detail(details.join("\n"))
                .with_hint("Use DROP ... CASCADE to drop the dependent objects too."));
        }
        for sequence in &sequences {
            refuse_asked(catalog, &tables, &sequence.name)?;
        }
        let (_, mut edits) = self.foreign_keys_of_dropped(catalog, &tables, true);
        self.tell_cascade(&names);
        let views = dependents.iter().map(|view| view.id);
        let own_views = dropped.iter().copied().filter(|id| !tables.contains(id));
        let mut views: Vec<TableId> = views.chain(own_views).collect();
        views.sort_unstable();
        views.dedup();
        edits.extend(views.into_iter().map(CatalogEdit::DropView));
        edits.extend(tables.into_iter().map(CatalogEdit::DropTable));
        edits.extend(sequences.iter().map(|s| CatalogEdit::DropSequence(s.id)));
        Ok(edits)
    }

    fn tell_cascade(&mut self, names: &[String]) {
        let message = match names {
            [] => return,
            [one] => format!("drop cascades to {one}"),
            many => format!("drop cascades to {} other objects", many.len()),
        };
        self.notice(Severity::Notice, SqlState::SUCCESSFUL_COMPLETION, message);
    }
}

fn what(kind: &str, name: &str) -> String {
    format!("{kind} {}", shown_name(name))
}

/// 2BP01 if a column of a table that stays has its numbers from a sequence.
fn refuse_asked(catalog: &Catalog, dropped: &[TableId], sequence: &str) -> Result<(), Error> {
    let stay = catalog.tables.values().filter(|t| !dropped.contains(&t.id));
    for table in stay {
        for column in &table.columns {
            let default = column.default.as_deref().unwrap_or_default();
            let written = shown_name(sequence);
            if chronos_query::ddl::asks_sequence(default, sequence) {
                let message =
                    format!("cannot drop sequence {written} because other objects depend on it");
                return Err(Error::new(SqlState("2BP01"), message).with_detail(format!(
                    "default value for column {} of table {} depends on sequence {written}",
                    column.name,
                    shown_name(&table.name)
                )));
            }
        }
    }
    Ok(())
}
