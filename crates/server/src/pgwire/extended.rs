//! What the extended protocol remembers between messages: prepared statements,
//! portals, and whether a failed batch is being skipped.
//!
//! ```text
//!     Parse --> Statement --Bind--> Portal --Execute--> rows --Execute--> more rows
//! ```
//!
//! Pure bookkeeping: nothing here waits, sends or runs a statement. Names live until
//! Close; portals also end with their transaction, the unnamed ones with their
//! successor.

use std::collections::HashMap;
use std::sync::Arc;

use chronos_model::{DataType, SqlState, Value};
use chronos_node::{CommandTag, Prepared};

use super::failure::{Failure, Handled};
use super::format::{decode_parameter, FieldFormat};
use super::frontend::{Bind, Formats, Target};
use super::rows::{Columns, Cursor};

/// Prepared statements, and portals, that one connection may hold.
const NAMES_MAX: usize = 65_536;

/// A prepared statement.
pub(super) struct Statement {
    /// The plan; `None`: the statement is empty.
    pub(super) prepared: Option<Arc<Prepared>>,
    /// What it returns; `None`: no rows.
    pub(super) columns: Option<Arc<Columns>>,
}

impl Statement {
    /// A statement of a plan, or the empty one.
    pub(super) fn new(prepared: Option<Arc<Prepared>>) -> Arc<Statement> {
        let schema = prepared.as_ref().and_then(|p| p.columns.as_ref());
        Arc::new(Statement {
            columns: schema.map(Columns::of),
            prepared,
        })
    }

    /// Types of its parameters.
    pub(super) fn parameters(&self) -> &[DataType] {
        self.prepared.as_ref().map_or(&[], |p| &p.parameters)
    }

    /// Numbers of those that are object ids.
    pub(super) fn object_ids(&self) -> Vec<usize> {
        let prepared = self.prepared.as_ref();
        prepared.map_or_else(Vec::new, |p| chronos_node::object_id_parameters(&p.sql))
    }
}

/// A statement with its parameters, perhaps running.
pub(super) struct Portal {
    /// Its statement.
    pub(super) statement: Arc<Statement>,
    /// What the client wants rows in.
    pub(super) formats: ResultFormats,
    /// How far it is.
    pub(super) state: PortalState,
}

/// How far a portal is.
pub(super) enum PortalState {
    /// Not executed yet; the parameters.
    Bound(Vec<Value>),
    /// Some rows were sent.
    Rows(Cursor),
    /// All rows were sent; the tag for whoever asks again.
    Exhausted(CommandTag),
    /// It ran, and returned no rows: it cannot run again.
    Ran,
}

/// The formats of result columns as Bind gives them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum ResultFormats {
    /// All alike.
    All(FieldFormat),
    /// One per column.
    Each(Arc<[FieldFormat]>),
}

impl ResultFormats {
    /// As the protocol and [`format`](super::format) have them: one per column, or one
    /// for all.
    pub(super) fn codes(&self) -> &[FieldFormat] {
        match self {
            ResultFormats::All(format) => std::slice::from_ref(format),
            ResultFormats::Each(formats) => formats,
        }
    }

    /// That of a column. One that Bind did not know of, because the plan changed since,
    /// is text, which any client can read.
    pub(super) fn of(&self, column: usize) -> FieldFormat {
        match self {
            ResultFormats::All(format) => *format,
            ResultFormats::Each(formats) => {
                formats.get(column).copied().unwrap_or(FieldFormat::Text)
            }
        }
    }
}

/// Things by name, the empty name being one of them.
struct Names<T> {
    /// Kept apart, because it is what most drivers use for every statement.
    unnamed: Option<T>,
    named: HashMap<Box<str>, T>,
}

impl<T> Names<T> {
    fn new() -> Names<T> {
        Names {
            unnamed: None,
            named: HashMap::new(),
        }
    }

    fn get(&self, name: &str) -> Option<&T> {
        match name {
            "" => self.unnamed.as_ref(),
            name => self.named.get(name),
        }
    }

    fn put(&mut self, name: &str, thing: T) {
        match name {
            "" => self.unnamed = Some(thing),
            name => {
                self.named.insert(name.into(), thing);
            }
        }
    }

    fn take(&mut self, name: &str) -> Option<T> {
        match name {
            "" => self.unnamed.take(),
            name => self.named.remove(name),
        }
    }

    fn clear(&mut self) {
        self.unnamed = None;
        self.named.clear();
    }
}

/// A connection's statements and portals.
pub(super) struct Extended {
    statements: Names<Arc<Statement>>,
    portals: Names<Portal>,
    /// A message of this batch failed: the rest is ignored until Sync.
    pub(super) skipping: bool,
    /// This batch runs in an implicit transaction that Sync ends.
    pub(super) implicit: bool,
}

impl Extended {
    /// Nothing prepared.
    pub(super) fn new() -> Extended {
        Extended {
            statements: Names::new(),
            portals: Names::new(),
            skipping: false,
            implicit: false,
        }
    }

    /// Whether a statement of this name may be made.
    pub(super) fn check_new_statement(&self, name: &str) -> Handled {
        if !name.is_empty() && self.statements.get(name).is_some() {
            return Err(Failure::statement(
                SqlState::DUPLICATE_PREPARED,
                format!("prepared statement \"{name}\" already exists"),
            ));
        }
        check_count(self.statements.named.len(), "prepared statements")
    }

    /// Keeps a statement under a name that was checked.
    pub(super) fn put_statement(&mut self, name: &str, statement: Arc<Statement>) {
        self.statements.put(name, statement);
    }

    /// A statement by name.
    pub(super) fn statement(&self, name: &str) -> Handled<&Arc<Statement>> {
        self.statements.get(name).ok_or_else(|| {
            let what = match name {
                "" => "unnamed prepared statement does not exist".to_owned(),
                name => format!("prepared statement \"{name}\" does not exist"),
            };
            Failure::statement(SqlState::INVALID_STATEMENT_NAME, what)
        })
    }

    /// A portal by name.
    pub(super) fn portal(&self, name: &str) -> Handled<&Portal> {
        self.portals.get(name).ok_or_else(|| no_portal(name))
    }

    /// Takes a portal out, to run it; [`put_portal`](Self::put_portal) brings it back.
    pub(super) fn take_portal(&mut self, name: &str) -> Handled<Portal> {
        self.portals.take(name).ok_or_else(|| no_portal(name))
    }

    /// Brings a portal back.
    pub(super) fn put_portal(&mut self, name: &str, portal: Portal) {
        self.portals.put(name, portal);
    }

    /// Makes a portal.
    pub(super) fn bind(&mut self, bind: &Bind<'_>) -> Handled {
        if !bind.portal.is_empty() && self.portals.get(bind.portal).is_some() {
            return Err(Failure::statement(
                SqlState("42P03"),
                format!("cursor \"{}\" already exists", bind.portal),
            ));
        }
        check_count(self.portals.named.len(), "portals")?;
        let statement = self.statement(bind.statement)?.clone();
        let parameters = parameters(bind, statement.parameters())?;
        let columns = statement.columns.as_ref().map_or(0, |c| c.len());
        let portal = Portal {
            formats: result_formats(bind.result_formats, columns)?,
            statement,
            state: PortalState::Bound(parameters),
        };
        self.portals.put(bind.portal, portal);
        Ok(())
    }

    /// Forgets a statement or portal; one that does not exist is no error.
    pub(super) fn close(&mut self, target: Target<'_>) {
        match target {
            Target::Statement(name) => drop(self.statements.take(name)),
            Target::Portal(name) => drop(self.portals.take(name)),
        }
    }

    /// Forgets the unnamed statement and portal, as a simple query does.
    pub(super) fn close_unnamed(&mut self) {
        self.statements.unnamed = None;
        self.portals.unnamed = None;
    }

    /// Forgets all portals: their transaction ended.
    pub(super) fn close_portals(&mut self) {
        self.portals.clear();
    }
}

fn check_count(count: usize, what: &str) -> Handled {
    if count >= NAMES_MAX {
        return Err(Failure::statement(
            SqlState::PROGRAM_LIMIT,
            format!("a connection may not hold more than {NAMES_MAX} {what}"),
        ));
    }
    Ok(())
}

fn no_portal(name: &str) -> Failure {
    Failure::statement(
        SqlState::INVALID_CURSOR_NAME,
        format!("portal \"{name}\" does not exist"),
    )
}

fn format(code: i16) -> Handled<FieldFormat> {
    match code {
        0 => Ok(FieldFormat::Text),
        1 => Ok(FieldFormat::Binary),
        code => Err(Failure::statement(
            SqlState::INVALID_PARAMETER,
            format!("unsupported format code: {code}"),
        )),
    }
}

/// The parameters of a Bind as values of the statement's types.
fn parameters(bind: &Bind<'_>, types: &[DataType]) -> Handled<Vec<Value>> {
    if bind.parameters.len() != types.len() {
        return Err(Failure::violation(format!(
            "bind message supplies {} parameters, but prepared statement \"{}\" requires {}",
            bind.parameters.len(),
            bind.statement,
            types.len()
        )));
    }
    let formats = bind.parameter_formats;
    if formats.len() > 1 && formats.len() != types.len() {
        return Err(Failure::violation(format!(
            "bind message has {} parameter formats but {} parameters",
            formats.len(),
            types.len()
        )));
    }
    let codes = formats.iter().chain(std::iter::repeat_n(
        // One code stands for all, none for text.
        formats.iter().next().unwrap_or(0),
        types.len().saturating_sub(formats.len()),
    ));
    bind.parameters
        .iter()
        .zip(types)
        .zip(codes)
        .map(|((bytes, data_type), code)| Ok(decode_parameter(*bytes, format(code)?, data_type)?))
        .collect()
}

fn result_formats(formats: Formats<'_>, columns: usize) -> Handled<ResultFormats> {
    let mut codes = formats.iter();
    match formats.len() {
        0 => Ok(ResultFormats::All(FieldFormat::Text)),
        1 => Ok(ResultFormats::All(format(codes.next().unwrap_or(0))?)),
        n if n == columns => Ok(ResultFormats::Each(
            codes.map(format).collect::<Handled<_>>()?,
        )),
        n => Err(Failure::violation(format!(
            "bind message has {n} result formats but query has {columns} columns"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pgwire::frontend::{self, Message};
    use arrow_schema::Schema;

    /// `SELECT $1 ..` with text parameters and as many columns.
    fn echo(parameters: usize) -> Arc<Statement> {
        let fields = (0..parameters).map(|_| DataType::Text.to_field("c", true));
        Statement::new(Some(Arc::new(Prepared::described(
            vec![DataType::Text; parameters],
            Some(Arc::new(Schema::new(fields.collect::<Vec<_>>()))),
        ))))
    }

    fn list(items: &[i16]) -> Vec<u8> {
        let mut bytes = (items.len() as u16).to_be_bytes().to_vec();
        bytes.extend(items.iter().flat_map(|i| i.to_be_bytes()));
        bytes
    }

    /// Binds `""` or `"s"`-like names with NULL parameters.
    fn bind(
        extended: &mut Extended,
        portal: &str,
        parameter_formats: &[i16],
        parameters: usize,
        result_formats: &[i16],
    ) -> Result<(), &'static str> {
        let body = [
            format!("{portal}\0s\0").into_bytes(),
            list(parameter_formats),
            (parameters as u16).to_be_bytes().to_vec(),
            (-1_i32).to_be_bytes().repeat(parameters),
            list(result_formats),
        ]
        .concat();
        let Ok(Message::Bind(bind)) = frontend::decode(b'B', &body) else {
            panic!("not a Bind");
        };
        extended.bind(&bind).map_err(|failure| match failure {
            Failure::Statement(error) => error.code.0,
            _ => panic!("{failure:?}"),
        })
    }

    #[test]
    fn formats_are_none_one_or_one_each() {
        let mut extended = Extended::new();
        extended.put_statement("s", echo(2));
        let possible: [[&[i16]; 2]; 3] = [[&[], &[]], [&[1], &[1]], [&[0, 1], &[1, 0]]];
        for [parameter_formats, result_formats] in possible {
            let bound = bind(&mut extended, "", parameter_formats, 2, result_formats);
            assert_eq!(bound, Ok(()), "{parameter_formats:?} {result_formats:?}");
        }
        let impossible: [(&[i16], &[i16], &str); 5] = [
            (&[0, 1, 0], &[], "08P01"),
            (&[], &[0, 0, 0], "08P01"),
            (&[2], &[], "22023"),
            (&[0, 7], &[], "22023"),
            (&[], &[2], "22023"),
        ];
        for (parameter_formats, result_formats, code) in impossible {
            let bound = bind(&mut extended, "", parameter_formats, 2, result_formats);
            assert_eq!(bound, Err(code), "{parameter_formats:?} {result_formats:?}");
        }
        assert_eq!(bind(&mut extended, "", &[], 1, &[]), Err("08P01"));
        bind(&mut extended, "", &[], 2, &[1, 0]).unwrap();
        let portal = extended.portal("").unwrap();
        let expected = [FieldFormat::Binary, FieldFormat::Text];
        assert_eq!(portal.formats.codes(), expected);
    }

    #[test]
    fn named_ones_must_be_closed_before_they_are_made_again() {
        let mut extended = Extended::new();
        extended.put_statement("s", echo(0));
        assert!(extended.check_new_statement("s").is_err());
        assert!(extended.check_new_statement("").is_ok());
        assert_eq!(bind(&mut extended, "p", &[], 0, &[]), Ok(()));
        assert_eq!(bind(&mut extended, "p", &[], 0, &[]), Err("42P03"));
        extended.close(Target::Portal("p"));
        assert_eq!(bind(&mut extended, "p", &[], 0, &[]), Ok(()));
        // A portal outlives its statement, and ends with its transaction.
        extended.close(Target::Statement("s"));
        assert!(extended.check_new_statement("s").is_ok());
        assert!(extended.portal("p").is_ok());
        extended.close_portals();
        assert!(extended.portal("p").is_err());
    }
}
