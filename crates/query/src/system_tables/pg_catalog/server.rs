//! What the server tells of itself: its database, settings, sessions and zones.

use chronos_model::Value;

use crate::system_tables::objects::{Objects, DATABASE, OWNER};
use crate::system_tables::rows::{int, text, yes, Rows};
use crate::system_tables::settings::SETTINGS;

/// Object id of the tablespace `pg_default`.
const PG_DEFAULT: i64 = 1663;
/// PostgreSQL's number for UTF-8.
const UTF8: i64 = 6;

pub(super) fn pg_database(objects: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&[
        "oid",
        "datname",
        "datdba",
        "encoding",
        "datlocprovider",
        "datallowconn",
        "datconnlimit",
        "dattablespace",
        "datcollate",
        "datctype",
    ]);
    rows.push([
        int(DATABASE),
        text(&objects.facts.database),
        int(OWNER),
        int(UTF8),
        text("c"),
        yes(true),
        int(-1),
        int(PG_DEFAULT),
        text("C"),
        text("C.UTF-8"),
    ]);
    rows
}

pub(super) fn pg_tablespace(_: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&["oid", "spcname", "spcowner"]);
    rows.push([int(PG_DEFAULT), text("pg_default"), int(OWNER)]);
    rows
}

/// The session that asks; what others do is not told.
pub(super) fn pg_stat_activity(objects: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&["datname", "pid", "usename", "state", "backend_type"]);
    rows.push([
        text(&objects.facts.database),
        Value::Int4(1),
        text(&objects.facts.user),
        text("active"),
        text("client backend"),
    ]);
    rows
}

/// The session that asks, as `pg_backend_pid` numbers it: what it came by is not known here.
pub(super) fn pg_stat_gssapi(_: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&["pid", "gss_authenticated", "encrypted"]);
    rows.push([Value::Int4(1), yes(false), yes(false)]);
    rows
}

pub(super) fn pg_stat_ssl(_: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&["pid", "ssl"]);
    rows.push([Value::Int4(1), yes(false)]);
    rows
}

pub(super) fn pg_settings(_: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&[
        "name",
        "setting",
        "category",
        "short_desc",
        "context",
        "vartype",
        "source",
        "boot_val",
        "reset_val",
        "pending_restart",
    ]);
    for s in SETTINGS {
        rows.push([
            text(s.name),
            text(s.value),
            text(s.category),
            text(""),
            text("user"),
            text(s.kind),
            text("default"),
            text(s.value),
            text(s.value),
            yes(false),
        ]);
    }
    rows
}

fn no_offset() -> Value {
    Value::Interval(chronos_model::Interval::default())
}

pub(super) fn pg_timezone_names(_: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&["name", "abbrev", "utc_offset", "is_dst"]);
    rows.push([text("UTC"), text("UTC"), no_offset(), yes(false)]);
    rows
}

pub(super) fn pg_timezone_abbrevs(_: &Objects<'_>) -> Rows {
    let mut rows = Rows::of(&["abbrev", "utc_offset", "is_dst"]);
    rows.push([text("UTC"), no_offset(), yes(false)]);
    rows
}
