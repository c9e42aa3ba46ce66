//! Why a statement could not be planned or run, with PostgreSQL's code for it.
//!
//! DataFusion's planner reports most mistakes as text; what a client needs to
//! tell apart is recovered here, in one place, from its typed errors first and
//! from the text where there is nothing else.

use chronos_model::{DataError, SqlState};
use chronos_store::OutOfMemory;
use datafusion::arrow::error::ArrowError;
use datafusion::common::{Column, DataFusionError, SchemaError};

/// A statement that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct QueryError {
    /// SQLSTATE.
    pub code: SqlState,
    /// What was wrong.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// What to do.
    pub hint: Option<String>,
    /// Byte offset in the statement's text, where known.
    pub offset: Option<usize>,
    /// Table at fault.
    pub table: Option<String>,
    /// Column at fault.
    pub column: Option<String>,
    /// Constraint at fault.
    pub constraint: Option<String>,
}

impl QueryError {
    /// An error of a code and a message.
    pub fn new(code: SqlState, message: impl Into<String>) -> QueryError {
        QueryError {
            code,
            message: message.into(),
            detail: None,
            hint: None,
            offset: None,
            table: None,
            column: None,
            constraint: None,
        }
    }

    /// 0A000 for something that SQL has and Chronos does not.
    pub fn unsupported(what: impl std::fmt::Display) -> QueryError {
        QueryError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!("{what} is not supported"),
        )
    }

    /// 42P01.
    pub fn unknown_table(name: &str) -> QueryError {
        QueryError::new(
            SqlState::UNDEFINED_TABLE,
            format!(
                "relation \"{}\" does not exist",
                chronos_model::shown_name(name)
            ),
        )
    }

    /// 42703.
    pub fn unknown_column(column: &str, table: &str) -> QueryError {
        let message = format!("column \"{column}\" of relation \"{table}\" does not exist");
        QueryError::new(SqlState::UNDEFINED_COLUMN, message)
    }

    /// With a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> QueryError {
        self.hint = Some(hint.into());
        self
    }

    /// With a detail.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> QueryError {
        self.detail = Some(detail.into());
        self
    }
}

impl From<DataError> for QueryError {
    fn from(e: DataError) -> QueryError {
        QueryError::new(e.sqlstate(), e.to_string())
    }
}

impl From<DataFusionError> for QueryError {
    fn from(e: DataFusionError) -> QueryError {
        match e {
            DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
                (*inner).into()
            }
            DataFusionError::Shared(inner) => match std::sync::Arc::try_unwrap(inner) {
                Ok(inner) => inner.into(),
                Err(inner) => of_reference(&inner),
            },
            DataFusionError::External(inner) => match inner.downcast::<QueryError>() {
                Ok(ours) => *ours,
                Err(other) if other.to_string().contains("regex parse error") => {
                    QueryError::new(SqlState("2201B"), "invalid regular expression")
                }
                Err(other) => match other.downcast::<DataFusionError>() {
                    Ok(inner) => (*inner).into(),
                    Err(other) => QueryError::new(SqlState::INTERNAL, other.to_string()),
                },
            },
            DataFusionError::Collection(errors) => errors.into_iter().next().map_or_else(
                || QueryError::new(SqlState::INTERNAL, "unknown error"),
                QueryError::from,
            ),
            e => of_reference(&e),
        }
    }
}

impl From<QueryError> for DataFusionError {
    fn from(e: QueryError) -> DataFusionError {
        DataFusionError::External(Box::new(e))
    }
}

fn of_reference(e: &DataFusionError) -> QueryError {
    match e {
        DataFusionError::SchemaError(schema, _) => of_schema_error(schema),
        DataFusionError::ArrowError(arrow, _) => of_arrow_error(arrow),
        DataFusionError::NotImplemented(what) => {
            QueryError::new(SqlState::FEATURE_NOT_SUPPORTED, first_line(what))
        }
        DataFusionError::ResourcesExhausted(what) => exhausted(what),
        DataFusionError::IoError(e) if e.kind() == std::io::ErrorKind::StorageFull => {
            let message = "no space is left on the disk for what the query cannot hold in memory";
            QueryError::new(SqlState::DISK_FULL, message)
        }
        DataFusionError::SQL(parser, _) => {
            let message = parser.to_string();
            let message = message.trim_start_matches("sql parser error: ");
            QueryError::new(SqlState::SYNTAX_ERROR, format!("syntax error: {message}"))
        }
        DataFusionError::Plan(message) => of_plan_text(message),
        DataFusionError::Execution(message) => of_execution_text(message),
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
            of_reference(inner)
        }
        DataFusionError::Shared(inner) => of_reference(inner),
        DataFusionError::External(inner) => match inner.downcast_ref::<QueryError>() {
            Some(ours) => ours.clone(),
            None => QueryError::new(SqlState::INTERNAL, inner.to_string()),
        },
        other => {
            let text = other.strip_backtrace();
            if text.contains("regex parse error") {
                return QueryError::new(SqlState("2201B"), "invalid regular expression");
            }
            QueryError::new(SqlState::INTERNAL, first_line(&text))
        }
    }
}

/// Memory, or the space for what does not fit into it, is used up.
fn exhausted(what: &str) -> QueryError {
    if what.contains("disk space during the spilling") {
        let message = "the query puts more on disk than queries together may";
        return QueryError::new(SqlState("53400"), message)
            .with_hint("Half of what is free on the disk when the node starts may be used so. Narrow the query, or make room and restart the node.");
    }
    QueryError::new(SqlState::OUT_OF_MEMORY, first_line(what))
        .with_hint("Narrow the query, try again when less is under way, or raise --memory-limit.")
}

impl From<OutOfMemory> for QueryError {
    fn from(e: OutOfMemory) -> QueryError {
        exhausted(&e.to_string())
    }
}

fn of_schema_error(e: &SchemaError) -> QueryError {
    match e {
        SchemaError::FieldNotFound {
            field,
            valid_fields,
        } => {
            let name = match &field.relation {
                Some(relation) => format!("{}.{}", relation.table(), field.name),
                None => format!("\"{}\"", field.name),
            };
            if let Some(table) = unknown_relation(field, valid_fields) {
                let message = format!("missing FROM-clause entry for table \"{table}\"");
                return QueryError::new(SqlState::UNDEFINED_TABLE, message);
            }
            let mut error = QueryError::new(
                SqlState::UNDEFINED_COLUMN,
                format!("column {name} does not exist"),
            );
            let near = valid_fields
                .iter()
                .map(|c| c.name.as_str())
                .find(|c| c.eq_ignore_ascii_case(&field.name) || is_near(c, &field.name));
            if let Some(near) = near {
                error = error.with_hint(format!(
                    "Perhaps you meant to reference the column \"{near}\"."
                ));
            }
            error
        }
        SchemaError::AmbiguousReference { field } => QueryError::new(
            SqlState::AMBIGUOUS_COLUMN,
            format!("column reference \"{}\" is ambiguous", field.name),
        ),
        SchemaError::DuplicateQualifiedField { name, .. }
        | SchemaError::DuplicateUnqualifiedField { name } => QueryError::new(
            SqlState::DUPLICATE_COLUMN,
            format!("column \"{name}\" specified more than once"),
        ),
    }
}

/// The table a column is qualified with, if none of that name is in sight.
fn unknown_relation<'a>(field: &'a Column, valid: &[Column]) -> Option<&'a str> {
    let table = field.relation.as_ref()?.table();
    let is_known = valid
        .iter()
        .any(|v| v.relation.as_ref().is_some_and(|r| r.table() == table));
    (!is_known).then_some(table)
}

/// Whether two names differ by one or two edits at their ends, roughly.
fn is_near(a: &str, b: &str) -> bool {
    let common = a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y).count();
    let longest = a.len().max(b.len());
    longest > 3 && longest - common <= 2
}

fn of_arrow_error(e: &ArrowError) -> QueryError {
    match e {
        ArrowError::DivideByZero => QueryError::new(SqlState::DIVISION_BY_ZERO, "division by zero"),
        ArrowError::ArithmeticOverflow(m) => QueryError::new(SqlState::OUT_OF_RANGE, m.clone()),
        ArrowError::CastError(m) => of_execution_text(m),
        ArrowError::ParseError(m) => QueryError::new(SqlState::INVALID_TEXT, m.clone()),
        ArrowError::ExternalError(inner) => match inner.downcast_ref::<QueryError>() {
            Some(ours) => ours.clone(),
            None => QueryError::new(SqlState::INTERNAL, inner.to_string()),
        },
        other if other.to_string().contains("regex parse error") => {
            QueryError::new(SqlState("2201B"), "invalid regular expression")
        }
        other => of_execution_text(&other.to_string()),
    }
}

fn of_plan_text(message: &str) -> QueryError {
    let message = first_line(message);
    let lower = message.to_ascii_lowercase();
    if let Some(known) = of_known_plan_text(&message) {
        return known;
    }
    let code = if lower.starts_with("limit must be >= 0") {
        return QueryError::new(SqlState("2201W"), "LIMIT must not be negative");
    } else if lower.starts_with("offset must be >=0") {
        return QueryError::new(SqlState("2201X"), "OFFSET must not be negative");
    } else if lower.starts_with("order by column out of bounds")
        || lower.starts_with("cannot find column with position")
        || lower.contains("must appear in select list")
        || lower.contains("select distinct on expressions must match")
    {
        SqlState::INVALID_COLUMN_REFERENCE
    } else if lower.starts_with("invalid qualifier") {
        SqlState::UNDEFINED_TABLE
    } else if lower.starts_with("aggregate functions are not allowed") {
        SqlState::GROUPING_ERROR
    } else if lower.contains("invalid function")
        || lower.contains("no function matches")
        || lower.contains("failed to match any signature")
        || (lower.contains("function") && lower.contains("expects"))
        || (lower.contains("function") && lower.contains("requires"))
        || lower.contains("unnest() can only be applied")
        || lower.contains("table function")
    {
        SqlState::UNDEFINED_FUNCTION
    } else if lower.contains("not found") && lower.contains("table") {
        SqlState::UNDEFINED_TABLE
    } else if lower.contains("must be in group by")
        || lower.contains("must appear in the group by")
        || lower.contains("could not be resolved from available columns")
    {
        SqlState::GROUPING_ERROR
    } else if lower.contains("cannot coerce")
        || lower.contains("incompatible")
        || lower.contains("cannot be cast")
        || lower.contains("unsupported cast")
    {
        SqlState::DATATYPE_MISMATCH
    } else if lower.contains("placeholder") {
        SqlState::UNDEFINED_PARAMETER
    } else if lower.contains("duplicate")
        || lower.contains("projections require unique expression names")
    {
        SqlState::DUPLICATE_COLUMN
    } else if lower.contains("unsupported") || lower.contains("not supported") {
        SqlState::FEATURE_NOT_SUPPORTED
    } else {
        SqlState::SYNTAX_ERROR
    };
    QueryError::new(code, message)
}

/// Mistakes in words that only the planner's text tells apart.
fn of_known_plan_text(message: &str) -> Option<QueryError> {
    let mismatch = |whose: &str| {
        QueryError::new(
            SqlState::DATATYPE_MISMATCH,
            format!("argument of {whose} must be type boolean"),
        )
    };
    if message.contains("Cannot create filter with non-boolean predicate") {
        return Some(mismatch("WHERE or HAVING"));
    }
    if message.contains("Join condition must be boolean") {
        return Some(mismatch("JOIN/ON"));
    }
    if message.contains("Unary operator 'NOT' requires") {
        return Some(mismatch("NOT"));
    }
    for (text, code, told) in [
        (
            "Invalid window frame: start bound",
            "42P20",
            "the frame cannot start behind its end",
        ),
        (
            "Invalid window frame: frame offsets",
            "22013",
            "frame starting or ending offset must not be negative",
        ),
        (
            "Aggregate function calls cannot be nested",
            "42803",
            "aggregate function calls cannot be nested",
        ),
        (
            "Window function calls cannot be nested",
            "42P20",
            "window function calls cannot be nested",
        ),
    ] {
        if message.contains(text) {
            return Some(QueryError::new(SqlState(code), told));
        }
    }
    if let Some((_, behind)) = message.split_once("The window ") {
        if let Some((name, _)) = behind.split_once(" is not defined") {
            let message = format!("window \"{name}\" does not exist");
            return Some(QueryError::new(SqlState::UNDEFINED_OBJECT, message));
        }
    }
    if message.contains("Step cannot be zero") {
        let message = "step size cannot equal zero";
        return Some(QueryError::new(SqlState::INVALID_PARAMETER, message));
    }
    if message.contains("Failed to unify argument types of make_array") {
        let message = "ARRAY types cannot be matched";
        return Some(QueryError::new(SqlState::DATATYPE_MISMATCH, message));
    }
    if message.contains("Inconsistent data type across values list")
        || message.contains("Inconsistent metadata across values list")
    {
        return Some(
            QueryError::unsupported("VALUES whose rows have different types")
                .with_hint("Write the same cast in each row."),
        );
    }
    None
}

fn of_execution_text(message: &str) -> QueryError {
    let message = first_line(message);
    let lower = message.to_ascii_lowercase();
    let code = if lower.contains("divide by zero") || lower.contains("division by zero") {
        return QueryError::new(SqlState::DIVISION_BY_ZERO, "division by zero");
    } else if lower.contains("overflow")
        || lower.contains("out of range")
        || lower.contains("too large to store")
        || lower.contains("can't cast value")
    {
        SqlState::OUT_OF_RANGE
    } else if lower.contains("cannot cast string")
        || lower.contains("error parsing")
        || lower.contains("parser error")
    {
        SqlState::INVALID_TEXT
    } else if lower.contains("negative count not allowed") {
        let message = "negative substring length not allowed";
        return QueryError::new(SqlState("22011"), message);
    } else if lower.contains("field position must not be zero") {
        return QueryError::new(
            SqlState::INVALID_PARAMETER,
            "field position must not be zero",
        );
    } else if lower.contains("failed to decode value using hex") {
        return QueryError::new(SqlState::INVALID_PARAMETER, message);
    } else if lower.contains("step cannot be zero") {
        return QueryError::new(SqlState::INVALID_PARAMETER, "step size cannot equal zero");
    } else if lower.contains("regex parse error") {
        return QueryError::new(SqlState("2201B"), "invalid regular expression");
    } else if lower.contains("more than one row") {
        SqlState::CARDINALITY_VIOLATION
    } else {
        SqlState("22000")
    };
    QueryError::new(code, message)
}

fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}
