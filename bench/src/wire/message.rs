//! The messages: requests are written into a buffer, replies are scanned in one.

use crate::error::Result;
use crate::load::Value;

/// The name of the one statement a connection prepares.
const STATEMENT: &[u8] = b"s\0";

/// What a reply amounts to, once the server is ready again.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    /// The count in the last command's tag.
    pub(crate) affected: u64,
    /// Rows as text, if wanted.
    pub(crate) rows: Option<Vec<Vec<String>>>,
    /// DataRow messages.
    pub(crate) row_count: u64,
    /// The server waits for COPY data.
    pub(crate) copying: bool,
    /// The first error.
    pub(crate) error: Option<String>,
}

/// Writes a message: its type, its length, and what `body` writes.
fn message(out: &mut Vec<u8>, kind: Option<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    out.extend(kind);
    sized(out, 4, body);
}

/// Writes a length that counts `itself` bytes of its own, and what `body` writes.
fn sized(out: &mut Vec<u8>, itself: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let size = (out.len() - at - 4) as u32 + itself;
    out[at..at + 4].copy_from_slice(&size.to_be_bytes());
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

/// The first message of a connection.
pub(crate) fn startup(out: &mut Vec<u8>, user: &str, database: &str) {
    message(out, None, |out| {
        out.extend_from_slice(&196_608u32.to_be_bytes());
        for part in [
            "user",
            user,
            "database",
            database,
            "application_name",
            "bench",
        ] {
            text(out, part);
        }
        out.push(0);
    });
}

/// A simple query.
pub(crate) fn query(out: &mut Vec<u8>, sql: &str) {
    message(out, Some(b'Q'), |out| text(out, sql));
}

/// Parse and Sync.
pub(crate) fn prepare(out: &mut Vec<u8>, sql: &str) {
    message(out, Some(b'P'), |out| {
        out.extend_from_slice(STATEMENT);
        text(out, sql);
        out.extend_from_slice(&[0, 0]);
    });
    message(out, Some(b'S'), |_| {});
}

/// Bind, Execute and Sync: parameters and results as text, the unnamed portal.
pub(crate) fn execute(out: &mut Vec<u8>, values: &[Value], buffer: &mut String) {
    message(out, Some(b'B'), |out| {
        out.push(0);
        out.extend_from_slice(STATEMENT);
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&(values.len() as u16).to_be_bytes());
        for value in values {
            buffer.clear();
            value.write(buffer);
            sized(out, 0, |out| out.extend_from_slice(buffer.as_bytes()));
        }
        out.extend_from_slice(&[0, 0]);
    });
    message(out, Some(b'E'), |out| out.extend_from_slice(&[0; 5]));
    message(out, Some(b'S'), |_| {});
}

/// The end of COPY data.
pub(crate) fn copy_done(out: &mut Vec<u8>) {
    message(out, Some(b'c'), |_| {});
}

/// Takes the whole messages at the front of `input`; returns their length and whether the
/// last of them was ReadyForQuery.
pub(crate) fn scan(input: &[u8], reply: &mut Reply) -> Result<(usize, bool)> {
    let mut used = 0;
    while let [kind, a, b, c, d, rest @ ..] = &input[used..] {
        let size = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let Some(size) = size.checked_sub(4) else {
            return Err(format!("a message {:?} of impossible length", char::from(*kind)).into());
        };
        let Some(body) = rest.get(..size) else { break };
        used += 5 + size;
        match kind {
            b'Z' => return Ok((used, true)),
            b'D' => {
                reply.row_count += 1;
                if let Some(rows) = &mut reply.rows {
                    rows.push(row(body));
                }
            }
            b'C' => reply.affected = tag_count(body),
            b'G' => {
                reply.copying = true;
                return Ok((used, false));
            }
            b'E' if reply.error.is_none() => reply.error = Some(error(body)),
            b'R' if !body.starts_with(&[0, 0, 0, 0]) => {
                return Err(
                    "the server asks for a password, which this client does not send".into(),
                );
            }
            _ => {}
        }
    }
    Ok((used, false))
}

/// The number at the end of a command tag: `INSERT 0 5`, `SELECT 1`, `COPY 100`.
fn tag_count(body: &[u8]) -> u64 {
    let digits = body
        .iter()
        .rev()
        .skip(1)
        .take_while(|byte| byte.is_ascii_digit());
    let (number, _) = digits.fold((0u64, 1u64), |(number, place), byte| {
        (
            number + u64::from(byte - b'0') * place,
            place.saturating_mul(10),
        )
    });
    number
}

/// The values of a DataRow as text; NULL is `NULL`, and a row cut short ends early.
fn row(body: &[u8]) -> Vec<String> {
    let mut values = Vec::new();
    let mut rest = body.get(2..).unwrap_or_default();
    while let [a, b, c, d, tail @ ..] = rest {
        let size = i32::from_be_bytes([*a, *b, *c, *d]);
        let value = usize::try_from(size).ok().and_then(|size| tail.get(..size));
        values.push(value.map_or("NULL".to_owned(), |bytes| {
            String::from_utf8_lossy(bytes).into_owned()
        }));
        rest = &tail[value.map_or(0, <[u8]>::len)..];
    }
    values
}

/// `23505: duplicate key ..`, out of an ErrorResponse's fields.
fn error(body: &[u8]) -> String {
    let fields = body.split(|byte| *byte == 0);
    let field = |wanted: u8| {
        let mut found = fields.clone().filter_map(|field| field.split_first());
        let found = found.find(|(kind, _)| **kind == wanted);
        found.map_or("?".to_owned(), |(_, text)| {
            String::from_utf8_lossy(text).into_owned()
        })
    };
    format!("{}: {}", field(b'C'), field(b'M'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_in_pieces_is_taken_message_by_message() {
        let mut bytes = Vec::new();
        message(&mut bytes, Some(b'D'), |out| {
            out.extend_from_slice(&[0, 2, 0, 0, 0, 2]);
            out.extend_from_slice(b"ab");
            out.extend_from_slice(&(-1i32).to_be_bytes());
        });
        message(&mut bytes, Some(b'C'), |out| text(out, "SELECT 120"));
        let whole = bytes.len();
        message(&mut bytes, Some(b'Z'), |out| out.push(b'I'));
        let mut reply = Reply {
            rows: Some(Vec::new()),
            ..Reply::default()
        };
        assert_eq!(
            scan(&bytes[..whole + 3], &mut reply).unwrap(),
            (whole, false)
        );
        assert_eq!(
            reply.rows,
            Some(vec![vec!["ab".to_owned(), "NULL".to_owned()]])
        );
        assert_eq!((reply.affected, reply.row_count), (120, 1));
        assert_eq!(scan(&bytes[whole..], &mut reply).unwrap(), (6, true));
    }

    #[test]
    fn an_error_is_its_state_and_its_message() {
        let mut bytes = Vec::new();
        message(&mut bytes, Some(b'E'), |out| {
            for field in ["SERROR", "C42P01", "Mno such table"] {
                text(out, field);
            }
            out.push(0);
        });
        let mut reply = Reply::default();
        scan(&bytes, &mut reply).unwrap();
        assert_eq!(reply.error.as_deref(), Some("42P01: no such table"));
        assert!(scan(&[b'Z', 0, 0, 0, 1], &mut reply).is_err());
    }
}
