//! Names of relations, schemas and roles as object ids, and back: what PostgreSQL's
//! types `regclass`, `regnamespace` and `regrole` read and show.

use chronos_model::{name_in, own_name, SqlState, TableId};

use super::objects::{table_oid, Objects, INFORMATION_SCHEMA, PG_CATALOG, PUBLIC};
use super::relations;
use crate::QueryError;

/// Object id of a relation by its written name; `None` if there is none such.
///
/// Errors: the name is not one (`a.b.c.d`, an unclosed quote).
pub(crate) fn relation_oid(
    objects: &Objects<'_>,
    written: &str,
) -> Result<Option<i64>, QueryError> {
    let written = written.trim();
    if let Ok(oid) = written.parse::<i64>() {
        return Ok(Some(oid));
    }
    let parts = parts(written)?;
    let (schema, name) = match parts.as_slice() {
        [name] => (None, name.as_str()),
        [schema, name] | [_, schema, name] => (Some(schema.as_str()), name.as_str()),
        _ => return Err(invalid(written)),
    };
    let full = match schema {
        Some(schema) => name_in(schema, name),
        // Written by Chronos itself.
        None if own_name(name) != name => name.to_owned(),
        None => objects.found(name),
    };
    if let Some(table) = objects.catalog.table(&full) {
        return Ok(Some(table_oid(table.id)));
    }
    if let Some(index) = objects.indexes().find(|i| i.name() == full) {
        return Ok(Some(index.oid()));
    }
    let catalog = objects.catalog;
    let sequence = catalog.sequences.get(&full).map(|s| s.id);
    if let Some(id) = sequence.or_else(|| catalog.views.get(&full).map(|v| v.id)) {
        return Ok(Some(table_oid(id)));
    }
    Ok(relations::find(schema, name).map(|r| r.oid))
}

/// A relation's name as `regclass` shows it: qualified only where it must be.
pub(crate) fn relation_name(objects: &Objects<'_>, oid: i64) -> Option<String> {
    if let Some(table) = objects.table(oid) {
        return Some(objects.shown(&table.name));
    }
    if let Some(index) = objects.index(oid) {
        return Some(objects.shown(&index.name()));
    }
    let catalog = objects.catalog;
    if let Some(sequence) = catalog.sequences.values().find(|s| table_oid(s.id) == oid) {
        return Some(objects.shown(&sequence.name));
    }
    if let Some(view) = catalog.views.values().find(|v| table_oid(v.id) == oid) {
        return Some(objects.shown(&view.name));
    }
    let relation = relations::all().iter().find(|r| r.oid == oid)?;
    match relation.schema {
        "pg_catalog" => Some(relation.name.to_owned()),
        schema => Some(format!("{schema}.{}", relation.name)),
    }
}

/// The catalog's name of a user's relation.
pub(crate) fn relation_full_name(objects: &Objects<'_>, oid: i64) -> Option<String> {
    if let Some(table) = objects.table(oid) {
        return Some(table.name.clone());
    }
    if let Some(index) = objects.index(oid) {
        return Some(index.name());
    }
    let catalog = objects.catalog;
    let sequence = catalog.sequences.values().find(|s| table_oid(s.id) == oid);
    let view = || catalog.views.values().find(|v| table_oid(v.id) == oid);
    let sequence = sequence.map(|s| s.name.clone());
    sequence.or_else(|| view().map(|v| v.name.clone()))
}

/// Object id of a schema.
pub(crate) fn namespace_oid(objects: &Objects<'_>, written: &str) -> Option<i64> {
    let written = written.trim();
    let name = parts(written).ok().filter(|parts| parts.len() == 1);
    let name = name.and_then(|mut parts| parts.pop()).unwrap_or_default();
    if let Some(id) = objects.catalog.schemas.get(&name) {
        return Some(table_oid(TableId(*id)));
    }
    match written {
        "public" => Some(PUBLIC),
        "pg_catalog" => Some(PG_CATALOG),
        "information_schema" => Some(INFORMATION_SCHEMA),
        number => number.parse().ok(),
    }
}

/// Name of a schema.
pub(crate) fn namespace_name<'a>(objects: &Objects<'a>, oid: i64) -> Option<&'a str> {
    let mut own = objects.catalog.schemas.iter();
    if let Some((name, _)) = own.find(|(_, id)| table_oid(TableId(**id)) == oid) {
        return Some(name);
    }
    match oid {
        PUBLIC => Some("public"),
        PG_CATALOG => Some("pg_catalog"),
        INFORMATION_SCHEMA => Some("information_schema"),
        _ => None,
    }
}

/// Object id of a role.
pub(crate) fn role_oid(objects: &Objects<'_>, written: &str) -> Option<i64> {
    let written = written.trim();
    let named = objects.role_named(written).map(|role| role.oid);
    named.or_else(|| written.parse().ok())
}

/// Name of a role.
pub(crate) fn role_name(objects: &Objects<'_>, oid: i64) -> Option<String> {
    objects.role_of_oid(oid).map(|role| role.name.to_owned())
}

/// The parts of a dotted name, folded unless quoted.
pub(crate) fn parts(written: &str) -> Result<Vec<String>, QueryError> {
    let mut parts = Vec::new();
    let mut rest = written.chars().peekable();
    loop {
        let mut part = String::new();
        if rest.next_if_eq(&'"').is_some() {
            loop {
                match rest.next() {
                    Some('"') if rest.next_if_eq(&'"').is_some() => part.push('"'),
                    Some('"') => break,
                    Some(c) => part.push(c),
                    None => return Err(invalid(written)),
                }
            }
        } else {
            while let Some(c) = rest.next_if(|c| *c != '.' && *c != '"') {
                part.extend(c.to_lowercase());
            }
        }
        parts.push(part);
        match rest.next() {
            None => break,
            Some('.') => {}
            Some(_) => return Err(invalid(written)),
        }
    }
    if parts.iter().any(String::is_empty) {
        return Err(invalid(written));
    }
    Ok(parts)
}

fn invalid(written: &str) -> QueryError {
    QueryError::new(
        SqlState("42602"),
        format!("invalid name syntax: \"{written}\""),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotted_names_fold_and_quote() {
        assert_eq!(parts("Public.T").unwrap(), ["public", "t"]);
        assert_eq!(parts("\"My \"\"Table\"").unwrap(), ["My \"Table"]);
        for bad in ["", "a.", "\"a", "a\"b\""] {
            assert_eq!(parts(bad).unwrap_err().code.0, "42602", "{bad}");
        }
    }
}
