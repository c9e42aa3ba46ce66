//! Errors of values: text that is no number, a number that does not fit, bytes
//! that were damaged. Each knows its SQLSTATE.

/// A five-character SQLSTATE code (PostgreSQL, appendix A "Error Codes").
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SqlState(pub &'static str);

macro_rules! states {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        impl SqlState { $($(#[$doc])* pub const $name: SqlState = SqlState($code);)* }
    };
}

states! {
    /// successful_completion
    SUCCESSFUL_COMPLETION = "00000";
    /// warning
    WARNING = "01000";
    /// connection_exception
    CONNECTION_EXCEPTION = "08000";
    /// transaction_resolution_unknown
    TRANSACTION_RESOLUTION_UNKNOWN = "08007";
    /// protocol_violation
    PROTOCOL_VIOLATION = "08P01";
    /// feature_not_supported
    FEATURE_NOT_SUPPORTED = "0A000";
    /// cardinality_violation
    CARDINALITY_VIOLATION = "21000";
    /// string_data_right_truncation
    STRING_TOO_LONG = "22001";
    /// numeric_value_out_of_range
    OUT_OF_RANGE = "22003";
    /// invalid_datetime_format
    INVALID_DATETIME = "22007";
    /// datetime_field_overflow
    DATETIME_OVERFLOW = "22008";
    /// division_by_zero
    DIVISION_BY_ZERO = "22012";
    /// character_not_in_repertoire
    INVALID_ENCODING = "22021";
    /// invalid_parameter_value
    INVALID_PARAMETER = "22023";
    /// invalid_text_representation
    INVALID_TEXT = "22P02";
    /// invalid_binary_representation
    INVALID_BINARY = "22P03";
    /// bad_copy_file_format
    BAD_COPY_FORMAT = "22P04";
    /// not_null_violation
    NOT_NULL_VIOLATION = "23502";
    /// foreign_key_violation
    FOREIGN_KEY_VIOLATION = "23503";
    /// unique_violation
    UNIQUE_VIOLATION = "23505";
    /// check_violation
    CHECK_VIOLATION = "23514";
    /// invalid_transaction_state
    INVALID_TRANSACTION_STATE = "25000";
    /// active_sql_transaction
    ACTIVE_TRANSACTION = "25001";
    /// read_only_sql_transaction
    READ_ONLY_TRANSACTION = "25006";
    /// no_active_sql_transaction
    NO_ACTIVE_TRANSACTION = "25P01";
    /// in_failed_sql_transaction
    IN_FAILED_TRANSACTION = "25P02";
    /// invalid_sql_statement_name
    INVALID_STATEMENT_NAME = "26000";
    /// invalid_authorization_specification
    INVALID_AUTHORIZATION = "28000";
    /// invalid_password
    INVALID_PASSWORD = "28P01";
    /// invalid_cursor_name
    INVALID_CURSOR_NAME = "34000";
    /// invalid_catalog_name
    INVALID_CATALOG_NAME = "3D000";
    /// transaction_timeout
    TRANSACTION_TIMEOUT = "25P04";
    /// serialization_failure
    SERIALIZATION_FAILURE = "40001";
    /// insufficient_privilege
    INSUFFICIENT_PRIVILEGE = "42501";
    /// syntax_error
    SYNTAX_ERROR = "42601";
    /// duplicate_object
    DUPLICATE_OBJECT = "42710";
    /// duplicate_column
    DUPLICATE_COLUMN = "42701";
    /// undefined_column
    UNDEFINED_COLUMN = "42703";
    /// undefined_object
    UNDEFINED_OBJECT = "42704";
    /// ambiguous_column
    AMBIGUOUS_COLUMN = "42702";
    /// datatype_mismatch
    DATATYPE_MISMATCH = "42804";
    /// grouping_error
    GROUPING_ERROR = "42803";
    /// undefined_function
    UNDEFINED_FUNCTION = "42883";
    /// undefined_table
    UNDEFINED_TABLE = "42P01";
    /// undefined_parameter
    UNDEFINED_PARAMETER = "42P02";
    /// duplicate_prepared_statement
    DUPLICATE_PREPARED = "42P05";
    /// duplicate_table
    DUPLICATE_TABLE = "42P07";
    /// invalid_column_reference
    INVALID_COLUMN_REFERENCE = "42P10";
    /// invalid_table_definition
    INVALID_TABLE_DEFINITION = "42P16";
    /// object_in_use
    OBJECT_IN_USE = "55006";
    /// out_of_memory
    OUT_OF_MEMORY = "53200";
    /// disk_full
    DISK_FULL = "53100";
    /// program_limit_exceeded
    PROGRAM_LIMIT = "54000";
    /// statement_too_complex
    TOO_COMPLEX = "54001";
    /// query_canceled
    QUERY_CANCELED = "57014";
    /// object_not_in_prerequisite_state
    OBJECT_NOT_IN_STATE = "55000";
    /// admin_shutdown
    ADMIN_SHUTDOWN = "57P01";
    /// cannot_connect_now
    CANNOT_CONNECT_NOW = "57P03";
    /// io_error
    IO_ERROR = "58030";
    /// internal_error
    INTERNAL = "XX000";
    /// data_corrupted
    DATA_CORRUPTED = "XX001";
}

/// Why a value could not be made, converted or decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The text is no literal of the type.
    #[error("invalid input syntax for type {type_name}: \"{text}\"")]
    InvalidText {
        /// SQL name of the wanted type.
        type_name: String,
        /// What was given, shortened.
        text: String,
    },
    /// The text is a date or time that does not exist.
    #[error("date/time field value out of range: \"{text}\"")]
    DateTimeOverflow {
        /// What was given.
        text: String,
    },
    /// The number does not fit the type.
    #[error("value \"{text}\" is out of range for type {type_name}")]
    OutOfRange {
        /// SQL name of the wanted type.
        type_name: String,
        /// What was given.
        text: String,
    },
    /// A text longer than its column allows.
    #[error("value too long for type character varying({max_chars})")]
    TooLong {
        /// The column's limit in characters.
        max_chars: u32,
    },
    /// A vector of the wrong length.
    #[error("expected {expected} dimensions, not {actual}")]
    Dimensions {
        /// Dimensions of the column.
        expected: u32,
        /// Dimensions given.
        actual: usize,
    },
    /// The value's type cannot become the wanted type.
    #[error("a value of type {from} cannot be stored as {to}")]
    Mismatch {
        /// SQL name of the given type.
        from: String,
        /// SQL name of the wanted type.
        to: String,
    },
    /// Binary input of the wrong shape.
    #[error("invalid binary representation of type {type_name}: {reason}")]
    InvalidBinary {
        /// SQL name of the wanted type.
        type_name: String,
        /// What was wrong.
        reason: String,
    },
    /// Stored bytes that do not decode.
    #[error("damaged {what} at byte {offset}: {reason}")]
    Damaged {
        /// What was being decoded.
        what: &'static str,
        /// Where decoding stopped.
        offset: usize,
        /// What was wrong.
        reason: &'static str,
    },
    /// Hexadecimal digits of a BYTEA that are none, or too few.
    #[error("invalid hexadecimal data: \"{text}\"")]
    InvalidHex {
        /// What was given, shortened.
        text: String,
    },
    /// A type that exists in SQL but not here.
    #[error("type \"{type_name}\" does not exist")]
    UnknownType {
        /// The name given.
        type_name: String,
    },
    /// A type of a known name with parameters that are not possible.
    #[error("{reason}")]
    InvalidType {
        /// What was wrong, as a sentence.
        reason: String,
    },
}

impl DataError {
    /// The SQLSTATE a client is told.
    pub fn sqlstate(&self) -> SqlState {
        match self {
            DataError::InvalidText { type_name, .. }
                if matches!(
                    type_name.as_str(),
                    "date"
                        | "time without time zone"
                        | "timestamp without time zone"
                        | "timestamp with time zone"
                        | "interval"
                ) =>
            {
                SqlState::INVALID_DATETIME
            }
            DataError::InvalidText { .. } => SqlState::INVALID_TEXT,
            DataError::DateTimeOverflow { .. } => SqlState::DATETIME_OVERFLOW,
            DataError::OutOfRange { .. } => SqlState::OUT_OF_RANGE,
            DataError::TooLong { .. } => SqlState::STRING_TOO_LONG,
            DataError::Dimensions { .. } => SqlState("22000"),
            DataError::Mismatch { .. } => SqlState::DATATYPE_MISMATCH,
            DataError::InvalidBinary { .. } => SqlState::INVALID_BINARY,
            DataError::Damaged { .. } => SqlState::DATA_CORRUPTED,
            DataError::UnknownType { .. } => SqlState::UNDEFINED_OBJECT,
            DataError::InvalidType { .. } | DataError::InvalidHex { .. } => {
                SqlState::INVALID_PARAMETER
            }
        }
    }
}
