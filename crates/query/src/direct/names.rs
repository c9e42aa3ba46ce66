//! How names resolve.

use std::borrow::Cow;
use std::sync::Arc;

use arrow_schema::{Field, Schema, SchemaRef};
use chronos_model::{name_in, own_name, SystemColumn, TableSchema, PUBLIC_SCHEMA};

use super::{Planner, ScanItem};

/// Whether a folded word names an output column only behind `AS`.
pub(super) fn needs_as(word: &str) -> bool {
    matches!(
        word,
        "char"
            | "character"
            | "day"
            | "filter"
            | "hour"
            | "minute"
            | "month"
            | "over"
            | "precision"
            | "second"
            | "varying"
            | "within"
            | "without"
            | "year"
    )
}

/// A table as a statement calls it.
pub(super) struct Target<'a> {
    pub(super) table: &'a Arc<TableSchema>,
    /// The alias, which hides the name.
    pub(super) alias: Option<Cow<'a, str>>,
}

impl Target<'_> {
    fn is_called(&self, name: &str) -> bool {
        match &self.alias {
            Some(alias) => alias == name,
            None => own_name(&self.table.name) == name,
        }
    }
}

/// Columns to return, and their schema.
pub(super) struct Projection {
    pub(super) items: Vec<ScanItem>,
    pub(super) schema: SchemaRef,
}

impl Projection {
    /// The items as columns of the table; `None` if a system column is among
    /// them.
    pub(super) fn columns(&self) -> Option<Vec<usize>> {
        self.items
            .iter()
            .map(|item| match item {
                ScanItem::Column(c) => Some(*c),
                ScanItem::System(_) => None,
            })
            .collect()
    }
}

impl<'a> Planner<'a> {
    /// `[schema.]t`
    pub(super) fn table(&mut self) -> Option<&'a Arc<TableSchema>> {
        let mut name = self.cursor.name()?;
        if self.cursor.punct(b'.') {
            let own = self.cursor.name()?;
            name = match &*name {
                PUBLIC_SCHEMA => own,
                schema => name_in(schema, &own).into(),
            };
        } else if name.starts_with("pg_") {
            // `pg_catalog` is searched before `public`.
            return None;
        }
        self.catalog.table(&name)
    }

    /// `[public.]t [[AS] alias]`; a following `SET` is no alias.
    pub(super) fn target(&mut self) -> Option<Target<'a>> {
        let table = self.table()?;
        let alias = if self.cursor.word("AS") {
            Some(self.cursor.name()?)
        } else if self.cursor.is_word("SET") {
            None
        } else {
            self.cursor.name()
        };
        Some(Target { table, alias })
    }

    /// `[qualifier.]column` of the table.
    pub(super) fn column(&mut self, target: &Target<'_>) -> Option<usize> {
        let mut name = self.cursor.name()?;
        if self.cursor.punct(b'.') {
            if !target.is_called(&name) {
                return None;
            }
            name = self.cursor.label()?;
        }
        target.table.column_index(&name)
    }

    /// A list of `*` and columns with their labels.
    pub(super) fn projection(&mut self, target: &Target<'_>) -> Option<Projection> {
        let table = target.table;
        let mut items = Vec::new();
        let mut fields: Vec<Field> = Vec::new();
        loop {
            if self.cursor.operator("*") {
                all_columns(table, &mut items, &mut fields);
            } else {
                self.projected(target, &mut items, &mut fields)?;
            }
            if !self.cursor.punct(b',') {
                break;
            }
        }
        Some(Projection {
            items,
            schema: Arc::new(Schema::new(fields)),
        })
    }

    fn projected(
        &mut self,
        target: &Target<'_>,
        items: &mut Vec<ScanItem>,
        fields: &mut Vec<Field>,
    ) -> Option<()> {
        let mut name = self.cursor.name()?;
        if self.cursor.punct(b'.') {
            if !target.is_called(&name) {
                return None;
            }
            if self.cursor.operator("*") {
                all_columns(target.table, items, fields);
                return Some(());
            }
            name = self.cursor.label()?;
        }
        let label = if self.cursor.word("AS") {
            Some(self.cursor.label()?)
        } else {
            self.cursor.bare_label()
        };
        let label = label.as_deref().unwrap_or(&name);
        if let Some(index) = target.table.column_index(&name) {
            let column = &target.table.columns[index];
            items.push(ScanItem::Column(index));
            fields.push(column.data_type.to_field(label, column.nullable));
        } else {
            let column = SystemColumn::of_name(&name)?;
            items.push(ScanItem::System(column));
            fields.push(column.arrow_field().with_name(label));
        }
        Some(())
    }
}

fn all_columns(table: &TableSchema, items: &mut Vec<ScanItem>, fields: &mut Vec<Field>) {
    for (index, column) in table.columns.iter().enumerate() {
        items.push(ScanItem::Column(index));
        fields.push(column.arrow_field());
    }
}
