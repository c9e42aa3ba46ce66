//! How large a table's pages are, by how its rows are asked for.
//!
//! Rows whose key tells a time are read in stretches: large pages compress best and scan
//! fastest. Rows under another key are mostly read one at a time. A number is taken out of a page of
//! any size, but texts and byte strings are unpacked as a whole, so that what a read costs is how
//! many bytes of them a page has.

use chronos_model::{DataType, TableSchema};

use crate::segment::SegmentOptions;

/// Entries of an index on a page: they are looked for one at a time, and a page is decoded as
/// a whole.
const ENTRY_PAGE_ROWS: usize = 512;

/// Rows on a page of a table that is used by key.
const BY_KEY_PAGE_ROWS: usize = 512;
/// Bytes of texts and the like on such a page.
const BY_KEY_PAGE_BYTES: usize = 16 << 10;

/// How a table's segments are laid out, where nothing else is said.
pub(crate) fn segment_options(schema: &TableSchema, default: &SegmentOptions) -> SegmentOptions {
    let mut options = default.clone();
    if let Some(codec) = schema.options.float_codec {
        options.float_codec = codec;
    }
    if schema.is_entry_table() {
        options.page_rows = options.page_rows.min(ENTRY_PAGE_ROWS);
    } else if is_used_by_key(schema) {
        options.page_rows = options.page_rows.min(BY_KEY_PAGE_ROWS);
        options.page_bytes = options.page_bytes.min(BY_KEY_PAGE_BYTES);
    }
    options
}

/// Whether its rows have texts or the like and a key that tells no time. Vectors are searched
/// through, not looked up.
fn is_used_by_key(schema: &TableSchema) -> bool {
    let key = &schema.primary_key;
    !key.is_empty()
        && !key
            .iter()
            .any(|c| tells_time(&schema.columns[*c].data_type))
        && schema.columns.iter().any(|c| has_bytes(&c.data_type))
        && !(schema.columns.iter()).any(|c| matches!(c.data_type, DataType::Vector(_)))
}

fn tells_time(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Timestamp | DataType::TimestampTz | DataType::Date | DataType::Time
    )
}

fn has_bytes(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Text
            | DataType::Varchar(_)
            | DataType::Json
            | DataType::Jsonb
            | DataType::Bytea
            | DataType::Array(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronos_model::{ColumnSchema, TableId, TableOptions};

    fn pages(types: &[DataType], primary_key: &[usize]) -> (usize, usize) {
        let column = |(i, data_type): (usize, &DataType)| ColumnSchema {
            name: format!("c{i}"),
            data_type: data_type.clone(),
            nullable: false,
            default: None,
            attributes: Default::default(),
        };
        let schema = TableSchema {
            id: TableId(1),
            name: "t".into(),
            columns: types.iter().enumerate().map(column).collect(),
            primary_key: primary_key.to_vec(),
            options: TableOptions::default(),
            rules: Default::default(),
            shape: Default::default(),
        };
        let options = segment_options(&schema, &SegmentOptions::default());
        (options.page_rows, options.page_bytes)
    }

    #[test]
    fn texts_under_a_key_without_a_time_have_small_pages() {
        use DataType::{Bytea, Float8, Int8, Text, TimestampTz, Uuid};
        let small = (BY_KEY_PAGE_ROWS, BY_KEY_PAGE_BYTES);
        assert_eq!(pages(&[Text, Bytea], &[0]), small);
        assert_eq!(pages(&[Int8, Text, Float8, TimestampTz], &[0]), small);
        let large = (2048, 1 << 20);
        assert_eq!(pages(&[Text, TimestampTz, Float8], &[0, 1]), large);
        assert_eq!(pages(&[Int8, Float8], &[0]), large);
        assert_eq!(pages(&[Text, DataType::Vector(3)], &[0]), large);
        assert_eq!(pages(&[Uuid, Float8], &[0]), large);
        assert_eq!(pages(&[Text, Text], &[]), large);
    }
}
