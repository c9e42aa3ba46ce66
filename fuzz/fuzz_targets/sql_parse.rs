//! Any text through `sql::parse`: our rewriting of temporal clauses and of `WITH TTL`,
//! then sqlparser, then what tables and COPY are made of. It must not panic, an error's
//! position must lie in the text, and what is printed for the engine to read again must
//! be read as the same.
//!
//! `just fuzz sql_parse -dict=sql.dict`
#![no_main]

use chronos_query::sql::{self, Command, CopyDirection};
use chronos_query::{ddl, QueryError};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let command = match sql::parse(text) {
        Ok(command) => command,
        Err(error) => return check_error(&error, text),
    };
    match command {
        Command::CreateTable(create) => match ddl::table_schema(&create) {
            Ok(schema) => {
                let width = schema.columns.len();
                assert!(schema.primary_key.iter().all(|&column| column < width));
            }
            Err(error) => check_error(&error, text),
        },
        Command::DropTables(names, _) | Command::Truncate(names) => {
            for name in names {
                if let Err(error) = sql::table_name(&name) {
                    check_error(&error, text);
                }
            }
        }
        Command::Copy(statement) => match sql::copy(&statement) {
            Ok(copy) => {
                if let CopyDirection::To { query } = copy.direction {
                    let again = sql::parse_query(&query);
                    let again = again.unwrap_or_else(|e| panic!("{query:?}: {e}"));
                    assert_eq!(again.to_string(), query);
                }
            }
            Err(error) => check_error(&error, text),
        },
        Command::Begin(modes) => {
            let _ = (sql::check_isolation(&modes), sql::is_read_only(&modes));
        }
        _ => {}
    }
});

fn check_error(error: &QueryError, text: &str) {
    assert_eq!(error.code.0.len(), 5);
    assert!(!error.message.is_empty());
    if let Some(offset) = error.offset {
        assert!(
            text.is_char_boundary(offset),
            "{offset} in {text:?}: {error}"
        );
    }
}
