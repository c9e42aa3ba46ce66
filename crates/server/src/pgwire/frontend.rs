//! Decodes what clients send: the body of one framed message becomes a borrowed
//! [`Message`].
//!
//! Framing (tag, length, limits) is [`wire`](super::wire)'s. Nothing here allocates
//! for names or text, and no byte sequence panics: a body that ends early, has bytes
//! left over or is not UTF-8 is an error of its own statement, after which the
//! connection is still in step. (The decoders of crate `pgwire` read past the end of
//! a short body and replace invalid UTF-8; the tests use its encoders as the oracle.)
//!
//! Source: PostgreSQL documentation, "Message Formats" (protocol 3.0).

use chronos_model::SqlState;
use chronos_node::Error;

/// Why a body could not be decoded. Boxed: the happy path carries a pointer only.
pub(super) type DecodeError = Box<Error>;

/// A message after start-up.
#[derive(Debug, PartialEq)]
pub(super) enum Message<'a> {
    /// `Q`: a query string.
    Query(&'a str),
    /// `P`: names a statement.
    Parse(Parse<'a>),
    /// `B`: gives a statement its parameters.
    Bind(Bind<'a>),
    /// `D`: asks what a statement or portal takes and returns.
    Describe(Target<'a>),
    /// `E`: runs a portal.
    Execute {
        /// Its name; empty for the unnamed one.
        portal: &'a str,
        /// Rows wanted; `None`: all.
        rows_max: Option<u64>,
    },
    /// `C`: forgets a statement or portal.
    Close(Target<'a>),
    /// `H`: asks for the replies so far.
    Flush,
    /// `S`: ends a batch.
    Sync,
    /// `X`: the client leaves.
    Terminate,
    /// `d`: a piece of COPY data.
    CopyData(&'a [u8]),
    /// `c`: the end of COPY data.
    CopyDone,
    /// `f`: the client gives the COPY up, and why.
    CopyFail(&'a str),
    /// `F`: calls a function by object id, a relic.
    FunctionCall,
}

/// What Describe and Close speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target<'a> {
    /// A prepared statement.
    Statement(&'a str),
    /// A portal.
    Portal(&'a str),
}

/// `Parse`.
#[derive(Debug, PartialEq)]
pub(super) struct Parse<'a> {
    /// Name of the statement; empty for the unnamed one.
    pub(super) name: &'a str,
    /// Its text.
    pub(super) sql: &'a str,
    /// Object ids of the parameter types; 0 is "infer".
    pub(super) parameter_oids: Vec<u32>,
}

/// `Bind`.
#[derive(Debug, PartialEq)]
pub(super) struct Bind<'a> {
    /// Name of the portal to make.
    pub(super) portal: &'a str,
    /// Name of the statement.
    pub(super) statement: &'a str,
    /// None, one for all, or one per parameter.
    pub(super) parameter_formats: Formats<'a>,
    /// `None` is NULL.
    pub(super) parameters: Vec<Option<&'a [u8]>>,
    /// None, one for all, or one per column.
    pub(super) result_formats: Formats<'a>,
}

/// A list of format codes as it stands in the message: two bytes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Formats<'a>(&'a [u8]);

impl<'a> Formats<'a> {
    /// How many codes there are.
    pub(super) fn len(self) -> usize {
        self.0.len() / 2
    }

    /// The codes.
    pub(super) fn iter(self) -> impl Iterator<Item = i16> + 'a {
        self.0
            .chunks_exact(2)
            .map(|c| i16::from_be_bytes([c[0], c[1]]))
    }
}

/// The largest body, in bytes and including the length word, that a message of this
/// tag may have; `None`: there is no such message. `large` is the configured limit.
pub(super) fn length_max(tag: u8, large: usize) -> Option<usize> {
    /// PostgreSQL's limit for messages that carry no user data.
    const SMALL: usize = 10_000;
    match tag {
        b'Q' | b'P' | b'B' | b'F' | b'd' => Some(large),
        b'D' | b'E' | b'C' | b'H' | b'S' | b'X' | b'c' | b'f' => Some(SMALL.min(large)),
        _ => None,
    }
}

/// Decodes the body of a message whose tag [`length_max`] knows.
pub(super) fn decode(tag: u8, body: &[u8]) -> Result<Message<'_>, DecodeError> {
    let mut reader = Reader { rest: body };
    let message = match tag {
        b'Q' => Message::Query(reader.text()?),
        b'P' => Message::Parse(reader.parse()?),
        b'B' => Message::Bind(reader.bind()?),
        b'D' => Message::Describe(reader.target("DESCRIBE")?),
        b'C' => Message::Close(reader.target("CLOSE")?),
        b'E' => Message::Execute {
            portal: reader.text()?,
            // Zero and, as in PostgreSQL, negative numbers mean all rows.
            rows_max: u64::try_from(reader.i32()?).ok().filter(|n| *n > 0),
        },
        b'H' => Message::Flush,
        b'S' => Message::Sync,
        b'X' => Message::Terminate,
        b'd' => Message::CopyData(reader.take(body.len())?),
        b'c' => Message::CopyDone,
        b'f' => Message::CopyFail(reader.text()?),
        b'F' => return Ok(Message::FunctionCall),
        _ => return Err(violation(format!("invalid frontend message type {tag}"))),
    };
    if !reader.rest.is_empty() {
        return Err(violation("invalid message format"));
    }
    Ok(message)
}

fn violation(message: impl Into<String>) -> DecodeError {
    Box::new(Error::new(SqlState::PROTOCOL_VIOLATION, message))
}

/// Reads a body front to back.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], DecodeError> {
        match self.rest.split_at_checked(bytes) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(violation("insufficient data left in message")),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.rest.split_first_chunk() {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(*taken)
            }
            None => Err(violation("insufficient data left in message")),
        }
    }

    fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    fn text(&mut self) -> Result<&'a str, DecodeError> {
        let Some(end) = memchr::memchr(0, self.rest) else {
            return Err(violation("invalid string in message"));
        };
        let bytes = self.take(end)?;
        self.take(1)?;
        utf8(bytes)
    }

    fn target(&mut self, message: &str) -> Result<Target<'a>, DecodeError> {
        let [kind] = self.array()?;
        match kind {
            b'S' => Ok(Target::Statement(self.text()?)),
            b'P' => Ok(Target::Portal(self.text()?)),
            _ => Err(violation(format!(
                "invalid {message} message subtype {kind}"
            ))),
        }
    }

    fn formats(&mut self) -> Result<Formats<'a>, DecodeError> {
        let count = self.u16()?;
        Ok(Formats(self.take(usize::from(count) * 2)?))
    }

    fn parse(&mut self) -> Result<Parse<'a>, DecodeError> {
        let name = self.text()?;
        let sql = self.text()?;
        let count = self.u16()?;
        let parameter_oids = self
            .take(usize::from(count) * 4)?
            .chunks_exact(4)
            .map(|c| u32::from_be_bytes([c[0], c[1], c[2], c[3]]))
            .collect();
        Ok(Parse {
            name,
            sql,
            parameter_oids,
        })
    }

    fn bind(&mut self) -> Result<Bind<'a>, DecodeError> {
        let portal = self.text()?;
        let statement = self.text()?;
        let parameter_formats = self.formats()?;
        let count = usize::from(self.u16()?);
        // The count is the client's word only: each parameter takes four bytes at least.
        let mut parameters = Vec::with_capacity(count.min(self.rest.len() / 4));
        for _ in 0..count {
            let length = self.i32()?;
            parameters.push(match usize::try_from(length) {
                Ok(length) => Some(self.take(length)?),
                Err(_) if length == -1 => None,
                Err(_) => return Err(violation("invalid parameter length in bind message")),
            });
        }
        let result_formats = self.formats()?;
        Ok(Bind {
            portal,
            statement,
            parameter_formats,
            parameters,
            result_formats,
        })
    }
}

/// Checks text from a client, naming the first bytes that are not UTF-8 as
/// PostgreSQL does.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|e| {
        let from = e.valid_up_to();
        let bad = &bytes[from..];
        let bad = &bad[..e.error_len().unwrap_or(bad.len()).min(bad.len())];
        let hex: Vec<String> = bad.iter().map(|b| format!("0x{b:02x}")).collect();
        Box::new(Error::new(
            SqlState::INVALID_ENCODING,
            format!(
                "invalid byte sequence for encoding \"UTF8\": {}",
                hex.join(" ")
            ),
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{Bytes, BytesMut};
    use pgwire::messages::extendedquery as ext;
    use proptest::prelude::*;

    fn encoded(message: &impl pgwire::messages::Message) -> (u8, Bytes) {
        let mut out = BytesMut::new();
        message.encode(&mut out).unwrap();
        let out = out.freeze();
        (out[0], out.slice(5..))
    }

    #[test]
    fn what_another_implementation_encodes_decodes() {
        let (tag, body) = encoded(&ext::Parse::new(
            Some("s1".into()),
            "SELECT $1, 'ä'".into(),
            vec![20, 0],
        ));
        let expected = Parse {
            name: "s1",
            sql: "SELECT $1, 'ä'",
            parameter_oids: vec![20, 0],
        };
        assert_eq!(decode(tag, &body).unwrap(), Message::Parse(expected));

        let (tag, body) = encoded(&ext::Bind::new(
            None,
            Some("s1".into()),
            vec![1, 0],
            vec![Some(Bytes::from_static(b"\0\x01")), None],
            vec![1],
        ));
        let Message::Bind(bind) = decode(tag, &body).unwrap() else {
            panic!("not a Bind");
        };
        assert_eq!((bind.portal, bind.statement), ("", "s1"));
        assert_eq!(bind.parameter_formats.iter().collect::<Vec<_>>(), [1, 0]);
        assert_eq!(bind.parameters, [Some(&b"\0\x01"[..]), None]);
        assert_eq!(bind.result_formats.iter().collect::<Vec<_>>(), [1]);

        let (tag, body) = encoded(&ext::Execute::new(Some("p".into()), 7));
        let expected = Message::Execute {
            portal: "p",
            rows_max: Some(7),
        };
        assert_eq!(decode(tag, &body).unwrap(), expected);
        let (tag, body) = encoded(&ext::Close::new(b'P', Some("p".into())));
        let expected = Message::Close(Target::Portal("p"));
        assert_eq!(decode(tag, &body).unwrap(), expected);
    }

    #[test]
    fn every_shorter_body_is_an_error() {
        let messages = [
            encoded(&ext::Parse::new(
                Some("s".into()),
                "SELECT 1".into(),
                vec![20],
            )),
            encoded(&ext::Bind::new(
                None,
                None,
                vec![1],
                vec![Some(Bytes::from_static(b"12345678"))],
                vec![0, 1],
            )),
            encoded(&ext::Execute::new(None, 0)),
            encoded(&ext::Describe::new(b'S', None)),
        ];
        for (tag, body) in messages {
            assert!(decode(tag, &body).is_ok());
            for end in 0..body.len() {
                let error = decode(tag, &body[..end]).unwrap_err();
                assert_eq!(error.code, SqlState::PROTOCOL_VIOLATION);
            }
            let longer = [&body[..], b"x"].concat();
            assert!(decode(tag, &longer).is_err());
        }
    }

    #[test]
    fn invalid_utf8_is_named() {
        let error = decode(b'Q', b"SELECT '\xff'\0").unwrap_err();
        assert_eq!(error.code, SqlState::INVALID_ENCODING);
        assert!(error.message.ends_with(": 0xff"), "{}", error.message);
    }

    proptest! {
        #[test]
        fn no_body_panics(tag: u8, body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode(tag, &body);
        }
    }
}
