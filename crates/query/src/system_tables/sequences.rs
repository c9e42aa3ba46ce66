//! Sequences and comments as PostgreSQL's catalog has them.

use chronos_model::{TableId, Value};

use super::objects::{table_oid, Objects};
use super::rows::{int, text, yes, Rows};

pub(super) fn pg_sequence(objects: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&[
        "seqrelid",
        "seqtypid",
        "seqstart",
        "seqincrement",
        "seqmax",
        "seqmin",
        "seqcache",
        "seqcycle",
    ]);
    for s in objects.catalog.sequences.values() {
        rows.push([
            int(table_oid(s.id)),
            int(i64::from(s.data_type.oid())),
            int(s.start),
            int(s.increment),
            int(s.max),
            int(s.min),
            int(1),
            yes(s.cycle),
        ]);
    }
    rows
}

pub(super) fn pg_sequences(objects: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&[
        "schemaname",
        "sequencename",
        "sequenceowner",
        "data_type",
        "start_value",
        "min_value",
        "max_value",
        "increment_by",
        "cycle",
        "cache_size",
        "last_value",
    ]);
    for s in objects.catalog.sequences.values() {
        rows.push([
            text(chronos_model::name_parts(&s.name).0),
            text(chronos_model::own_name(&s.name)),
            text(&objects.facts.user),
            int(i64::from(s.data_type.oid())),
            int(s.start),
            int(s.min),
            int(s.max),
            int(s.increment),
            yes(s.cycle),
            int(1),
            match s.is_called {
                true => int(s.last),
                false => Value::Null,
            },
        ]);
    }
    rows
}

/// Object id of `pg_class`, where comments on relations and columns belong.
const PG_CLASS: i64 = 1259;

pub(super) fn pg_description(objects: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&["objoid", "classoid", "objsubid", "description"]);
    let comments = &objects.catalog.comments;
    for (id, comment) in &comments.relations {
        let oid = objects.relation_oid(TableId(*id));
        rows.push([int(oid), int(PG_CLASS), int(0), text(comment)]);
    }
    for (id, column, comment) in &comments.columns {
        if let Some(number) = objects.attribute_number(*id, *column) {
            let oid = objects.relation_oid(*id);
            rows.push([int(oid), int(PG_CLASS), int(number), text(comment)]);
        }
    }
    rows
}
