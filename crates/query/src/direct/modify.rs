//! `UPDATE` and `DELETE` by key, and `RETURNING`.

use std::sync::Arc;

use arrow_schema::SchemaRef;

use super::insert::default_of;
use super::names::Target;
use super::parameters::is_integer;
use super::{Assignment, DirectKind, Planned, Planner};

/// Columns to return and their schema, if any are.
type Returning = (Option<Vec<usize>>, Option<SchemaRef>);

impl<'a> Planner<'a> {
    /// `UPDATE t [alias] SET c = value, .. WHERE key [RETURNING ..]`
    pub(super) fn update(&mut self) -> Option<Planned> {
        self.cursor.advance();
        let target = self.target()?;
        if !self.cursor.word("SET") {
            return None;
        }
        let mut assignments: Vec<(usize, Assignment)> = Vec::new();
        loop {
            let column = target.table.column_index(&self.cursor.name()?)?;
            let is_repeated = assignments.iter().any(|(c, _)| *c == column);
            if is_repeated || target.table.primary_key.contains(&column) {
                return None;
            }
            if !self.cursor.operator("=") {
                return None;
            }
            assignments.push((column, self.assignment(&target, column)?));
            if !self.cursor.punct(b',') {
                break;
            }
        }
        let key = self.key(&target)?;
        let (returning, columns) = self.returning(&target)?;
        let kind = DirectKind::Update {
            key,
            assignments,
            returning,
        };
        Some((Arc::clone(target.table), kind, columns))
    }

    fn assignment(&mut self, target: &Target<'_>, column: usize) -> Option<Assignment> {
        if self.cursor.word("DEFAULT") {
            return default_of(target.table, column).map(Assignment::Set);
        }
        let start = self.cursor.clone();
        if let Some(literal) = self.cursor.literal() {
            let data_type = &target.table.columns[column].data_type;
            return self.stored_operand(literal, data_type).map(Assignment::Set);
        }
        self.cursor = start;
        self.sum(target, column)
    }

    /// `column + integer` or `column - integer`
    fn sum(&mut self, target: &Target<'_>, column: usize) -> Option<Assignment> {
        let source = self.column(target)?;
        let source_type = &target.table.columns[source].data_type;
        // Between two integer types the sum would have to overflow as the narrower.
        if !is_integer(source_type) || *source_type != target.table.columns[column].data_type {
            return None;
        }
        let negated = self.cursor.operator("-");
        if !negated && !self.cursor.operator("+") {
            return None;
        }
        let literal = self.cursor.literal()?;
        let operand = self.integer_operand(&literal, source_type)?;
        Some(Assignment::Add {
            source,
            operand,
            negated,
        })
    }

    /// `DELETE FROM t [alias] WHERE key [RETURNING ..]`
    pub(super) fn delete(&mut self) -> Option<Planned> {
        self.cursor.advance();
        if !self.cursor.word("FROM") {
            return None;
        }
        let target = self.target()?;
        let key = self.key(&target)?;
        let (returning, columns) = self.returning(&target)?;
        let kind = DirectKind::Delete { key, returning };
        Some((Arc::clone(target.table), kind, columns))
    }

    /// `[RETURNING items]`. System columns of a row being written are not known
    /// here.
    pub(super) fn returning(&mut self, target: &Target<'_>) -> Option<Returning> {
        if !self.cursor.word("RETURNING") {
            return Some((None, None));
        }
        let projection = self.projection(target)?;
        let columns = projection.columns()?;
        Some((Some(columns), Some(projection.schema)))
    }
}
