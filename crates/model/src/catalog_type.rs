//! Types that only PostgreSQL's catalog has, as columns of system relations are shown to clients.
//!
//! Inside they are plain types: an object id is an `INT4`, a name is `TEXT`, an `int2vector` an array.
//! But drivers look at what a column is called: they read ids as unsigned, and an `int2vector` as
//! `1 2` and not `{1,2}`. So the field of such a column says under [`CATALOG_TYPE_KEY`] what
//! PostgreSQL calls it, and whoever describes columns to clients asks here.

use arrow_schema::Field;

use crate::DataType;

/// Where a field says which of these types it is.
const CATALOG_TYPE_KEY: &str = "chronos.catalog_type";

/// A type of the catalog.
#[derive(Debug, PartialEq, Eq)]
pub struct CatalogType {
    name: &'static str,
    /// Object id.
    pub oid: u32,
    /// `pg_type.typlen`: bytes, or -1 if that varies.
    pub length: i16,
    /// Object id of the items of an array or vector; 0 for others.
    pub item: u32,
}

const fn of(name: &'static str, oid: u32, length: i16, item: u32) -> CatalogType {
    CatalogType {
        name,
        oid,
        length,
        item,
    }
}

static ALL: [CatalogType; 12] = [
    of("oid", 26, 4, 0),
    of("xid", 28, 4, 0),
    of("cid", 29, 4, 0),
    of("name", 19, 64, 0),
    of("char", 18, 1, 0),
    of("varchar", 1043, -1, 0),
    of("pg_node_tree", 194, -1, 0),
    of("int2vector", 22, -1, 21),
    of("oidvector", 30, -1, 26),
    of("_oid", 1028, -1, 26),
    of("_name", 1003, -1, 19),
    of("_char", 1002, -1, 18),
];

impl CatalogType {
    /// The type of that name in `pg_type`; `None`: clients are told what it is inside.
    pub fn of_name(name: &str) -> Option<&'static CatalogType> {
        ALL.iter().find(|t| t.name == name)
    }

    /// What a field says of itself, unless a cast has made another type of it: the engine's casts
    /// keep what a field says.
    pub fn of_field(field: &Field) -> Option<&'static CatalogType> {
        let found = CatalogType::of_name(field.metadata().get(CATALOG_TYPE_KEY)?)?;
        let fits = match (DataType::of_field(field), found.name) {
            (DataType::Int4, "oid" | "xid" | "cid") => true,
            (DataType::Array(_), _) => found.item != 0,
            (data_type, "name" | "char" | "varchar" | "pg_node_tree") => data_type.is_text(),
            _ => false,
        };
        fits.then_some(found)
    }

    /// The field, saying that it is of this type.
    pub fn mark(&self, mut field: Field) -> Field {
        field
            .metadata_mut()
            .insert(CATALOG_TYPE_KEY.to_owned(), self.name.to_owned());
        field
    }

    /// Whether its text is `1 2`, and its items are counted from 0.
    pub fn is_vector(&self) -> bool {
        self.name.ends_with("vector")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_remembers_what_it_is() {
        let plain = DataType::Int4.to_field("oid", true);
        assert_eq!(CatalogType::of_field(&plain), None);
        let oid = CatalogType::of_name("oid").expect("it is one");
        let marked = oid.mark(plain);
        assert_eq!(CatalogType::of_field(&marked), Some(oid));
        assert_eq!(DataType::of_field(&marked), DataType::Int4);
        assert_eq!(CatalogType::of_name("int8"), None);
        let cast = oid.mark(DataType::Int8.to_field("oid", true));
        assert_eq!(CatalogType::of_field(&cast), None);
    }
}
