//! What kinds of things there are: types, their functions, languages, access methods.

use chronos_model::Value;

use super::{row_type_oid, BTREE, HEAP};
use crate::system_tables::objects::{table_oid, Objects, OWNER, PG_CATALOG, PUBLIC};
use crate::system_tables::rows::{int, ints, text, yes, Rows};
use crate::system_tables::types::{self, function_oid};

pub(super) fn pg_type(objects: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&[
        "oid",
        "typname",
        "typnamespace",
        "typowner",
        "typlen",
        "typbyval",
        "typtype",
        "typcategory",
        "typispreferred",
        "typisdefined",
        "typdelim",
        "typelem",
        "typarray",
        "typinput",
        "typoutput",
        "typreceive",
        "typsend",
        "typalign",
        "typstorage",
        "typtypmod",
        "typrelid",
    ]);
    for t in types::all() {
        let schema = if t.name == "vector" {
            PUBLIC
        } else {
            PG_CATALOG
        };
        let [input, output, receive, send] = t.functions.map(|name| int(function_oid(name)));
        rows.push([
            int(t.oid),
            text(t.name),
            int(schema),
            int(OWNER),
            int(t.length),
            yes(t.by_value),
            text(t.kind),
            text(t.category),
            yes(t.is_preferred),
            yes(true),
            text(","),
            int(t.element),
            int(t.array),
            input,
            output,
            receive,
            send,
            text(t.align),
            text(t.storage),
            int(-1),
            int(0),
        ]);
    }
    row_types(objects, &mut rows);
    rows
}

/// The type of each table's and view's rows.
fn row_types(objects: &Objects<'_>, rows: &mut Rows) {
    let tables = objects.tables().map(|t| (table_oid(t.id), &t.name, "r"));
    let views = objects.catalog.views.values();
    let views = views.map(|v| (table_oid(v.id), &v.name, "v"));
    for (relation, name, kind) in tables.chain(views) {
        let [input, output, receive, send] =
            ["record_in", "record_out", "record_recv", "record_send"]
                .map(|name| int(function_oid(name)));
        rows.push([
            int(row_type_oid(relation, kind)),
            text(name),
            int(PUBLIC),
            int(OWNER),
            int(-1),
            yes(false),
            text("c"),
            text("C"),
            yes(false),
            yes(true),
            text(","),
            int(0),
            int(0),
            input,
            output,
            receive,
            send,
            text("d"),
            text("x"),
            int(-1),
            int(relation),
        ]);
    }
}

/// The functions that types name. Those that queries call are not listed.
pub(super) fn pg_proc(_: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&[
        "oid",
        "proname",
        "pronamespace",
        "proowner",
        "prolang",
        "procost",
        "prokind",
        "proisstrict",
        "provolatile",
        "proparallel",
        "pronargs",
        "prorettype",
        "proargtypes",
        "prosrc",
    ]);
    for f in types::functions() {
        rows.push([
            int(f.oid),
            text(f.name),
            int(PG_CATALOG),
            int(OWNER),
            int(12),
            Value::Float4(1.0),
            text("f"),
            yes(true),
            text("i"),
            text("s"),
            int(f.arguments),
            int(f.result),
            ints((0..f.arguments).map(|_| 0)),
            text(f.name),
        ]);
    }
    rows
}

pub(super) fn pg_language(_: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&["oid", "lanname", "lanowner", "lanpltrusted"]);
    rows.push([int(12), text("internal"), int(OWNER), yes(false)]);
    rows.push([int(14), text("sql"), int(OWNER), yes(true)]);
    rows
}

pub(super) fn pg_am(_: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&["oid", "amname", "amtype"]);
    rows.push([int(HEAP), text("heap"), text("t")]);
    rows.push([int(BTREE), text("btree"), text("i")]);
    rows
}
