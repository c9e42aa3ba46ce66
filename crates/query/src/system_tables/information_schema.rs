//! The rows of `information_schema`'s relations.

mod constraints;

use chronos_model::{name_parts, DataType, Identity, Value};

use super::objects::Objects;
use super::rows::{int, text, yes_or_no, Rows};
use super::types::{self, format_type};
use super::{relations, Fill};
use constraints::{
    check_constraints, constraint_column_usage, key_column_usage, referential_constraints,
    table_constraints,
};

/// The relations that have rows. All others are always empty.
pub(super) const FILLS: &[(&str, Fill)] = &[
    ("character_sets", character_sets),
    ("columns", columns),
    ("constraint_column_usage", constraint_column_usage),
    ("enabled_roles", enabled_roles),
    (
        "information_schema_catalog_name",
        information_schema_catalog_name,
    ),
    ("key_column_usage", key_column_usage),
    ("role_table_grants", table_privileges),
    ("schemata", schemata),
    ("check_constraints", check_constraints),
    ("sequences", sequences),
    ("referential_constraints", referential_constraints),
    ("table_constraints", table_constraints),
    ("table_privileges", table_privileges),
    ("tables", tables),
    ("views", views),
];

fn database(objects: &Objects<'_>) -> Value {
    text(&objects.facts.database)
}

/// The schema of a relation's name.
fn schema(name: &str) -> Value {
    text(name_parts(name).0)
}

/// The relation's own name.
fn own(name: &str) -> Value {
    text(name_parts(name).1)
}

fn information_schema_catalog_name(objects: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&["catalog_name"]);
    rows.push([database(objects)]);
    rows
}

fn schemata(objects: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&["catalog_name", "schema_name", "schema_owner"]);
    let own = objects.catalog.schemas.keys().map(String::as_str);
    for schema in ["information_schema", "pg_catalog", "public"]
        .into_iter()
        .chain(own)
    {
        rows.push([database(objects), text(schema), text(&objects.facts.user)]);
    }
    rows
}

fn tables(objects: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&[
        "table_catalog",
        "table_schema",
        "table_name",
        "table_type",
        "is_insertable_into",
        "is_typed",
    ]);
    for t in objects.tables() {
        rows.push([
            database(objects),
            schema(&t.name),
            own(&t.name),
            text("BASE TABLE"),
            yes_or_no(true),
            yes_or_no(false),
        ]);
    }
    for view in objects.catalog.views.values() {
        rows.push([
            database(objects),
            schema(&view.name),
            own(&view.name),
            text("VIEW"),
            yes_or_no(false),
            yes_or_no(false),
        ]);
    }
    for r in relations::all() {
        let kind = if r.is_view { "VIEW" } else { "BASE TABLE" };
        rows.push([
            database(objects),
            text(r.schema),
            text(r.name),
            text(kind),
            yes_or_no(false),
            yes_or_no(false),
        ]);
    }
    rows
}

fn views(objects: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&[
        "table_catalog",
        "table_schema",
        "table_name",
        "view_definition",
        "check_option",
        "is_updatable",
        "is_insertable_into",
    ]);
    for view in objects.catalog.views.values() {
        rows.push([
            database(objects),
            schema(&view.name),
            own(&view.name),
            text(&view.query),
            text("NONE"),
            yes_or_no(false),
            yes_or_no(false),
        ]);
    }
    for r in relations::all().iter().filter(|r| r.is_view) {
        rows.push([
            database(objects),
            text(r.schema),
            text(r.name),
            Value::Null,
            text("NONE"),
            yes_or_no(false),
            yes_or_no(false),
        ]);
    }
    rows
}

/// Precision, radix and scale of a number; NULLs for what is none.
fn numeric_shape(data_type: &DataType) -> [Value; 3] {
    let binary = |bits: i64, scale: Value| [int(bits), int(2), scale];
    match data_type {
        DataType::Int2 => binary(16, int(0)),
        DataType::Int4 => binary(32, int(0)),
        DataType::Int8 => binary(64, int(0)),
        DataType::Float4 => binary(24, Value::Null),
        DataType::Float8 => binary(53, Value::Null),
        DataType::Numeric(Some((precision, scale))) => {
            [int(i64::from(*precision)), int(10), int(i64::from(*scale))]
        }
        DataType::Numeric(None) => [Value::Null, int(10), Value::Null],
        _ => [Value::Null, Value::Null, Value::Null],
    }
}

fn columns(objects: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&[
        "table_catalog",
        "table_schema",
        "table_name",
        "column_name",
        "ordinal_position",
        "column_default",
        "is_nullable",
        "data_type",
        "character_maximum_length",
        "character_octet_length",
        "numeric_precision",
        "numeric_precision_radix",
        "numeric_scale",
        "datetime_precision",
        "udt_catalog",
        "udt_schema",
        "udt_name",
        "dtd_identifier",
        "is_self_referencing",
        "is_identity",
        "identity_generation",
        "identity_cycle",
        "is_generated",
        "generation_expression",
        "is_updatable",
    ]);
    let mut push = |schema: &str,
                    table: &str,
                    name: &str,
                    position: usize,
                    default: Option<&str>,
                    nullable: bool,
                    written: &DataType,
                    oid: i64,
                    generated: Option<&str>,
                    identity: Option<&str>| {
        let shown = match written {
            DataType::Array(_) => "ARRAY".to_owned(),
            DataType::Vector(_) => "USER-DEFINED".to_owned(),
            _ => format_type(oid, None),
        };
        let [precision, radix, scale] = numeric_shape(written);
        let (characters, bytes) = match written {
            DataType::Varchar(Some(n)) => (int(*n), int(i64::from(*n) * 4)),
            DataType::Varchar(None) | DataType::Text => (Value::Null, int(1 << 30)),
            _ => (Value::Null, Value::Null),
        };
        let fraction = match written {
            DataType::Date => int(0),
            DataType::Time | DataType::Timestamp | DataType::TimestampTz | DataType::Interval => {
                int(6)
            }
            _ => Value::Null,
        };
        let is_own = matches!(written, DataType::Vector(_));
        rows.push([
            database(objects),
            text(schema),
            text(table),
            text(name),
            int(position as i64 + 1),
            default.map_or(Value::Null, |sql| text(crate::schemas::shown_sql(sql))),
            yes_or_no(nullable),
            text(shown),
            characters,
            bytes,
            precision,
            radix,
            scale,
            fraction,
            database(objects),
            text(if is_own { "public" } else { "pg_catalog" }),
            text(types::by_oid(oid).map_or("text", |t| t.name)),
            text((position + 1).to_string()),
            yes_or_no(false),
            yes_or_no(identity.is_some()),
            identity.map_or(Value::Null, text),
            yes_or_no(false),
            text(if generated.is_some() {
                "ALWAYS"
            } else {
                "NEVER"
            }),
            generated.map_or(Value::Null, text),
            yes_or_no(!matches!(schema, "pg_catalog" | "information_schema")),
        ]);
    };
    for t in objects.tables() {
        for (position, c) in t.columns.iter().enumerate() {
            let oid = i64::from(c.data_type.oid());
            push(
                name_parts(&t.name).0,
                name_parts(&t.name).1,
                &c.name,
                position,
                c.default
                    .as_deref()
                    .filter(|_| c.attributes.identity.is_none()),
                c.nullable,
                &c.data_type,
                oid,
                c.attributes.generated.as_deref(),
                c.attributes.identity.map(|identity| match identity {
                    Identity::Always => "ALWAYS",
                    Identity::ByDefault => "BY DEFAULT",
                }),
            );
        }
    }
    for view in objects.catalog.views.values() {
        for (position, c) in view.columns.iter().enumerate() {
            let oid = i64::from(c.data_type.oid());
            let (schema, name) = name_parts(&view.name);
            push(
                schema,
                name,
                &c.name,
                position,
                None,
                true,
                &c.data_type,
                oid,
                None,
                None,
            );
        }
    }
    for r in relations::all() {
        for (position, c) in r.columns.iter().enumerate() {
            let oid = types::by_name(c.type_name).map_or(25, |t| t.oid);
            push(
                r.schema,
                r.name,
                c.name,
                position,
                None,
                r.absent(c).is_null(),
                &c.data_type,
                oid,
                None,
                None,
            );
        }
    }
    rows
}

fn sequences(objects: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&[
        "sequence_catalog",
        "sequence_schema",
        "sequence_name",
        "data_type",
        "numeric_precision",
        "numeric_precision_radix",
        "numeric_scale",
        "start_value",
        "minimum_value",
        "maximum_value",
        "increment",
        "cycle_option",
    ]);
    for s in objects.catalog.sequences.values() {
        // Of an identity column it is no object of its own.
        let is_identity = s.owner.is_some_and(|(table, column)| {
            let table = objects.catalog.table_by_id(table);
            table.is_some_and(|t| {
                let position = t.position_of(column);
                position.is_some_and(|p| t.columns[p].attributes.identity.is_some())
            })
        });
        if is_identity {
            continue;
        }
        let [precision, radix, scale] = numeric_shape(&s.data_type);
        rows.push([
            database(objects),
            schema(&s.name),
            own(&s.name),
            text(format_type(i64::from(s.data_type.oid()), None)),
            precision,
            radix,
            scale,
            text(s.start.to_string()),
            text(s.min.to_string()),
            text(s.max.to_string()),
            text(s.increment.to_string()),
            yes_or_no(s.cycle),
        ]);
    }
    rows
}

fn table_privileges(objects: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&[
        "grantor",
        "grantee",
        "table_catalog",
        "table_schema",
        "table_name",
        "privilege_type",
        "is_grantable",
        "with_hierarchy",
    ]);
    let user = || text(&objects.facts.user);
    for t in objects.tables() {
        for privilege in ["INSERT", "SELECT", "UPDATE", "DELETE", "TRUNCATE"] {
            let is_read = privilege == "SELECT";
            rows.push([
                user(),
                user(),
                database(objects),
                schema(&t.name),
                own(&t.name),
                text(privilege),
                yes_or_no(true),
                yes_or_no(is_read),
            ]);
        }
    }
    rows
}

fn enabled_roles(objects: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&["role_name"]);
    rows.push([text(&objects.facts.user)]);
    rows
}

fn character_sets(objects: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&[
        "character_set_name",
        "character_repertoire",
        "form_of_use",
        "default_collate_catalog",
    ]);
    rows.push([text("UTF8"), text("UCS"), text("UTF8"), database(objects)]);
    rows
}
