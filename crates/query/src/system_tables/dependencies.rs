//! `pg_depend`: which sequence belongs to which column, which index keeps which constraint, and
//! which columns a constraint is about.

use super::objects::{table_oid, Objects};
use super::rows::{int, text, Rows};

/// Object ids of `pg_class` and `pg_constraint`.
const PG_CLASS: i64 = 1259;
const PG_CONSTRAINT: i64 = 2606;

/// It goes with what it depends on.
const AUTO: &str = "a";
/// It cannot be there without what it depends on.
const NORMAL: &str = "n";
/// It is a part of what it depends on.
const INTERNAL: &str = "i";

pub(super) fn pg_depend(objects: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&[
        "classid",
        "objid",
        "refclassid",
        "refobjid",
        "refobjsubid",
        "deptype",
    ]);
    let mut push = |[class, object]: [i64; 2], [of_class, of, column]: [i64; 3], kind: &str| {
        rows.push([
            int(class),
            int(object),
            int(of_class),
            int(of),
            int(column),
            text(kind),
        ]);
    };
    for sequence in objects.catalog.sequences.values() {
        let Some((table, column)) = sequence.owner else {
            continue;
        };
        let Some(number) = objects.attribute_number(table, column) else {
            continue;
        };
        let schema = objects.catalog.table_by_id(table);
        let is_identity = schema
            .and_then(|t| t.columns.get(usize::try_from(number).ok()?.checked_sub(1)?))
            .is_some_and(|c| c.attributes.identity.is_some());
        let kind = if is_identity { INTERNAL } else { AUTO };
        let owner = [PG_CLASS, table_oid(table), number];
        push([PG_CLASS, table_oid(sequence.id)], owner, kind);
    }
    for index in objects.indexes() {
        let table = table_oid(index.table().id);
        let (object, constraint) = ([PG_CLASS, index.oid()], index.constraint_oid());
        if index.constraint().is_some() {
            push(object, [PG_CONSTRAINT, constraint, 0], INTERNAL);
        }
        for column in index.columns() {
            let column = [PG_CLASS, table, column as i64 + 1];
            match index.constraint() {
                Some(_) => push([PG_CONSTRAINT, constraint], column, AUTO),
                None => push(object, column, AUTO),
            }
        }
    }
    for check in objects.checks() {
        let table = table_oid(check.table.id);
        for column in check.columns() {
            let column = [PG_CLASS, table, column as i64 + 1];
            push([PG_CONSTRAINT, check.oid()], column, AUTO);
        }
    }
    for foreign in objects.foreign_keys() {
        let constraint = [PG_CONSTRAINT, foreign.oid()];
        for column in foreign.columns() {
            let column = [PG_CLASS, table_oid(foreign.table.id), column as i64 + 1];
            push(constraint, column, AUTO);
        }
        for column in foreign.referenced() {
            let column = [PG_CLASS, table_oid(foreign.parent.id), column as i64 + 1];
            push(constraint, column, NORMAL);
        }
    }
    rows
}
