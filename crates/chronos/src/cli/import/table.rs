//! The table that is loaded: found or created, and which of its columns the file fills.

use super::infer::{column_name, column_names, create_table, Guess, Type};
use super::records::fields;
use super::source::Source;
use super::Batch;
use crate::cli::args::ImportArgs;
use crate::cli::error::CliError;
use crate::cli::repl::TableName;
use crate::cli::reply::{quote_identifier, quote_literal, RunError};
use crate::cli::wire::Session;

/// SQLSTATE for a table that does not exist.
const UNDEFINED_TABLE: &str = "42P01";

/// Where the rows go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Destination {
    /// The table's name, quoted where it has to be.
    pub(super) table: String,
    /// The columns the file's fields fill, in the file's order.
    pub(super) columns: Vec<String>,
}

impl Destination {
    /// The COPY that takes the file's records as they are.
    pub(super) fn copy_statement(&self, delimiter: u8, null: &str) -> String {
        let columns: Vec<String> = self.columns.iter().map(|c| quote_identifier(c)).collect();
        format!(
            "COPY {} ({}) FROM STDIN WITH (FORMAT csv, DELIMITER {}, NULL {})",
            self.table,
            columns.join(", "),
            quote_literal(&char::from(delimiter).to_string()),
            quote_literal(null),
        )
    }
}

/// The table's name as SQL, from what the person wrote.
pub(super) fn table_sql(written: &str) -> Result<String, CliError> {
    let name = TableName::parse(written).map_err(CliError::Usage)?;
    let table = quote_identifier(&name.table);
    Ok(match &name.schema {
        Some(schema) => format!("{}.{table}", quote_identifier(schema)),
        None => table,
    })
}

/// The columns of an existing table; `None` when there is no such table.
pub(super) async fn existing_columns(
    session: &mut Session,
    table: &str,
) -> Result<Option<Vec<String>>, CliError> {
    match session
        .query(&format!("SELECT * FROM {table} LIMIT 0"))
        .await
    {
        Ok(result) => Ok(Some(result.columns.into_iter().map(|c| c.name).collect())),
        Err(RunError::Sql(error)) if error.code == UNDEFINED_TABLE => Ok(None),
        Err(error) => Err(failed(&format!("looking up table {table}"), error)),
    }
}

/// A failed statement of ours, with what it was for.
pub(super) fn failed(doing: &str, error: RunError) -> CliError {
    match error {
        RunError::Lost(reason) => CliError::Lost(reason),
        error => CliError::Failed(format!("{doing}: {error}")),
    }
}

/// Pairs the file's headings with the columns of an existing table.
pub(super) fn match_columns(
    table: &str,
    headings: &[String],
    existing: &[String],
) -> Result<Vec<String>, CliError> {
    let mut found: Vec<String> = Vec::with_capacity(headings.len());
    let mut unknown = Vec::new();
    for heading in headings {
        let exact = existing.iter().find(|column| *column == heading);
        let folded = || {
            let lower = heading.to_lowercase();
            existing
                .iter()
                .find(|column| column.to_lowercase() == lower)
        };
        // The name an import of this file would have given the column.
        let derived = || {
            let name = column_name(heading);
            existing.iter().find(|column| **column == name)
        };
        match exact.or_else(folded).or_else(derived) {
            Some(column) if found.contains(column) => {
                let message = format!("the header names column {column} of table {table} twice");
                return Err(CliError::Failed(message));
            }
            Some(column) => found.push(column.clone()),
            None => unknown.push(format!("{heading:?}")),
        }
    }
    if unknown.is_empty() {
        return Ok(found);
    }
    Err(CliError::Failed(format!(
        "table {table} has no column for {}; its columns are {} (use --no-header if the first line is data)",
        unknown.join(", "),
        existing.join(", "),
    )))
}

/// Without a header, fields fill the table's columns from the left.
pub(super) fn match_positions(
    table: &str,
    width: usize,
    existing: &[String],
) -> Result<Vec<String>, CliError> {
    if width > existing.len() {
        let count = existing.len();
        let message = format!("the file has {width} fields, but table {table} has {count} columns");
        return Err(CliError::Failed(message));
    }
    Ok(existing[..width].to_vec())
}

/// Names and types for a new table, from the headings (or none) and the first batch.
pub(super) fn infer_columns(
    headings: &[String],
    sample: &Batch,
    delimiter: u8,
    null: &str,
) -> Vec<(String, Type)> {
    let mut guesses = vec![Guess::new(); headings.len()];
    for nth in 0..sample.len() {
        let record = fields(sample.bytes(nth..nth + 1), delimiter);
        for (guess, field) in guesses.iter_mut().zip(&record) {
            if field.quoted || *field.text != *null.as_bytes() {
                guess.add(&field.text);
            }
        }
    }
    let types = guesses.iter().map(Guess::decide);
    column_names(headings).into_iter().zip(types).collect()
}

/// The primary key's columns, each of which has to be a column of the new table.
pub(super) fn key_columns(
    args: &ImportArgs,
    columns: &[(String, Type)],
) -> Result<Vec<String>, CliError> {
    let find = |wanted: &String| {
        let name = column_name(wanted);
        columns
            .iter()
            .find(|(column, _)| column == wanted || *column == name)
            .map(|(column, _)| column.clone())
            .ok_or_else(|| {
                let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
                let names = names.join(", ");
                CliError::Usage(format!(
                    "--primary-key: no column {wanted}; there are {names}"
                ))
            })
    };
    args.primary_key.iter().map(find).collect()
}

/// Creates the table and returns the statement that did it.
pub(super) async fn create(
    session: &mut Session,
    table: &str,
    columns: &[(String, Type)],
    key: &[String],
) -> Result<String, CliError> {
    let statement = create_table(table, columns, key);
    let created = session.query(&statement).await;
    created.map_err(|error| failed(&format!("creating table {table}"), error))?;
    Ok(statement)
}

/// Stand-in headings for a file without a header.
pub(super) fn numbered_headings(width: usize) -> Vec<String> {
    (1..=width).map(|nth| format!("column_{nth}")).collect()
}

/// Fields of the first record of `sample`.
pub(super) fn first_width(sample: &Batch, delimiter: u8) -> usize {
    match sample.len() {
        0 => 0,
        _ => fields(sample.bytes(0..1), delimiter).len(),
    }
}

/// Reads the rows that types are inferred from; they are loaded like any others.
pub(super) fn sample(source: &mut Source, rows: usize) -> Result<Batch, CliError> {
    Ok(source.batch(rows, false)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(items: &[&str]) -> Vec<String> {
        items.iter().map(|item| (*item).to_owned()).collect()
    }

    #[test]
    fn headings_find_their_columns() {
        let existing = strings(&["device_id", "Value", "machine_temp"]);
        let headings = strings(&["VALUE", "Device_ID", "Machine Temp"]);
        let found = match_columns("t", &headings, &existing).unwrap();
        assert_eq!(found, ["Value", "device_id", "machine_temp"]);
    }

    #[test]
    fn unknown_headings_are_named_with_what_there_is() {
        let existing = strings(&["a", "b"]);
        let error = match_columns("t", &strings(&["a", "x"]), &existing).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("\"x\"") && text.contains("a, b"), "{text}");
        assert!(match_columns("t", &strings(&["a", "A"]), &existing).is_err());
        assert!(match_positions("t", 3, &existing).is_err());
        assert_eq!(match_positions("t", 1, &existing).unwrap(), ["a"]);
    }

    #[test]
    fn the_copy_statement_quotes_names_and_options() {
        let destination = Destination {
            table: "\"T\"".into(),
            columns: strings(&["a", "Order"]),
        };
        assert_eq!(
            destination.copy_statement(b'\'', "N'A"),
            "COPY \"T\" (a, \"Order\") FROM STDIN WITH (FORMAT csv, DELIMITER '''', NULL 'N''A')"
        );
    }

    #[test]
    fn nulls_do_not_decide_types() {
        let mut sample = Batch::default();
        for (line, record) in (2..).zip(["NA,1\n", "5,NA\n", "\"NA\",2\n"]) {
            sample.data.extend_from_slice(record.as_bytes());
            sample.close_record(line);
        }
        let columns = infer_columns(&strings(&["a", "b"]), &sample, b',', "NA");
        assert_eq!(columns[0].1, Type::Text);
        assert_eq!(columns[1].1, Type::BigInt);
    }
}
