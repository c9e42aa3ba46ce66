//! Which system relations there are, and their columns: `relations.txt`, read once.
//!
//! A line that does not follow the format is a mistake of ours; a test reads all.

use std::sync::LazyLock;

use chronos_model::{DataType, Value};

/// A relation of `pg_catalog` or `information_schema`.
#[derive(Debug)]
pub(super) struct Relation {
    pub(super) oid: i64,
    pub(super) is_view: bool,
    pub(super) schema: &'static str,
    pub(super) name: &'static str,
    pub(super) columns: Vec<Column>,
}

/// A column of such a relation.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    /// PostgreSQL's type, as `pg_type.typname` has it.
    pub(super) type_name: &'static str,
    /// The type it has here.
    pub(super) data_type: DataType,
}

static RELATIONS: LazyLock<Vec<Relation>> = LazyLock::new(|| {
    include_str!("relations.txt")
        .lines()
        .filter_map(parse)
        .collect()
});

/// All of them, those of `pg_catalog` first.
pub(super) fn all() -> &'static [Relation] {
    &RELATIONS
}

/// The relation of that name. `pg_catalog` is searched when no schema is named.
pub(super) fn find(schema: Option<&str>, name: &str) -> Option<&'static Relation> {
    let schema = schema.unwrap_or("pg_catalog");
    RELATIONS
        .iter()
        .find(|r| r.name == name && r.schema == schema)
}

fn parse(line: &'static str) -> Option<Relation> {
    let mut words = line.split(' ');
    let oid = words.next()?.parse().ok()?;
    let is_view = words.next()? == "v";
    let (schema, name) = (words.next()?, words.next()?);
    let columns = words
        .filter_map(|word| {
            let (name, type_name) = word.split_once(':')?;
            Some(Column {
                name,
                type_name,
                data_type: data_type(type_name),
            })
        })
        .collect();
    Some(Relation {
        oid,
        is_view,
        schema,
        name,
        columns,
    })
}

/// Object ids are 32-bit integers here, names and `"char"` are text, vectors arrays.
fn data_type(type_name: &str) -> DataType {
    let array = |item| DataType::Array(Box::new(item));
    match type_name {
        "bool" => DataType::Bool,
        "int2" => DataType::Int2,
        "int4" | "oid" | "xid" | "cid" | "regproc" | "regtype" => DataType::Int4,
        "int8" => DataType::Int8,
        "float4" => DataType::Float4,
        "float8" => DataType::Float8,
        "numeric" => DataType::Numeric(None),
        "timestamptz" => DataType::TimestampTz,
        "interval" => DataType::Interval,
        "bytea" => DataType::Bytea,
        "int2vector" | "_int2" => array(DataType::Int2),
        "oidvector" | "_oid" | "_regtype" => array(DataType::Int4),
        "_float4" => array(DataType::Float4),
        name if name.starts_with('_') => array(DataType::Text),
        _ => DataType::Text,
    }
}

impl Relation {
    /// What a column holds when nothing is said of it. As in PostgreSQL, the
    /// fixed-width columns of a table are never NULL.
    pub(super) fn absent(&self, column: &Column) -> Value {
        if self.is_view {
            return Value::Null;
        }
        match column.type_name {
            "bool" => Value::Bool(false),
            "int2" => Value::Int2(0),
            "int4" | "oid" | "xid" | "cid" | "regproc" => Value::Int4(0),
            "int8" => Value::Int8(0),
            "float4" => Value::Float4(0.0),
            "char" | "name" => Value::Text(String::new()),
            _ => Value::Null,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_read() {
        let lines: Vec<&str> = include_str!("relations.txt")
            .lines()
            .filter(|l| !l.starts_with('#'))
            .collect();
        assert_eq!(all().len(), lines.len());
        for (relation, line) in all().iter().zip(lines) {
            assert_eq!(
                relation.columns.len(),
                line.split(' ').count() - 4,
                "{line}"
            );
            assert!(
                super::super::types::by_name(relation.columns[0].type_name).is_some(),
                "{line}"
            );
        }
        assert_eq!(find(None, "pg_class").map(|r| r.oid), Some(1259));
        assert!(
            find(None, "columns").is_none(),
            "information_schema is not on the search path"
        );
        assert!(find(Some("information_schema"), "columns").is_some());
    }
}
