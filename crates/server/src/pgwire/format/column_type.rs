//! What a column is to a client: its SQL type, or one of the catalog's own.

use arrow_schema::Field;
use bytes::BytesMut;
use chronos_model::{CatalogType, DataError, DataType};

use super::cell::Cell;
use super::cell_binary::{put_binary_field, put_sized};
use super::cell_text::put_text;
use super::FieldFormat;

/// The type of a column.
#[derive(Debug, Clone)]
pub struct ColumnType {
    /// What its values are.
    pub data_type: DataType,
    /// What PostgreSQL calls it, if it is a column of the catalog.
    pub catalog_type: Option<&'static CatalogType>,
}

impl ColumnType {
    /// That of a field.
    pub fn of(field: &Field) -> ColumnType {
        ColumnType {
            data_type: DataType::of_field(field),
            catalog_type: CatalogType::of_field(field),
        }
    }

    /// The object id that clients are told.
    pub fn oid(&self) -> u32 {
        self.catalog_type
            .map_or_else(|| self.data_type.oid(), |shown| shown.oid)
    }
}

impl From<DataType> for ColumnType {
    fn from(data_type: DataType) -> ColumnType {
        ColumnType {
            data_type,
            catalog_type: None,
        }
    }
}

/// Where an array's binary form, behind its length, has its items' type and its lower bound.
const ITEM_TYPE: usize = 4 + 8;
const LOWER_BOUND: usize = 4 + 16;

/// An array of the catalog: its items are what PostgreSQL calls them, and a vector is `1 2`.
pub(super) fn put_catalog_items(
    cell: &Cell<'_>,
    data_type: &DataType,
    shown: &CatalogType,
    format: FieldFormat,
    out: &mut BytesMut,
) -> Result<(), DataError> {
    if format == FieldFormat::Text {
        return put_sized(out, |out| {
            let start = out.len();
            put_text(cell, data_type, out)?;
            if shown.is_vector() {
                let text = out.split_off(start);
                let items = text.len().saturating_sub(1).max(1);
                let items = text.get(1..items).unwrap_or_default();
                out.extend(items.iter().map(|b| if *b == b',' { b' ' } else { *b }));
            }
            Ok(())
        });
    }
    let start = out.len();
    put_binary_field(cell, data_type, out)?;
    if let Some(item) = out.get_mut(start + ITEM_TYPE..start + ITEM_TYPE + 4) {
        item.copy_from_slice(&shown.item.to_be_bytes());
    }
    if shown.is_vector() {
        if let Some(bound) = out.get_mut(start + LOWER_BOUND..start + LOWER_BOUND + 4) {
            bound.fill(0);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronos_model::Value;

    fn encoded(values: &[i16], name: &str, format: FieldFormat) -> Vec<u8> {
        let values = Value::Array(values.iter().map(|v| Value::Int2(*v)).collect());
        let data_type = DataType::Array(Box::new(DataType::Int2));
        let shown = CatalogType::of_name(name).expect("a type of the catalog");
        let mut out = BytesMut::new();
        put_catalog_items(&Cell::from(&values), &data_type, shown, format, &mut out)
            .expect("it fits");
        out[4..].to_vec()
    }

    #[test]
    fn a_vector_is_numbers_with_blanks_between_them() {
        let text = |values: &[i16]| encoded(values, "int2vector", FieldFormat::Text);
        assert_eq!(text(&[1, 20, 3]), b"1 20 3");
        assert_eq!(text(&[7]), b"7");
        assert_eq!(text(&[]), b"");
        assert_eq!(encoded(&[1, 2], "_oid", FieldFormat::Text), b"{1,2}");
        let binary = encoded(&[5], "int2vector", FieldFormat::Binary);
        // One dimension, no NULLs, int2, one item, counted from 0.
        let head = [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 21, 0, 0, 0, 1, 0, 0, 0, 0];
        assert_eq!(binary[..20], head);
        assert_eq!(binary[20..], [0, 0, 0, 2, 0, 5]);
        let none = encoded(&[], "int2vector", FieldFormat::Binary);
        assert_eq!(none, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 21]);
    }
}
