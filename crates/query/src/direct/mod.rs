//! The short way for statements that name one row by its whole primary key.
//!
//! ```text
//! text -> tokens -> plan(sql, catalog) -> DirectPlan -> bind(parameters) -> BoundDirect
//!                        |
//!                        +-> None: the general planner takes it
//! ```
//!
//! No syntax tree is built and no error is reported here: a statement is either
//! understood to the last token, or left to the general planner, which knows how
//! it is wrong. So everything that PostgreSQL would treat differently from "this
//! value of this column's type" gives `None`: an `int_key = 1.5`, a literal that
//! is none of its type, a comparison across types, a name that is a reserved
//! word. Understood are
//!
//! ```text
//! SELECT * | columns FROM t [alias] WHERE key [LIMIT n]
//! INSERT INTO t [(columns)] VALUES (..), .. [ON CONFLICT [target] DO NOTHING] [RETURNING ..]
//! INSERT .. ON CONFLICT target DO UPDATE SET c = excluded.c | value, .. [RETURNING ..]
//! UPDATE t [alias] SET c = value | c + integer, .. WHERE key [RETURNING ..]
//! DELETE FROM t [alias] WHERE key [RETURNING ..]
//! ```
//!
//! where *key* equates each column of the primary key, once, with a value: a
//! constant (with a sign, a cast, a type before it) or a parameter.
//!
//! Literals of TIMESTAMPTZ without a zone are read in UTC, like everywhere below
//! `query`; a session in another time zone must not come here with them.

mod bind;
mod cursor;
mod insert;
mod literal;
mod modify;
mod names;
mod parameters;
mod select;
#[cfg(test)]
mod tests;
mod upsert;

use std::sync::Arc;

use arrow_schema::SchemaRef;
use chronos_model::{Catalog, DataType, SystemColumn, TableSchema, Value};

pub use bind::{BoundAssignment, BoundDirect, BoundReplacement, BoundRow, DirectError};

use cursor::Cursor;
use parameters::Parameters;

/// A planned statement. It is as good as the catalog it was planned with.
#[derive(Clone, PartialEq, Debug)]
pub struct DirectPlan {
    /// The table.
    pub table: Arc<TableSchema>,
    /// What to do.
    pub kind: DirectKind,
    /// Types of the parameters, `$1` first.
    pub parameters: Vec<DataType>,
    /// Columns of the rows that are returned; `None`: none are.
    pub columns: Option<SchemaRef>,
}

/// What a [`DirectPlan`] does.
#[derive(Clone, PartialEq, Debug)]
pub enum DirectKind {
    /// `SELECT`: the row of a key.
    Get {
        /// What to return of it.
        projection: Vec<ScanItem>,
        /// Values of the key's columns in key order.
        key: Vec<Operand>,
        /// `LIMIT`, unless it is a constant above 0.
        limit: Option<Operand>,
    },
    /// `INSERT .. VALUES`
    Insert {
        /// Rows in order, each with all columns of the table; two may have the
        /// same key.
        rows: Vec<Vec<Operand>>,
        /// What becomes of a row whose key exists.
        on_conflict: OnConflict,
        /// Columns to return of each row inserted.
        returning: Option<Vec<usize>>,
    },
    /// `INSERT .. VALUES .. ON CONFLICT (key) DO UPDATE`
    Upsert {
        /// As those of `Insert`; that no two have the same key is seen when they are bound.
        rows: Vec<Vec<Operand>>,
        /// Columns, none of the key, and what they become in a row whose key exists.
        assignments: Vec<(usize, Replacement)>,
        /// Columns to return of each row, inserted or updated.
        returning: Option<Vec<usize>>,
    },
    /// `UPDATE`: other columns for the row of a key.
    Update {
        /// Values of the key's columns in key order.
        key: Vec<Operand>,
        /// Columns, none of the key, and what they become.
        assignments: Vec<(usize, Assignment)>,
        /// Columns to return of the new row.
        returning: Option<Vec<usize>>,
    },
    /// `DELETE`: the row of a key.
    Delete {
        /// Values of the key's columns in key order.
        key: Vec<Operand>,
        /// Columns to return of the row that was there.
        returning: Option<Vec<usize>>,
    },
}

/// A column that a SELECT returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScanItem {
    /// A column of the table, by position.
    Column(usize),
    /// A column that every table has.
    System(SystemColumn),
}

/// A value, now or when parameters are bound.
#[derive(Clone, PartialEq, Debug)]
pub enum Operand {
    /// A value of the column's type, or NULL.
    Value(Value),
    /// A parameter by position: 0 is `$1`.
    Parameter(usize),
}

/// What a column becomes by an UPDATE.
#[derive(Clone, PartialEq, Debug)]
pub enum Assignment {
    /// A value.
    Set(Operand),
    /// `source + operand`, of integers; NULL if either is.
    Add {
        /// Column whose old value is taken.
        source: usize,
        /// What is added to it; an INT8 or a parameter.
        operand: Operand,
        /// Whether it is subtracted.
        negated: bool,
    },
}

/// What a column of a row becomes by DO UPDATE.
#[derive(Clone, PartialEq, Debug)]
pub enum Replacement {
    /// What the row proposed for insertion has in a column: `excluded.c`.
    Excluded(usize),
    /// A value.
    Set(Operand),
}

/// What becomes of an inserted row whose key exists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnConflict {
    /// The statement fails with 23505.
    Error,
    /// The row is left out.
    DoNothing,
    /// The row is left out; so it is if a unique index has its values.
    DoNothingAtAll,
}

/// Plans a statement, or leaves it to the general planner: `None`.
pub fn plan(sql: &str, catalog: &Catalog) -> Option<DirectPlan> {
    plan_declared(sql, catalog, &[])
}

/// Like [`plan`], for a client that says what types its parameters are of:
/// `declared[0]` is that of `$1`; `None` and missing ones are inferred.
pub fn plan_declared(
    sql: &str,
    catalog: &Catalog,
    declared: &[Option<DataType>],
) -> Option<DirectPlan> {
    let mut planner = Planner {
        cursor: Cursor::new(sql),
        catalog,
        parameters: Parameters::new(declared, sql.len()),
    };
    let verb = planner.cursor.peek()?;
    let (table, kind, columns) = if verb.is_word(sql, "SELECT") {
        planner.select()?
    } else if verb.is_word(sql, "INSERT") {
        planner.insert()?
    } else if verb.is_word(sql, "UPDATE") {
        planner.update()?
    } else if verb.is_word(sql, "DELETE") {
        planner.delete()?
    } else {
        return None;
    };
    planner.cursor.statement_end()?;
    // What such a row shows, and how long it is true, is not in its values alone.
    if table.period_columns().is_some() {
        return None;
    }
    let writes_row = matches!(
        kind,
        DirectKind::Insert { .. } | DirectKind::Upsert { .. } | DirectKind::Update { .. }
    );
    if writes_row && (table.has_row_rules() || table.has_identity()) {
        return None;
    }
    Some(DirectPlan {
        table,
        kind,
        parameters: planner.parameters.finish()?,
        columns,
    })
}

/// What the parts of a plan share.
struct Planner<'a> {
    cursor: Cursor<'a>,
    catalog: &'a Catalog,
    parameters: Parameters<'a>,
}

type Planned = (Arc<TableSchema>, DirectKind, Option<SchemaRef>);
