//! How a golden script's statements reach a server: by the simple or by the extended protocol.
//!
//! Owns the two engines of the `sqllogictest` runner and the letters of column types. The simple
//! protocol yields text and no types; the extended one yields types and binary values, which
//! [`crate::value`] turns into the text that the simple protocol would have given. One script
//! therefore checks both encoders of the server against the same expectation.

use sqllogictest::{AsyncDB, ColumnType, DBOutput};
use tokio_postgres::types::{FromSql, Kind, Type};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::value;

/// Which messages carry a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// `Query`: text, several statements at once.
    Simple,
    /// `Parse`, `Bind`, `Execute`: prepared, results in binary.
    Extended,
}

/// The class of a column's type, by its letter in a script.
#[derive(Debug, Clone)]
pub(crate) enum Letter {
    /// Not known (the simple protocol), or not of interest (`?`).
    Any,
    /// `B` bool, `I` integers, `R` floats, `N` numeric, `T` text, `X` bytea, `U` uuid, `D` date,
    /// `M` time of day, `P` timestamps, `V` interval, `J` json, `A` arrays, `O` others.
    Is(char),
}

impl PartialEq for Letter {
    fn eq(&self, other: &Letter) -> bool {
        match (self, other) {
            (Letter::Is(a), Letter::Is(b)) => a == b,
            _ => true,
        }
    }
}

impl Eq for Letter {}

impl ColumnType for Letter {
    fn from_char(letter: char) -> Option<Letter> {
        match letter {
            '?' => Some(Letter::Any),
            'B' | 'I' | 'R' | 'N' | 'T' | 'X' | 'U' | 'D' | 'M' | 'P' | 'V' | 'J' | 'A' | 'O' => {
                Some(Letter::Is(letter))
            }
            _ => None,
        }
    }

    fn to_char(&self) -> char {
        match self {
            Letter::Any => '?',
            Letter::Is(letter) => *letter,
        }
    }
}

fn letter_of(column: &Type) -> Letter {
    Letter::Is(match *column {
        Type::BOOL => 'B',
        Type::INT2 | Type::INT4 | Type::INT8 => 'I',
        Type::FLOAT4 | Type::FLOAT8 => 'R',
        Type::NUMERIC => 'N',
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::CHAR | Type::UNKNOWN => 'T',
        Type::BYTEA => 'X',
        Type::UUID => 'U',
        Type::DATE => 'D',
        Type::TIME => 'M',
        Type::TIMESTAMP | Type::TIMESTAMPTZ => 'P',
        Type::INTERVAL => 'V',
        Type::JSON | Type::JSONB => 'J',
        _ if matches!(column.kind(), Kind::Array(_)) => 'A',
        _ => 'O',
    })
}

/// An error of the server as `SQLSTATE: message`, or of the connection as it is.
#[derive(Debug)]
pub(crate) struct EngineError {
    pub(crate) code: Option<String>,
    message: String,
}

impl std::fmt::Display for EngineError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.code {
            Some(code) => write!(f, "{code}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for EngineError {}

impl From<tokio_postgres::Error> for EngineError {
    fn from(error: tokio_postgres::Error) -> EngineError {
        match error.as_db_error() {
            Some(told) => EngineError {
                code: Some(told.code().code().to_owned()),
                message: told.message().to_owned(),
            },
            None => EngineError {
                code: None,
                message: format!("{error:?}"),
            },
        }
    }
}

/// A connection that a script's statements run on.
pub(crate) struct Engine {
    client: Client,
    protocol: Protocol,
}

impl Engine {
    /// Connects. The connection's task ends with the client.
    pub(crate) async fn connect(url: &str, protocol: Protocol) -> Result<Engine, EngineError> {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        Ok(Engine { client, protocol })
    }

    async fn simple(&self, sql: &str) -> Result<DBOutput<Letter>, EngineError> {
        let mut columns = 0;
        let mut rows = Vec::new();
        let mut count = 0;
        for message in self.client.simple_query(sql).await? {
            match message {
                SimpleQueryMessage::RowDescription(described) => {
                    columns = described.len();
                    rows.clear();
                }
                SimpleQueryMessage::Row(row) => rows.push(
                    (0..row.len())
                        .map(|i| shown(row.get(i).map(str::to_owned)))
                        .collect(),
                ),
                SimpleQueryMessage::CommandComplete(n) => count = n,
                _ => {}
            }
        }
        Ok(match columns {
            0 => DBOutput::StatementComplete(count),
            n => DBOutput::Rows {
                types: vec![Letter::Any; n],
                rows,
            },
        })
    }

    async fn extended(&self, sql: &str) -> Result<DBOutput<Letter>, EngineError> {
        let statement = self.client.prepare(sql).await?;
        if statement.columns().is_empty() {
            let count = self.client.execute(&statement, &[]).await?;
            return Ok(DBOutput::StatementComplete(count));
        }
        let mut rows = Vec::new();
        for row in self.client.query(&statement, &[]).await? {
            let mut cells = Vec::with_capacity(row.len());
            for (i, column) in statement.columns().iter().enumerate() {
                let cell = match row.try_get::<_, Option<Raw<'_>>>(i)? {
                    None => None,
                    Some(Raw(bytes)) => Some(value::text(column.type_(), bytes).map_err(
                        |why| EngineError {
                            code: None,
                            message: format!(
                                "bad binary {} in column {}: {why}: {bytes:02x?}",
                                column.type_(),
                                column.name()
                            ),
                        },
                    )?),
                };
                cells.push(shown(cell));
            }
            rows.push(cells);
        }
        let types = statement
            .columns()
            .iter()
            .map(|c| letter_of(c.type_()))
            .collect();
        Ok(DBOutput::Rows { types, rows })
    }
}

/// A cell as scripts write it.
fn shown(cell: Option<String>) -> String {
    match cell {
        None => "NULL".to_owned(),
        Some(text) if text.is_empty() => "(empty)".to_owned(),
        Some(text) => text,
    }
}

/// The bytes of a value of whatever type.
struct Raw<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(
        _: &Type,
        bytes: &'a [u8],
    ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Raw(bytes))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

#[async_trait::async_trait]
impl AsyncDB for Engine {
    type Error = EngineError;
    type ColumnType = Letter;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<Letter>, EngineError> {
        match self.protocol {
            Protocol::Simple => self.simple(sql).await,
            Protocol::Extended => self.extended(sql).await,
        }
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        match self.protocol {
            Protocol::Simple => "simple",
            Protocol::Extended => "extended",
        }
    }

    fn error_sql_state(error: &EngineError) -> Option<String> {
        error.code.clone()
    }
}
