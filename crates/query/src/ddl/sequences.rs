//! Sequences: CREATE SEQUENCE, and those that SERIAL and IDENTITY columns bring along.

use chronos_model::{
    Catalog, ColumnId, DataType, Identity, SequenceSchema, SqlState, TableId, TableSchema,
};
use datafusion::sql::sqlparser::ast::{self, SequenceOptions};

use super::index::short_name;
use crate::sql::written_name;
use crate::system_tables::quote_ident;
use crate::QueryError;

/// The sequence that a CREATE SEQUENCE describes.
pub fn create_sequence(
    name: &ast::ObjectName,
    data_type: Option<&ast::DataType>,
    options: &[SequenceOptions],
) -> Result<SequenceSchema, QueryError> {
    let data_type = match data_type {
        None => DataType::Int8,
        Some(written) => super::data_type(written)?,
    };
    if !is_integer(&data_type) {
        let message = "sequence type must be smallint, integer, or bigint";
        return Err(QueryError::new(SqlState::INVALID_PARAMETER, message));
    }
    sequence(written_name(name)?, data_type, options)
}

fn is_integer(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Int2 | DataType::Int4 | DataType::Int8)
}

fn sequence(
    name: String,
    data_type: DataType,
    options: &[SequenceOptions],
) -> Result<SequenceSchema, QueryError> {
    let (lowest, highest) = match data_type {
        DataType::Int2 => (i64::from(i16::MIN), i64::from(i16::MAX)),
        DataType::Int4 => (i64::from(i32::MIN), i64::from(i32::MAX)),
        _ => (i64::MIN, i64::MAX),
    };
    let (mut increment, mut min, mut max, mut start) = (1, None, None, None);
    let mut cycle = false;
    for option in options {
        match option {
            SequenceOptions::IncrementBy(by, _) => increment = number(by)?,
            SequenceOptions::MinValue(bound) => min = bound.as_ref().map(number).transpose()?,
            SequenceOptions::MaxValue(bound) => max = bound.as_ref().map(number).transpose()?,
            SequenceOptions::StartWith(from, _) => start = Some(number(from)?),
            SequenceOptions::Cycle(no) => cycle = !*no,
            // Numbers are reserved as it is best.
            SequenceOptions::Cache(_) => {}
        }
    }
    let invalid = |message: String| QueryError::new(SqlState::INVALID_PARAMETER, message);
    if increment == 0 {
        return Err(invalid("INCREMENT must not be zero".into()));
    }
    let rises = increment > 0;
    let min = min.unwrap_or(if rises { 1 } else { lowest });
    let max = max.unwrap_or(if rises { highest } else { -1 });
    for (what, bound) in [("MINVALUE", min), ("MAXVALUE", max)] {
        if !(lowest..=highest).contains(&bound) {
            return Err(invalid(format!(
                "{what} ({bound}) is out of range for sequence data type {data_type}"
            )));
        }
    }
    if min >= max {
        return Err(invalid(format!(
            "MINVALUE ({min}) must be less than MAXVALUE ({max})"
        )));
    }
    let start = start.unwrap_or(if rises { min } else { max });
    if start < min {
        return Err(invalid(format!(
            "START value ({start}) cannot be less than MINVALUE ({min})"
        )));
    }
    if start > max {
        return Err(invalid(format!(
            "START value ({start}) cannot be greater than MAXVALUE ({max})"
        )));
    }
    Ok(SequenceSchema {
        id: TableId(0),
        name,
        data_type,
        start,
        increment,
        min,
        max,
        cycle,
        owner: None,
        last: start,
        is_called: false,
        sets: 0,
    })
}

fn number(expr: &ast::Expr) -> Result<i64, QueryError> {
    let text = expr.to_string().replace(' ', "");
    text.parse()
        .map_err(|_| QueryError::new(SqlState::SYNTAX_ERROR, format!("{expr} is no whole number")))
}

/// The type of a SERIAL column.
pub(super) fn serial(written: &ast::DataType) -> Option<DataType> {
    match written.to_string().to_ascii_lowercase().as_str() {
        // As wide as INTEGER is here.
        "serial" | "bigserial" | "serial8" => Some(DataType::Int8),
        "serial4" => Some(DataType::Int4),
        "smallserial" | "serial2" => Some(DataType::Int2),
        _ => None,
    }
}

/// The sequences of a table's SERIAL and IDENTITY columns, which they become the defaults of.
pub fn owned_sequences(
    create: &ast::CreateTable,
    schema: &mut TableSchema,
    catalog: &Catalog,
) -> Result<Vec<SequenceSchema>, QueryError> {
    let mut sequences: Vec<SequenceSchema> = Vec::new();
    for (position, definition) in create.columns.iter().enumerate() {
        let identity = definition.options.iter().find_map(|o| match &o.option {
            ast::ColumnOption::Generated {
                generated_as,
                sequence_options,
                generation_expr: None,
                ..
            } => Some((
                generated_as,
                sequence_options.as_deref().unwrap_or_default(),
            )),
            _ => None,
        });
        let column = &schema.columns[position];
        let options = match identity {
            None if serial(&definition.data_type).is_none() => continue,
            None => &[],
            Some((_, options)) => options,
        };
        if column.default.is_some() {
            let what = if identity.is_some() {
                "identity"
            } else {
                "serial"
            };
            let message = format!(
                "both default and {what} specified for column \"{}\" of table \"{}\"",
                column.name, schema.name
            );
            return Err(QueryError::new(SqlState::SYNTAX_ERROR, message));
        }
        if !is_integer(&column.data_type) {
            let message = "identity column type must be smallint, integer, or bigint";
            return Err(QueryError::new(SqlState::INVALID_PARAMETER, message));
        }
        let is_taken = |name: &str| {
            catalog.has_relation(name)
                || name == schema.name
                || sequences.iter().any(|s| s.name == name)
        };
        let name = free_name(&schema.name, &column.name, is_taken);
        let mut own = sequence(name, column.data_type.clone(), options)?;
        own.owner = Some((TableId(0), ColumnId(position as u32)));
        let column = &mut schema.columns[position];
        column.nullable = false;
        column.default = Some(next_of(&own.name));
        column.attributes.identity = identity.map(|(how, _)| match how {
            ast::GeneratedAs::ByDefault => Identity::ByDefault,
            _ => Identity::Always,
        });
        sequences.push(own);
    }
    Ok(sequences)
}

/// The default that gives the next number of a sequence.
fn next_of(sequence: &str) -> String {
    let name = quote_ident(sequence).replace('\'', "''");
    format!("nextval('{name}'::regclass)")
}

/// Whether an expression that is kept asks a sequence: as the default of a column that owns it does, or by name.
pub fn asks_sequence(default: &str, sequence: &str) -> bool {
    let (schema, own) = chronos_model::name_parts(sequence);
    let qualified = format!("{}.{}", quote_ident(schema), quote_ident(own));
    [quote_ident(sequence), qualified].iter().any(|name| {
        let name = name.replace('\'', "''");
        default.contains(&format!("('{name}'"))
    })
}

fn free_name(table: &str, column: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let mut number = 0;
    loop {
        let label = match number {
            0 => "seq".to_owned(),
            n => format!("seq{n}"),
        };
        let name = short_name(table, column, &label);
        if !is_taken(&name) {
            return name;
        }
        number += 1;
    }
}
