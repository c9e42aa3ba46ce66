//! `ON CONFLICT .. DO UPDATE SET`.

use chronos_model::{own_name, TableSchema};

use super::insert::default_of;
use super::{Planner, Replacement};

/// What the row proposed for insertion is called.
const EXCLUDED: &str = "excluded";

impl Planner<'_> {
    /// `SET c = excluded.d | value, ..`, behind `DO UPDATE`. Without a WHERE, and without the row that is there:
    /// `c = t.c + 1` is left to the general planner.
    pub(super) fn replacements(
        &mut self,
        table: &TableSchema,
    ) -> Option<Vec<(usize, Replacement)>> {
        // Then it would not be clear which row is meant.
        if own_name(&table.name) == EXCLUDED || !self.cursor.word("SET") {
            return None;
        }
        let mut replacements: Vec<(usize, Replacement)> = Vec::new();
        loop {
            let column = table.column_index(&self.cursor.name()?)?;
            let is_repeated = replacements.iter().any(|(c, _)| *c == column);
            if is_repeated || table.primary_key.contains(&column) {
                return None;
            }
            if !self.cursor.operator("=") {
                return None;
            }
            replacements.push((column, self.replacement(table, column)?));
            if !self.cursor.punct(b',') {
                return Some(replacements);
            }
        }
    }

    fn replacement(&mut self, table: &TableSchema, column: usize) -> Option<Replacement> {
        if self.cursor.word("DEFAULT") {
            return default_of(table, column).map(Replacement::Set);
        }
        let data_type = &table.columns[column].data_type;
        let start = self.cursor.clone();
        if let Some(literal) = self.cursor.literal() {
            return self
                .stored_operand(literal, data_type)
                .map(Replacement::Set);
        }
        self.cursor = start;
        if self.cursor.name()? != EXCLUDED || !self.cursor.punct(b'.') {
            return None;
        }
        let source = table.column_index(&self.cursor.label()?)?;
        // Between two types there would be a cast, which may fail.
        let is_alike = table.columns[source].data_type == *data_type;
        is_alike.then_some(Replacement::Excluded(source))
    }
}
