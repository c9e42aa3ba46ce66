//! The relations about constraints.

use chronos_model::Value;

use super::{database, own, schema};
use crate::system_tables::objects::Objects;
use crate::system_tables::rows::{int, text, yes_or_no, Rows};

pub(super) fn table_constraints(objects: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&[
        "constraint_catalog",
        "constraint_schema",
        "constraint_name",
        "table_catalog",
        "table_schema",
        "table_name",
        "constraint_type",
        "is_deferrable",
        "initially_deferred",
        "enforced",
    ]);
    for index in objects.constraints() {
        let kind = index.constraint().map_or("", |kind| kind.words);
        rows.push([
            database(objects),
            schema(&index.name()),
            own(&index.name()),
            database(objects),
            schema(&index.table().name),
            own(&index.table().name),
            text(kind),
            yes_or_no(false),
            yes_or_no(false),
            yes_or_no(true),
        ]);
    }
    for foreign in objects.foreign_keys() {
        rows.push([
            database(objects),
            schema(&foreign.table.name),
            text(&foreign.key.name),
            database(objects),
            schema(&foreign.table.name),
            own(&foreign.table.name),
            text("FOREIGN KEY"),
            yes_or_no(foreign.is_deferrable()),
            yes_or_no(foreign.is_deferred()),
            yes_or_no(true),
        ]);
    }
    for check in objects.checks() {
        rows.push([
            database(objects),
            schema(&check.table.name),
            text(&check.check.name),
            database(objects),
            schema(&check.table.name),
            own(&check.table.name),
            text("CHECK"),
            yes_or_no(false),
            yes_or_no(false),
            yes_or_no(true),
        ]);
    }
    rows
}

pub(super) fn check_constraints(objects: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&[
        "constraint_catalog",
        "constraint_schema",
        "constraint_name",
        "check_clause",
    ]);
    for check in objects.checks() {
        rows.push([
            database(objects),
            schema(&check.table.name),
            text(&check.check.name),
            text(format!("({})", check.check.expression)),
        ]);
    }
    rows
}

pub(super) fn key_column_usage(objects: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&[
        "constraint_catalog",
        "constraint_schema",
        "constraint_name",
        "table_catalog",
        "table_schema",
        "table_name",
        "column_name",
        "ordinal_position",
        "position_in_unique_constraint",
    ]);
    for index in objects.constraints() {
        let t = index.table();
        for (position, column) in index.columns().into_iter().enumerate() {
            rows.push([
                database(objects),
                schema(&index.name()),
                own(&index.name()),
                database(objects),
                schema(&t.name),
                own(&t.name),
                text(&t.columns[column].name),
                int(position as i64 + 1),
                Value::Null,
            ]);
        }
    }
    for foreign in objects.foreign_keys() {
        let t = foreign.table;
        let key = objects.index_referred_to(foreign);
        let key = key.map_or(vec![], |index| index.columns());
        let pairs = foreign.columns().into_iter().zip(foreign.referenced());
        for (position, (column, referenced)) in pairs.enumerate() {
            let there = key.iter().position(|c| *c == referenced);
            rows.push([
                database(objects),
                schema(&t.name),
                text(&foreign.key.name),
                database(objects),
                schema(&t.name),
                own(&t.name),
                text(&t.columns[column].name),
                int(position as i64 + 1),
                there.map_or(Value::Null, |p| int(p as i64 + 1)),
            ]);
        }
    }
    rows
}

pub(super) fn referential_constraints(objects: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&[
        "constraint_catalog",
        "constraint_schema",
        "constraint_name",
        "unique_constraint_catalog",
        "unique_constraint_schema",
        "unique_constraint_name",
        "match_option",
        "update_rule",
        "delete_rule",
    ]);
    for foreign in objects.foreign_keys() {
        // A unique index that is no constraint has no name here.
        let key = objects.index_referred_to(foreign);
        let key = key.filter(|index| index.constraint().is_some());
        rows.push([
            database(objects),
            schema(&foreign.table.name),
            text(&foreign.key.name),
            key.map_or(Value::Null, |_| database(objects)),
            key.map_or(Value::Null, |index| schema(&index.name())),
            key.map_or(Value::Null, |index| own(&index.name())),
            text("NONE"),
            text(foreign.key.on_update.sql()),
            text(foreign.key.on_delete.sql()),
        ]);
    }
    rows
}

pub(super) fn constraint_column_usage(objects: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&[
        "table_catalog",
        "table_schema",
        "table_name",
        "column_name",
        "constraint_catalog",
        "constraint_schema",
        "constraint_name",
    ]);
    for index in objects.constraints() {
        let t = index.table();
        for column in index.columns() {
            rows.push([
                database(objects),
                schema(&t.name),
                own(&t.name),
                text(&t.columns[column].name),
                database(objects),
                schema(&index.name()),
                own(&index.name()),
            ]);
        }
    }
    for foreign in objects.foreign_keys() {
        for column in foreign.referenced() {
            rows.push([
                database(objects),
                schema(&foreign.parent.name),
                own(&foreign.parent.name),
                text(&foreign.parent.columns[column].name),
                database(objects),
                schema(&foreign.table.name),
                text(&foreign.key.name),
            ]);
        }
    }
    for check in objects.checks() {
        for column in check.columns() {
            rows.push([
                database(objects),
                schema(&check.table.name),
                own(&check.table.name),
                text(&check.table.columns[column].name),
                database(objects),
                schema(&check.table.name),
                text(&check.check.name),
            ]);
        }
    }
    rows
}
