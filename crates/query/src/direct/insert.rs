//! `INSERT .. VALUES`.

use std::sync::Arc;

use chronos_model::{own_name, TableSchema, Value};

use super::cursor::Cursor;
use super::names::Target;
use super::{DirectKind, OnConflict, Operand, Planned, Planner, Replacement};

/// Rows beyond which a statement is bulk work, for which columns serve better.
const ROWS_MAX: usize = 10_000;

impl<'a> Planner<'a> {
    /// `INSERT INTO t [(columns)] VALUES (..), .. [ON CONFLICT ..] [RETURNING ..]`
    pub(super) fn insert(&mut self) -> Option<Planned> {
        self.cursor.advance();
        if !self.cursor.word("INTO") {
            return None;
        }
        let table = self.table()?;
        let (targets, is_list) = self.insert_columns(table)?;
        if !self.cursor.word("VALUES") {
            return None;
        }
        let rows = self.insert_rows(table, &targets, is_list)?;
        let action = self.on_conflict(table)?;
        let target = Target { table, alias: None };
        let (returning, columns) = self.returning(&target)?;
        let kind = match action {
            Action::LeaveOut(on_conflict) => DirectKind::Insert {
                rows,
                on_conflict,
                returning,
            },
            Action::Update(assignments) => DirectKind::Upsert {
                rows,
                assignments,
                returning,
            },
        };
        Some((Arc::clone(table), kind, columns))
    }

    /// The columns that values are given for, and whether they were listed.
    fn insert_columns(&mut self, table: &TableSchema) -> Option<(Vec<usize>, bool)> {
        if !self.cursor.punct(b'(') {
            return Some(((0..table.columns.len()).collect(), false));
        }
        let columns = self.column_list(table)?;
        Some((columns, true))
    }

    /// `a, b)`, without repetition, behind its `(`.
    fn column_list(&mut self, table: &TableSchema) -> Option<Vec<usize>> {
        let mut columns = Vec::with_capacity(table.columns.len());
        loop {
            let column = table.column_index(&self.cursor.name()?)?;
            if columns.contains(&column) {
                return None;
            }
            columns.push(column);
            if self.cursor.punct(b')') {
                return Some(columns);
            }
            if !self.cursor.punct(b',') {
                return None;
            }
        }
    }

    fn insert_rows(
        &mut self,
        table: &TableSchema,
        targets: &[usize],
        is_list: bool,
    ) -> Option<Vec<Vec<Operand>>> {
        let mut rows: Vec<Vec<Operand>> = Vec::new();
        let mut template: Vec<Operand> = Vec::new();
        let mut width = 0;
        loop {
            if !self.cursor.punct(b'(') || rows.len() == ROWS_MAX {
                return None;
            }
            let mut given = Vec::with_capacity(targets.len());
            loop {
                let column = *targets.get(given.len())?;
                given.push(self.insert_value(table, column)?);
                if !self.cursor.punct(b',') {
                    break;
                }
            }
            if !self.cursor.punct(b')') {
                return None;
            }
            if rows.is_empty() {
                width = given.len();
                if is_list && width != targets.len() {
                    return None;
                }
                template = defaults(table, &targets[..width])?;
            } else if given.len() != width {
                return None;
            }
            let is_whole_row = !is_list && width == table.columns.len();
            rows.push(if is_whole_row {
                given
            } else {
                let mut row = template.clone();
                for (column, operand) in targets.iter().zip(given) {
                    row[*column] = operand;
                }
                row
            });
            if !self.cursor.punct(b',') {
                return Some(rows);
            }
        }
    }

    fn insert_value(&mut self, table: &TableSchema, column: usize) -> Option<Operand> {
        if self.cursor.word("DEFAULT") {
            return default_of(table, column);
        }
        let literal = self.cursor.literal()?;
        self.stored_operand(literal, &table.columns[column].data_type)
    }

    /// `[ON CONFLICT [(key)| ON CONSTRAINT t_pkey] DO NOTHING | DO UPDATE SET ..]`
    fn on_conflict(&mut self, table: &TableSchema) -> Option<Action> {
        if !self.cursor.word("ON") {
            return Some(Action::LeaveOut(OnConflict::Error));
        }
        if !self.cursor.word("CONFLICT") {
            return None;
        }
        let mut on_conflict = OnConflict::DoNothing;
        if self.cursor.punct(b'(') {
            let columns = self.column_list(table)?;
            let is_key = columns.len() == table.primary_key.len()
                && columns.iter().all(|c| table.primary_key.contains(c));
            if !is_key {
                return None;
            }
        } else if self.cursor.word("ON") {
            let is_key = self.cursor.word("CONSTRAINT")
                && !table.has_hidden_key()
                && self.cursor.name()? == own_name(&table.primary_key_name());
            if !is_key {
                return None;
            }
        } else {
            on_conflict = OnConflict::DoNothingAtAll;
        }
        if !self.cursor.word("DO") {
            return None;
        }
        if self.cursor.word("NOTHING") {
            return Some(Action::LeaveOut(on_conflict));
        }
        // DO UPDATE needs a target.
        if on_conflict != OnConflict::DoNothing || !self.cursor.word("UPDATE") {
            return None;
        }
        self.replacements(table).map(Action::Update)
    }
}

/// What is done about rows whose keys exist.
enum Action {
    LeaveOut(OnConflict),
    Update(Vec<(usize, Replacement)>),
}

/// A row of the defaults of all columns that are not `given`.
fn defaults(table: &TableSchema, given: &[usize]) -> Option<Vec<Operand>> {
    (0..table.columns.len())
        .map(|column| match given.contains(&column) {
            true => Some(Operand::Value(Value::Null)),
            false => default_of(table, column),
        })
        .collect()
}

/// A column's default if it is a constant.
pub(super) fn default_of(table: &TableSchema, column: usize) -> Option<Operand> {
    let column = &table.columns[column];
    let Some(expression) = &column.default else {
        return Some(Operand::Value(Value::Null));
    };
    let mut cursor = Cursor::new(expression);
    let literal = cursor.literal()?;
    if literal.is_parameter() || cursor.peek().is_some() {
        return None;
    }
    literal.stored(&column.data_type).map(Operand::Value)
}
