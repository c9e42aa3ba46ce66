//! Connections that statements run on: what a server answers, as text.

use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::args::Protocol;
use crate::value;

/// What came of a statement.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Rows; NULL is `None`.
    Rows(usize, Vec<Vec<Option<String>>>),
    /// How many rows it concerned.
    Done(u64),
}

/// What went wrong.
#[derive(Debug)]
pub(crate) struct Failure {
    /// SQLSTATE, if the server refused it; `None`: the connection broke.
    pub(crate) code: Option<String>,
    pub(crate) message: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.code {
            Some(code) => write!(f, "{code}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Failure {
        match error.as_db_error() {
            Some(told) => Failure {
                code: Some(told.code().code().to_owned()),
                message: told.message().to_owned(),
            },
            None => Failure {
                code: None,
                message: error.to_string(),
            },
        }
    }
}

/// A connection.
pub(crate) struct Connection {
    client: Client,
    protocol: Protocol,
}

impl Connection {
    /// Connects; the connection's task ends with the client.
    pub(crate) async fn open(url: &str, protocol: Protocol) -> Result<Connection, Failure> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(connection);
        Ok(Connection { client, protocol })
    }

    /// Whether nothing can be asked any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Runs one statement.
    pub(crate) async fn run(&self, sql: &str) -> Result<Answer, Failure> {
        match self.protocol {
            Protocol::Simple => self.simple(sql).await,
            Protocol::Extended => self.extended(sql).await,
        }
    }

    async fn simple(&self, sql: &str) -> Result<Answer, Failure> {
        let mut columns = None;
        let mut rows = Vec::new();
        let mut count = 0;
        for message in self.client.simple_query(sql).await? {
            match message {
                SimpleQueryMessage::RowDescription(described) => {
                    columns = Some(described.len());
                    rows.clear();
                }
                SimpleQueryMessage::Row(row) => {
                    let cells = (0..row.len()).map(|i| row.get(i).map(str::to_owned));
                    rows.push(cells.collect());
                }
                SimpleQueryMessage::CommandComplete(n) => count = n,
                _ => {}
            }
        }
        Ok(match columns {
            None => Answer::Done(count),
            Some(n) => Answer::Rows(n, rows),
        })
    }

    async fn extended(&self, sql: &str) -> Result<Answer, Failure> {
        let statement = self.client.prepare(sql).await?;
        if statement.columns().is_empty() {
            return Ok(Answer::Done(self.client.execute(&statement, &[]).await?));
        }
        let mut rows = Vec::new();
        for row in self.client.query(&statement, &[]).await? {
            let mut cells = Vec::with_capacity(row.len());
            for (i, column) in statement.columns().iter().enumerate() {
                let cell = match row.try_get::<_, Option<Raw<'_>>>(i)? {
                    None => None,
                    Some(Raw(bytes)) => Some(text(column.type_(), bytes)?),
                };
                cells.push(cell);
            }
            rows.push(cells);
        }
        Ok(Answer::Rows(statement.columns().len(), rows))
    }
}

fn text(of: &Type, bytes: &[u8]) -> Result<String, Failure> {
    value::text(of, bytes).map_err(|why| Failure {
        code: None,
        message: format!("bad binary {of}: {why}"),
    })
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
