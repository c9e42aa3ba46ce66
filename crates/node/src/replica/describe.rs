//! A refusal of apply in PostgreSQL's words.

use chronos_model::SqlState;
use chronos_store::{ApplyError, Store};

use crate::indexes::shown_key;
use crate::Error;

/// A failed apply in PostgreSQL's words.
pub(crate) fn describe(e: ApplyError, store: &Store) -> Error {
    match e {
        ApplyError::UniqueViolation {
            table,
            constraint,
            key,
        } => {
            let mut error = Error::new(
                SqlState::UNIQUE_VIOLATION,
                format!("duplicate key value violates unique constraint \"{constraint}\""),
            );
            let catalog = store.catalog();
            error.detail = catalog.table(&table).map(|t| {
                let columns = match catalog.indexes.get(&constraint) {
                    Some(index) => index.columns.iter().map(|c| c.column).collect(),
                    None => t.primary_key.clone(),
                };
                format!("{} already exists.", shown_key(t, &columns, &key))
            });
            error.table = Some(table);
            error.constraint = Some(constraint);
            error
        }
        ApplyError::ForeignKey(violation) => crate::session::violation(&violation),
        ApplyError::TruncatesReferenced { table, child } => {
            crate::session::truncates_referenced(&table, &child)
        }
        ApplyError::Conflict { table } => {
            let mut error = Error::new(
                SqlState::SERIALIZATION_FAILURE,
                "could not serialize access due to concurrent update",
            )
            .with_hint("Retry the transaction.");
            error.table = Some(table);
            error
        }
        e @ ApplyError::CatalogConflict => {
            Error::new(SqlState::SERIALIZATION_FAILURE, e.to_string())
                .with_hint("Retry the statement.")
        }
        ApplyError::DuplicateTable { name } => Error::new(
            SqlState::DUPLICATE_TABLE,
            format!("relation \"{name}\" already exists"),
        ),
        ApplyError::Storage(e) => e.into(),
        e @ ApplyError::UnknownSchema { .. } => Error::new(e.sqlstate(), e.to_string()),
        e @ ApplyError::SequenceExhausted { .. } => Error::new(e.sqlstate(), e.to_string()),
        e @ ApplyError::UnknownIndex { .. } => {
            Error::new(SqlState::UNDEFINED_OBJECT, e.to_string())
        }
        other => Error::new(other.sqlstate(), other.to_string()),
    }
}
