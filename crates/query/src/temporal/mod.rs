//! Temporal clauses, moved to where a SQL parser can carry them.
//!
//! SQL:2011 says which versions of a table a query means behind the table's
//! name. The parser below us knows little of that, and its planner would ignore
//! it and answer with current rows. So [`rewrite`] turns each clause, on the
//! token stream and before parsing, into arguments of the table:
//!
//! ```text
//! FROM t FOR SYSTEM_TIME AS OF x FOR VALID_TIME ALL AS a
//! FROM t(__sys_asof(x), __valid_all()) AS a
//! ```
//!
//! | clause | argument |
//! |---|---|
//! | `FOR SYSTEM_TIME AS OF x` | `__sys_asof(x)` |
//! | `FOR SYSTEM_TIME FROM a TO b` | `__sys_from_to(a, b)` |
//! | `FOR SYSTEM_TIME BETWEEN a AND b` | `__sys_between(a, b)` |
//! | `FOR SYSTEM_TIME ALL`, `FOR ALL SYSTEM_TIME` | `__sys_all()` |
//! | the same `FOR VALID_TIME` | `__valid_..` |
//! | `FOR PORTION OF VALID_TIME FROM a TO b` | `__portion(a, b)` |
//! | `FOR VALID_TIME ALL` of UPDATE and DELETE | `__portion(NULL, NULL)` |
//!
//! `PERIOD FOR VALID_TIME (a, b)` in CREATE TABLE becomes a CHECK with a name of its own.
//! Predicates of periods (`a._valid_time OVERLAPS b._valid_time`) become comparisons of
//! their bounds, and `VALID_TIME WITHOUT OVERLAPS` is taken out of a primary key, where it is
//! the case anyway.
//!
//! Clauses stand before or after the table's alias, in any order. [`period_of`]
//! reads the names back. Which of them can be answered is the planner's to say.
//! Refused here, because no table argument could carry it: any other clause on
//! the target of UPDATE, DELETE, INSERT or MERGE, and `FOR PORTION OF` elsewhere.

mod bounds;
mod declared;
mod periods;
mod rewriter;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

#[cfg(feature = "engine")]
pub(crate) use bounds::Words;

use crate::lex::LexError;

/// Which time a clause speaks of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Period {
    /// When versions were recorded.
    System,
    /// When they are true.
    Valid,
}

/// What a clause says of its period.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Extent {
    /// `AS OF x`: one moment.
    AsOf,
    /// `FROM a TO b`: `[a, b)`.
    FromTo,
    /// `BETWEEN a AND b`: `[a, b]`.
    Between,
    /// `ALL`
    All,
    /// `FOR PORTION OF .. FROM a TO b`: what UPDATE and DELETE change.
    PortionOf,
}

/// The argument of a table that UPDATE or DELETE changes for a portion of valid time.
pub const PORTION: &str = "__portion";

/// The name of the CHECK that `PERIOD FOR VALID_TIME (a, b)` becomes.
pub const PERIOD_DECLARATION: &str = "__period_valid_time";

const CLAUSES: [(&str, Period, Extent); 9] = [
    (PORTION, Period::Valid, Extent::PortionOf),
    ("__sys_asof", Period::System, Extent::AsOf),
    ("__sys_from_to", Period::System, Extent::FromTo),
    ("__sys_between", Period::System, Extent::Between),
    ("__sys_all", Period::System, Extent::All),
    ("__valid_asof", Period::Valid, Extent::AsOf),
    ("__valid_from_to", Period::Valid, Extent::FromTo),
    ("__valid_between", Period::Valid, Extent::Between),
    ("__valid_all", Period::Valid, Extent::All),
];

/// The clause that a table argument of this name stands for.
pub fn period_of(function: &str) -> Option<(Period, Extent)> {
    CLAUSES
        .iter()
        .find(|(name, ..)| *name == function)
        .map(|(_, period, extent)| (*period, *extent))
}

fn function_of(period: Period, extent: Extent) -> &'static str {
    CLAUSES
        .iter()
        .find(|(_, p, e)| *p == period && *e == extent)
        .map_or("", |(name, ..)| name)
}

/// Text without temporal clauses, and where its parts came from.
#[derive(Clone, PartialEq, Debug)]
pub struct Rewritten<'a> {
    /// The text to parse; borrowed if nothing had to change.
    pub sql: Cow<'a, str>,
    /// Pieces in order; empty if nothing changed.
    pieces: Vec<Piece>,
}

/// `length` bytes of the new text from `target` on are those of the original
/// from `source` on. Of length 0: text that was put in for what stood at `source`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Piece {
    target: usize,
    source: usize,
    length: usize,
}

impl Rewritten<'_> {
    /// The byte of the original text from which this byte of the new one came;
    /// of text that was put in, the beginning of the clause it stands for.
    pub fn original_position(&self, offset: usize) -> usize {
        let after = self.pieces.partition_point(|p| p.target <= offset);
        match after.checked_sub(1).and_then(|i| self.pieces.get(i)) {
            Some(piece) => piece.source + (offset - piece.target).min(piece.length),
            None => offset,
        }
    }
}

/// Rewrites the temporal clauses of one statement or several.
///
/// Errors: text that is no token, a clause with something missing, one that
/// does not follow a table's name (all 42601), one that is refused (0A000), and
/// clauses nested too deeply in the bounds of others (54001).
pub fn rewrite(sql: &str) -> Result<Rewritten<'_>, LexError> {
    if !may_have_clause(sql.as_bytes()) {
        return Ok(Rewritten {
            sql: Cow::Borrowed(sql),
            pieces: Vec::new(),
        });
    }
    rewriter::rewrite(sql)
}

/// Whether `SYSTEM_TIME`, `VALID_TIME`, `PORTION` or `PERIOD` occurs in any case. Quotes
/// and comments are not minded: a wrong yes costs time only.
fn may_have_clause(sql: &[u8]) -> bool {
    let ends = |at: usize, word: &[u8]| {
        at.checked_sub(word.len())
            .is_some_and(|from| sql[from..at].eq_ignore_ascii_case(word))
    };
    sql.iter().enumerate().any(|(at, byte)| match byte {
        b'_' => ends(at, b"SYSTEM") || ends(at, b"VALID"),
        b'N' | b'n' => ends(at + 1, b"PORTION"),
        b'D' | b'd' => ends(at + 1, b"PERIOD"),
        _ => false,
    })
}
