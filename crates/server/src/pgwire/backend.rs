//! Encodes what the server sends, straight into the output buffer.
//!
//! Every function appends exactly one message, so the buffer always ends between
//! messages and may be sent at any time. Rows are not here: they are
//! [`format`](super::format)'s.
//!
//! Source: PostgreSQL documentation, "Message Formats" (protocol 3.0).

use std::fmt::Write;

use bytes::{BufMut, BytesMut};
use chronos_model::DataType;
use chronos_node::{CommandTag, CopyFormat, Error, Notice, Severity, TransactionStatus};

use super::format::{ColumnType, FieldFormat};

/// How much of a message's text is sent: clients refuse messages beyond 30,000 bytes
/// of the kinds that are usually short.
const TEXT_BYTES_MAX: usize = 6_000;

/// How bad an error is for the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ErrorSeverity {
    /// The statement failed.
    Error,
    /// The connection is closed.
    Fatal,
}

/// Appends a message: its tag, the length, and what `body` writes.
fn message(out: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    let start = out.len();
    out.put_u32(0);
    body(out);
    let length = (out.len() - start) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// A terminated string. A NUL within it would end it early and put the client out of
/// step, so it is left out.
fn put_text(out: &mut BytesMut, text: &str) {
    if memchr::memchr(0, text.as_bytes()).is_none() {
        out.put_slice(text.as_bytes());
    } else {
        out.extend(text.bytes().filter(|b| *b != 0));
    }
    out.put_u8(0);
}

/// `AuthenticationOk`.
pub(super) fn authentication_ok(out: &mut BytesMut) {
    message(out, b'R', |out| out.put_u32(0));
}

/// `AuthenticationSASL`: the client must say who it is, in one of these ways.
pub(super) fn authentication_sasl(out: &mut BytesMut, mechanisms: &[&str]) {
    message(out, b'R', |out| {
        out.put_u32(10);
        for mechanism in mechanisms {
            put_text(out, mechanism);
        }
        out.put_u8(0);
    });
}

/// `AuthenticationSASLContinue`
pub(super) fn authentication_sasl_continue(out: &mut BytesMut, data: &[u8]) {
    message(out, b'R', |out| {
        out.put_u32(11);
        out.put_slice(data);
    });
}

/// `AuthenticationSASLFinal`
pub(super) fn authentication_sasl_final(out: &mut BytesMut, data: &[u8]) {
    message(out, b'R', |out| {
        out.put_u32(12);
        out.put_slice(data);
    });
}

/// `NegotiateProtocolVersion`: we speak 3.0, and these options mean nothing to us.
pub(super) fn negotiate_protocol_version(out: &mut BytesMut, unknown_options: &[String]) {
    message(out, b'v', |out| {
        out.put_u32(3 << 16);
        out.put_u32(unknown_options.len() as u32);
        for option in unknown_options {
            put_text(out, option);
        }
    });
}

/// `ParameterStatus`.
pub(super) fn parameter_status(out: &mut BytesMut, name: &str, value: &str) {
    message(out, b'S', |out| {
        put_text(out, name);
        put_text(out, value);
    });
}

/// `BackendKeyData`: what the client needs to cancel.
pub(super) fn backend_key_data(out: &mut BytesMut, process_id: u32, secret: u32) {
    message(out, b'K', |out| {
        out.put_u32(process_id);
        out.put_u32(secret);
    });
}

/// `ReadyForQuery`.
pub(super) fn ready_for_query(out: &mut BytesMut, status: TransactionStatus) {
    let status = match status {
        TransactionStatus::Idle => b'I',
        TransactionStatus::Active => b'T',
        TransactionStatus::Failed => b'E',
    };
    out.put_slice(&[b'Z', 0, 0, 0, 5, status]);
}

/// `CommandComplete`.
pub(super) fn command_complete(out: &mut BytesMut, tag: CommandTag) {
    message(out, b'C', |out| {
        // Writing to a buffer that grows cannot fail.
        let _ = write!(out, "{tag}");
        out.put_u8(0);
    });
}

/// `ParseComplete`.
pub(super) fn parse_complete(out: &mut BytesMut) {
    out.put_slice(&[b'1', 0, 0, 0, 4]);
}

/// `BindComplete`.
pub(super) fn bind_complete(out: &mut BytesMut) {
    out.put_slice(&[b'2', 0, 0, 0, 4]);
}

/// `CloseComplete`.
pub(super) fn close_complete(out: &mut BytesMut) {
    out.put_slice(&[b'3', 0, 0, 0, 4]);
}

/// `NoData`: the statement returns no rows.
pub(super) fn no_data(out: &mut BytesMut) {
    out.put_slice(&[b'n', 0, 0, 0, 4]);
}

/// `EmptyQueryResponse`.
pub(super) fn empty_query(out: &mut BytesMut) {
    out.put_slice(&[b'I', 0, 0, 0, 4]);
}

/// `PortalSuspended`: there may be more rows.
pub(super) fn portal_suspended(out: &mut BytesMut) {
    out.put_slice(&[b's', 0, 0, 0, 4]);
}

/// `CopyDone`.
pub(super) fn copy_done(out: &mut BytesMut) {
    out.put_slice(&[b'c', 0, 0, 0, 4]);
}

/// `CopyInResponse` or `CopyOutResponse`.
fn copy_response(out: &mut BytesMut, tag: u8, format: CopyFormat, columns: usize) {
    let code = u8::from(format == CopyFormat::Binary);
    message(out, tag, |out| {
        out.put_u8(code);
        out.put_u16(columns as u16);
        for _ in 0..columns {
            out.put_u16(u16::from(code));
        }
    });
}

/// `CopyInResponse`: the client may send data.
pub(super) fn copy_in_response(out: &mut BytesMut, format: CopyFormat, columns: usize) {
    copy_response(out, b'G', format, columns);
}

/// `CopyOutResponse`: data follows.
pub(super) fn copy_out_response(out: &mut BytesMut, format: CopyFormat, columns: usize) {
    copy_response(out, b'H', format, columns);
}

/// PostgreSQL's ids of the types `oid` and `oid[]`.
const OID: u32 = 26;
const OID_ARRAY: u32 = 1028;

/// `ParameterDescription`. `ids` are the numbers of those that are object ids.
pub(super) fn parameter_description(out: &mut BytesMut, parameters: &[DataType], ids: &[usize]) {
    message(out, b't', |out| {
        out.put_u16(parameters.len() as u16);
        for (i, parameter) in parameters.iter().enumerate() {
            out.put_u32(match parameter {
                DataType::Int4 if ids.contains(&(i + 1)) => OID,
                DataType::Array(item) if **item == DataType::Int4 && ids.contains(&(i + 1)) => {
                    OID_ARRAY
                }
                parameter => parameter.oid(),
            });
        }
    });
}

/// `RowDescription`. `formats` has one per column.
pub(super) fn row_description<'a>(
    out: &mut BytesMut,
    columns: impl ExactSizeIterator<Item = (&'a str, &'a ColumnType, FieldFormat)>,
) {
    message(out, b'T', |out| {
        out.put_u16(columns.len() as u16);
        for (name, column_type, format) in columns {
            put_text(out, name);
            // Object id of the table and number of the column: not known here.
            out.put_u32(0);
            out.put_u16(0);
            out.put_u32(column_type.oid());
            out.put_i16(match column_type.catalog_type {
                Some(shown) => shown.length,
                None => type_length(&column_type.data_type),
            });
            out.put_i32(type_modifier(&column_type.data_type));
            out.put_u16(match format {
                FieldFormat::Text => 0,
                FieldFormat::Binary => 1,
            });
        }
    });
}

/// `pg_type.typlen`: bytes of the type, -1 if that varies.
fn type_length(data_type: &DataType) -> i16 {
    match data_type {
        DataType::Bool => 1,
        DataType::Int2 => 2,
        DataType::Int4 | DataType::Float4 | DataType::Date => 4,
        DataType::Int8
        | DataType::Float8
        | DataType::Time
        | DataType::Timestamp
        | DataType::TimestampTz => 8,
        DataType::Uuid | DataType::Interval => 16,
        DataType::Numeric(_)
        | DataType::Text
        | DataType::Varchar(_)
        | DataType::Bytea
        | DataType::Json
        | DataType::Jsonb
        | DataType::Array(_)
        | DataType::Vector(_) => -1,
    }
}

/// `pg_attribute.atttypmod`: the type's parameters as PostgreSQL packs them, -1 for none.
/// An array has its items'.
fn type_modifier(data_type: &DataType) -> i32 {
    /// PostgreSQL counts a length header in (VARHDRSZ).
    const HEADER: i32 = 4;
    match data_type {
        DataType::Numeric(Some((precision, scale))) => {
            ((i32::from(*precision) << 16) | (i32::from(*scale) & 0x7ff)) + HEADER
        }
        DataType::Varchar(Some(n)) => i32::try_from(*n).map_or(-1, |n| n.saturating_add(HEADER)),
        DataType::Vector(n) if *n > 0 => i32::try_from(*n).unwrap_or(-1),
        DataType::Array(item) => type_modifier(item),
        _ => -1,
    }
}

/// `ErrorResponse`.
pub(super) fn error_response(out: &mut BytesMut, severity: ErrorSeverity, error: &Error) {
    let severity = match severity {
        ErrorSeverity::Error => "ERROR",
        ErrorSeverity::Fatal => "FATAL",
    };
    message(out, b'E', |out| {
        put_report(out, severity, error.code.0, &error.message);
        let fields = [
            (b'D', &error.detail),
            (b'H', &error.hint),
            (b't', &error.table),
            (b'c', &error.column),
            (b'n', &error.constraint),
        ];
        for (field, text) in fields {
            if let Some(text) = text {
                put_field(out, field, text);
            }
        }
        if let Some(position) = error.position {
            put_field(out, b'P', &position.to_string());
        }
        out.put_u8(0);
    });
}

/// `NoticeResponse`.
pub(super) fn notice_response(out: &mut BytesMut, notice: &Notice) {
    let severity = match notice.severity {
        Severity::Notice => "NOTICE",
        Severity::Warning => "WARNING",
    };
    message(out, b'N', |out| {
        put_report(out, severity, notice.code.0, &notice.message);
        out.put_u8(0);
    });
}

fn put_report(out: &mut BytesMut, severity: &str, code: &str, text: &str) {
    put_field(out, b'S', severity);
    put_field(out, b'V', severity);
    put_field(out, b'C', code);
    put_field(out, b'M', text);
}

fn put_field(out: &mut BytesMut, field: u8, text: &str) {
    out.put_u8(field);
    put_text(out, &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronos_model::SqlState;
    use pgwire::messages::{DecodeContext, PgWireBackendMessage, ProtocolVersion};

    fn decoded(out: &mut BytesMut) -> PgWireBackendMessage {
        let mut context = DecodeContext::new(ProtocolVersion::PROTOCOL3_0);
        context.awaiting_frontend_ssl = false;
        context.awaiting_frontend_startup = false;
        let message = PgWireBackendMessage::decode(out, &context)
            .unwrap()
            .unwrap();
        assert!(out.is_empty(), "bytes are left over");
        message
    }

    #[test]
    fn row_descriptions_carry_type_length_and_modifier() {
        let types = [
            DataType::Int8,
            DataType::Numeric(Some((10, 2))),
            DataType::Varchar(Some(20)),
            DataType::Vector(3),
            DataType::Array(Box::new(DataType::Text)),
        ]
        .map(ColumnType::from);
        let mut out = BytesMut::new();
        let columns = types.iter().map(|t| ("c", t, FieldFormat::Binary));
        row_description(&mut out, columns);
        let PgWireBackendMessage::RowDescription(description) = decoded(&mut out) else {
            panic!("not a RowDescription");
        };
        let seen: Vec<_> = description
            .fields
            .iter()
            .map(|f| (f.type_id, f.type_size, f.type_modifier, f.format_code))
            .collect();
        let expected = [
            (20, 8, -1, 1),
            (1700, -1, (10 << 16 | 2) + 4, 1),
            (1043, -1, 24, 1),
            (DataType::VECTOR_OID, -1, 3, 1),
            (1009, -1, -1, 1),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn errors_carry_their_fields_and_stay_in_step() {
        let mut error = Error::new(SqlState::UNIQUE_VIOLATION, "dup\0licate ä")
            .with_detail("d".repeat(100_000))
            .with_hint("h");
        error.position = Some(7);
        error.constraint = Some("t_pkey".into());
        error.table = Some("t".into());
        let mut out = BytesMut::new();
        error_response(&mut out, ErrorSeverity::Fatal, &error);
        let PgWireBackendMessage::ErrorResponse(response) = decoded(&mut out) else {
            panic!("not an ErrorResponse");
        };
        let field = |code: u8| {
            let found = response.fields.iter().find(|(c, _)| *c == code);
            found.map(|(_, text)| text.as_str())
        };
        assert_eq!(field(b'S'), Some("FATAL"));
        assert_eq!(field(b'C'), Some("23505"));
        assert_eq!(field(b'M'), Some("duplicate ä"));
        assert_eq!(field(b'P'), Some("7"));
        assert_eq!(field(b'n'), Some("t_pkey"));
        assert_eq!(field(b't'), Some("t"));
        assert_eq!(field(b'c'), None);
        assert_eq!(field(b'D').map(str::len), Some(TEXT_BYTES_MAX));
    }

    #[test]
    fn tags_and_small_messages() {
        let mut out = BytesMut::new();
        let tag = CommandTag {
            verb: "INSERT",
            rows: Some(3),
        };
        command_complete(&mut out, tag);
        let PgWireBackendMessage::CommandComplete(complete) = decoded(&mut out) else {
            panic!("not a CommandComplete");
        };
        assert_eq!(complete.tag, "INSERT 0 3");
        ready_for_query(&mut out, TransactionStatus::Failed);
        assert!(matches!(
            decoded(&mut out),
            PgWireBackendMessage::ReadyForQuery(_)
        ));
        copy_in_response(&mut out, CopyFormat::Binary, 2);
        let PgWireBackendMessage::CopyInResponse(copy) = decoded(&mut out) else {
            panic!("not a CopyInResponse");
        };
        assert_eq!((copy.format, copy.column_formats), (1, vec![1, 1]));
    }
}
