//! The rows of `pg_catalog`'s relations.

mod kinds;
mod server;

use chronos_model::{name_parts, own_name, ColumnSchema, Identity, TableSchema, Value};

use super::dependencies::pg_depend;
use super::objects::{
    table_oid, Objects, FIRST_TABLE, INFORMATION_SCHEMA, OWNER, PG_CATALOG, PUBLIC,
};
use super::roles::{pg_auth_members, pg_authid, pg_roles, pg_user};
use super::rows::{int, ints, text, yes, Rows};
use super::sequences::{pg_description, pg_sequence, pg_sequences};
use super::types::{self, modifier};
use super::{relations, Fill};
use kinds::{pg_am, pg_language, pg_proc, pg_type};
use server::{
    pg_database, pg_settings, pg_stat_activity, pg_stat_gssapi, pg_stat_ssl, pg_tablespace,
    pg_timezone_abbrevs, pg_timezone_names,
};

/// Object id of the access method of tables.
const HEAP: i64 = 2;
/// Types of rows are numbered as their tables are.
const FIRST_ROW_TYPE: i64 = 4_000_000;
/// Object id of the access method of primary keys.
const BTREE: i64 = 403;

/// The relations that have rows. All others are always empty.
pub(super) const FILLS: &[(&str, Fill)] = &[
    ("pg_am", pg_am),
    ("pg_attrdef", pg_attrdef),
    ("pg_attribute", pg_attribute),
    ("pg_auth_members", pg_auth_members),
    ("pg_authid", pg_authid),
    ("pg_class", pg_class),
    ("pg_constraint", pg_constraint),
    ("pg_sequence", pg_sequence),
    ("pg_sequences", pg_sequences),
    ("pg_database", pg_database),
    ("pg_depend", pg_depend),
    ("pg_description", pg_description),
    ("pg_index", pg_index),
    ("pg_indexes", pg_indexes),
    ("pg_language", pg_language),
    ("pg_namespace", pg_namespace),
    ("pg_proc", pg_proc),
    ("pg_roles", pg_roles),
    ("pg_settings", pg_settings),
    ("pg_stat_activity", pg_stat_activity),
    ("pg_stat_gssapi", pg_stat_gssapi),
    ("pg_stat_ssl", pg_stat_ssl),
    ("pg_shadow", pg_user),
    ("pg_stat_all_tables", pg_stat_user_tables),
    ("pg_stat_user_tables", pg_stat_user_tables),
    ("pg_tables", pg_tables),
    ("pg_tablespace", pg_tablespace),
    ("pg_timezone_abbrevs", pg_timezone_abbrevs),
    ("pg_timezone_names", pg_timezone_names),
    ("pg_type", pg_type),
    ("pg_user", pg_user),
    ("pg_views", pg_views),
];

fn pg_namespace(objects: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&["oid", "nspname", "nspowner"]);
    for (oid, name) in [
        (PG_CATALOG, "pg_catalog"),
        (PUBLIC, "public"),
        (INFORMATION_SCHEMA, "information_schema"),
    ] {
        rows.push([int(oid), text(name), int(OWNER)]);
    }
    for name in objects.catalog.schemas.keys() {
        rows.push([int(objects.namespace(name)), text(name), int(OWNER)]);
    }
    rows
}

fn pg_class(objects: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&[
        "oid",
        "relname",
        "relnamespace",
        "relowner",
        "relam",
        "relfilenode",
        "reltuples",
        "relhasindex",
        "relpersistence",
        "relkind",
        "relnatts",
        "relispopulated",
        "relreplident",
        "reloptions",
        "relchecks",
        "relhastriggers",
        "reltype",
    ]);
    let mut push = |oid: i64,
                    name: &str,
                    schema: i64,
                    am: i64,
                    has_index: bool,
                    kind: &str,
                    columns: usize,
                    options: Value,
                    (checks, has_triggers): (usize, bool)| {
        let replica_identity = if kind == "r" { "d" } else { "n" };
        rows.push([
            int(oid),
            text(name),
            int(schema),
            int(OWNER),
            int(am),
            int(oid),
            Value::Float4(-1.0),
            yes(has_index),
            text("p"),
            text(kind),
            int(columns as i64),
            yes(true),
            text(replica_identity),
            options,
            int(checks as i64),
            yes(has_triggers),
            int(row_type_oid(oid, kind)),
        ]);
    };
    for table in objects.tables() {
        push(
            table_oid(table.id),
            own_name(&table.name),
            objects.namespace_of(&table.name),
            HEAP,
            has_index(objects, table),
            "r",
            table.columns.len(),
            options(table),
            (table.rules.checks.len(), objects.has_triggers(table)),
        );
    }
    for index in objects.indexes() {
        push(
            index.oid(),
            own_name(&index.name()),
            objects.namespace_of(&index.name()),
            BTREE,
            false,
            "i",
            index.all_columns().len(),
            Value::Null,
            (0, false),
        );
    }
    for sequence in objects.catalog.sequences.values() {
        let oid = table_oid(sequence.id);
        push(
            oid,
            own_name(&sequence.name),
            objects.namespace_of(&sequence.name),
            0,
            false,
            "S",
            3,
            Value::Null,
            (0, false),
        );
    }
    for view in objects.catalog.views.values() {
        let (oid, columns) = (table_oid(view.id), view.columns.len());
        push(
            oid,
            own_name(&view.name),
            objects.namespace_of(&view.name),
            0,
            false,
            "v",
            columns,
            Value::Null,
            (0, false),
        );
    }
    for relation in relations::all() {
        let (kind, am) = if relation.is_view {
            ("v", 0)
        } else {
            ("r", HEAP)
        };
        push(
            relation.oid,
            relation.name,
            namespace(relation),
            am,
            false,
            kind,
            relation.columns.len(),
            Value::Null,
            (0, false),
        );
    }
    rows
}

/// Object id of the type of a relation's rows; 0 for those that have none, and system relations.
fn row_type_oid(relation: i64, kind: &str) -> i64 {
    match kind {
        "r" | "v" if relation >= FIRST_TABLE => FIRST_ROW_TYPE + relation - FIRST_TABLE,
        _ => 0,
    }
}

fn has_index(objects: &Objects<'_>, table: &TableSchema) -> bool {
    let mut secondary = objects.catalog.indexes_of(table.id);
    !table.has_hidden_key() || secondary.next().is_some()
}

/// What `WITH (..)` said of the table.
fn options(table: &TableSchema) -> Value {
    let shown = crate::table_options::shown(table);
    if shown.is_empty() {
        return Value::Null;
    }
    let option = |(name, value): &(&str, String)| text(format!("{name}={value}"));
    Value::Array(shown.iter().map(option).collect())
}

fn namespace(relation: &relations::Relation) -> i64 {
    match relation.schema {
        "information_schema" => INFORMATION_SCHEMA,
        _ => PG_CATALOG,
    }
}

fn pg_attribute(objects: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&[
        "attrelid",
        "attname",
        "atttypid",
        "attstattarget",
        "attlen",
        "attnum",
        "attndims",
        "attcacheoff",
        "atttypmod",
        "attbyval",
        "attalign",
        "attstorage",
        "attnotnull",
        "atthasdef",
        "attislocal",
        "attgenerated",
        "attidentity",
    ]);
    let mut push = |relation: i64,
                    name: &str,
                    oid: i64,
                    number: usize,
                    modifier: i64,
                    not_null: bool,
                    has_default: bool,
                    [generated, identity]: [&str; 2]| {
        let found = types::by_oid(oid);
        let is_array = found.is_some_and(|t| t.category == "A");
        rows.push([
            int(relation),
            text(name),
            int(oid),
            int(-1),
            int(found.map_or(-1, |t| t.length)),
            int(number as i64 + 1),
            int(i64::from(is_array)),
            int(-1),
            int(modifier),
            yes(found.is_some_and(|t| t.by_value)),
            text(found.map_or("i", |t| t.align)),
            text(found.map_or("x", |t| t.storage)),
            yes(not_null),
            yes(has_default),
            yes(true),
            text(generated),
            text(identity),
        ]);
    };
    for table in objects.tables() {
        for (number, column) in table.columns.iter().enumerate() {
            let oid = i64::from(column.data_type.oid());
            let generated = column.attributes.generated.as_ref().map_or("", |_| "s");
            let identity = match column.attributes.identity {
                None => "",
                Some(Identity::Always) => "a",
                Some(Identity::ByDefault) => "d",
            };
            let has_default = shown_default(column).is_some();
            push(
                table_oid(table.id),
                &column.name,
                oid,
                number,
                modifier(&column.data_type),
                !column.nullable,
                has_default,
                [generated, identity],
            );
        }
    }
    for view in objects.catalog.views.values() {
        for (number, column) in view.columns.iter().enumerate() {
            push(
                table_oid(view.id),
                &column.name,
                i64::from(column.data_type.oid()),
                number,
                modifier(&column.data_type),
                false,
                false,
                ["", ""],
            );
        }
    }
    for index in objects.indexes() {
        for (number, position) in index.all_columns().into_iter().enumerate() {
            let column = &index.table().columns[position];
            let oid = i64::from(column.data_type.oid());
            push(
                index.oid(),
                &column.name,
                oid,
                number,
                modifier(&column.data_type),
                false,
                false,
                ["", ""],
            );
        }
    }
    for relation in relations::all() {
        for (number, column) in relation.columns.iter().enumerate() {
            let oid = types::by_name(column.type_name).map_or(25, |t| t.oid);
            push(
                relation.oid,
                column.name,
                oid,
                number,
                -1,
                !relation.absent(column).is_null(),
                false,
                ["", ""],
            );
        }
    }
    rows
}

fn pg_attrdef(objects: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&["oid", "adrelid", "adnum", "adbin"]);
    let mut oid = 3_000_000;
    for table in objects.tables() {
        for (number, column) in table.columns.iter().enumerate() {
            if let Some(default) = shown_default(column) {
                rows.push([
                    int(oid),
                    int(table_oid(table.id)),
                    int(number as i64 + 1),
                    text(default),
                ]);
                oid += 1;
            }
        }
    }
    rows
}

/// What `pg_attrdef` has of a column: its default, or how it is generated.
fn shown_default(column: &ColumnSchema) -> Option<&str> {
    if column.attributes.identity.is_some() {
        return None;
    }
    let generated = column.attributes.generated.as_deref();
    generated.or(column.default.as_deref())
}

/// Positions as `attnum` counts them.
fn numbers(positions: Vec<usize>) -> Value {
    ints(positions.into_iter().map(|position| position as i64 + 1))
}

fn pg_index(objects: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&[
        "indexrelid",
        "indrelid",
        "indnatts",
        "indnkeyatts",
        "indisunique",
        "indisprimary",
        "indimmediate",
        "indisvalid",
        "indisready",
        "indislive",
        "indkey",
        "indcollation",
        "indclass",
        "indoption",
        "indpred",
    ]);
    for index in objects.indexes() {
        let (columns, all) = (index.columns(), index.all_columns());
        let zeros = || ints(columns.iter().map(|_| 0));
        rows.push([
            int(index.oid()),
            int(table_oid(index.table().id)),
            int(all.len() as i64),
            int(columns.len() as i64),
            yes(index.is_unique()),
            yes(index.is_primary()),
            yes(true),
            yes(index.is_valid()),
            yes(true),
            yes(true),
            numbers(all),
            zeros(),
            zeros(),
            ints(index.options()),
            index.predicate().map_or(Value::Null, text),
        ]);
    }
    rows
}

fn pg_constraint(objects: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&[
        "oid",
        "conname",
        "connamespace",
        "contype",
        "condeferrable",
        "condeferred",
        "convalidated",
        "conrelid",
        "conindid",
        "confrelid",
        "confupdtype",
        "confdeltype",
        "confmatchtype",
        "conislocal",
        "connoinherit",
        "conkey",
        "confkey",
        "conbin",
    ]);
    for index in objects.constraints() {
        let kind = index.constraint().map_or("", |kind| kind.letter);
        rows.push([
            int(index.constraint_oid()),
            text(own_name(&index.name())),
            int(objects.namespace_of(&index.name())),
            text(kind),
            yes(false),
            yes(false),
            yes(true),
            int(table_oid(index.table().id)),
            int(index.oid()),
            int(0),
            text(" "),
            text(" "),
            text(" "),
            yes(true),
            yes(true),
            numbers(index.columns()),
            Value::Null,
            Value::Null,
        ]);
    }
    for foreign in objects.foreign_keys() {
        let index = objects.index_referred_to(foreign);
        rows.push([
            int(foreign.oid()),
            text(&foreign.key.name),
            int(objects.namespace_of(&foreign.table.name)),
            text("f"),
            yes(foreign.is_deferrable()),
            yes(foreign.is_deferred()),
            yes(true),
            int(table_oid(foreign.table.id)),
            int(index.map_or(0, |index| index.oid())),
            int(table_oid(foreign.parent.id)),
            text(foreign.key.on_update.letter()),
            text(foreign.key.on_delete.letter()),
            text("s"),
            yes(true),
            yes(true),
            numbers(foreign.columns()),
            numbers(foreign.referenced()),
            Value::Null,
        ]);
    }
    for check in objects.checks() {
        rows.push([
            int(check.oid()),
            text(&check.check.name),
            int(objects.namespace_of(&check.table.name)),
            text("c"),
            yes(false),
            yes(false),
            yes(true),
            int(table_oid(check.table.id)),
            int(0),
            int(0),
            text(" "),
            text(" "),
            text(" "),
            yes(true),
            yes(false),
            numbers(check.columns()),
            Value::Null,
            text(&check.check.expression),
        ]);
    }
    rows
}

fn pg_tables(objects: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&[
        "schemaname",
        "tablename",
        "tableowner",
        "hasindexes",
        "hasrules",
        "hastriggers",
        "rowsecurity",
    ]);
    let owner = || text(&objects.facts.user);
    for t in objects.tables() {
        rows.push([
            text(name_parts(&t.name).0),
            text(own_name(&t.name)),
            owner(),
            yes(has_index(objects, t)),
            yes(false),
            yes(objects.has_triggers(t)),
            yes(false),
        ]);
    }
    for r in relations::all().iter().filter(|r| !r.is_view) {
        rows.push([
            text(r.schema),
            text(r.name),
            owner(),
            yes(false),
            yes(false),
            yes(false),
            yes(false),
        ]);
    }
    rows
}

fn pg_views(objects: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&["schemaname", "viewname", "viewowner", "definition"]);
    let user = || text(&objects.facts.user);
    for view in objects.catalog.views.values() {
        let definition = text(format!("{};", view.query));
        let (schema, name) = name_parts(&view.name);
        rows.push([text(schema), text(name), user(), definition]);
    }
    for r in relations::all().iter().filter(|r| r.is_view) {
        rows.push([text(r.schema), text(r.name), user(), Value::Null]);
    }
    rows
}

fn pg_indexes(objects: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&["schemaname", "tablename", "indexname", "indexdef"]);
    for index in objects.indexes() {
        rows.push([
            text(name_parts(&index.table().name).0),
            text(own_name(&index.table().name)),
            text(own_name(&index.name())),
            text(index.definition()),
        ]);
    }
    rows
}

fn pg_stat_user_tables(objects: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&["relid", "schemaname", "relname"]);
    for t in objects.tables() {
        let (schema, name) = name_parts(&t.name);
        rows.push([int(table_oid(t.id)), text(schema), text(name)]);
    }
    rows
}
