//! The types that clients look up: `types.txt` and `functions.txt`, read once, and
//! how a type is named in SQL.

use std::sync::LazyLock;

use chronos_model::DataType;

/// A row of `pg_type`.
#[derive(Debug)]
pub(super) struct PgType {
    pub(super) oid: i64,
    pub(super) name: &'static str,
    /// Bytes; -1: of varying length, -2: ended by a zero.
    pub(super) length: i64,
    pub(super) by_value: bool,
    pub(super) kind: &'static str,
    pub(super) category: &'static str,
    pub(super) is_preferred: bool,
    pub(super) element: i64,
    pub(super) array: i64,
    pub(super) align: &'static str,
    pub(super) storage: &'static str,
    /// Names of the functions in, out, receive and send.
    pub(super) functions: [&'static str; 4],
}

/// A row of `pg_proc`.
#[derive(Debug)]
pub(super) struct PgFunction {
    pub(super) oid: i64,
    pub(super) name: &'static str,
    pub(super) result: i64,
    pub(super) arguments: i64,
}

static TYPES: LazyLock<Vec<PgType>> = LazyLock::new(|| {
    include_str!("types.txt")
        .lines()
        .filter_map(parse_type)
        .collect()
});

static FUNCTIONS: LazyLock<Vec<PgFunction>> = LazyLock::new(|| {
    include_str!("functions.txt")
        .lines()
        .filter_map(parse_function)
        .collect()
});

fn parse_type(line: &'static str) -> Option<PgType> {
    let words: Vec<&str> = line.split(' ').collect();
    let [oid, name, length, by_value, kind, category, is_preferred, element, array, align, storage, input, output, receive, send] =
        *words.as_slice()
    else {
        return None;
    };
    Some(PgType {
        oid: oid.parse().ok()?,
        name,
        length: length.parse().ok()?,
        by_value: by_value == "t",
        kind,
        category,
        is_preferred: is_preferred == "t",
        element: element.parse().ok()?,
        array: array.parse().ok()?,
        align,
        storage,
        functions: [input, output, receive, send],
    })
}

fn parse_function(line: &'static str) -> Option<PgFunction> {
    let words: Vec<&str> = line.split(' ').collect();
    let [oid, name, result, arguments] = *words.as_slice() else {
        return None;
    };
    Some(PgFunction {
        oid: oid.parse().ok()?,
        name,
        result: result.parse().ok()?,
        arguments: arguments.parse().ok()?,
    })
}

/// All types.
pub(super) fn all() -> &'static [PgType] {
    &TYPES
}

/// The functions of all types.
pub(super) fn functions() -> &'static [PgFunction] {
    &FUNCTIONS
}

/// The type of an object id.
pub(super) fn by_oid(oid: i64) -> Option<&'static PgType> {
    TYPES.iter().find(|t| t.oid == oid)
}

/// The type of a `typname`.
pub(super) fn by_name(name: &str) -> Option<&'static PgType> {
    TYPES.iter().find(|t| t.name == name)
}

/// Object id of a function, 0 if there is none.
pub(crate) fn function_oid(name: &str) -> i64 {
    FUNCTIONS
        .iter()
        .find(|f| f.name == name)
        .map_or(0, |f| f.oid)
}

/// Name of a function.
pub(crate) fn function_name(oid: i64) -> Option<&'static str> {
    FUNCTIONS.iter().find(|f| f.oid == oid).map(|f| f.name)
}

/// Object id of a type by its catalog name or its name in SQL, qualified or not.
pub(crate) fn type_oid(written: &str) -> Option<i64> {
    let written = written.trim();
    let name = written
        .strip_prefix("pg_catalog.")
        .or_else(|| written.strip_prefix("public."))
        .unwrap_or(written);
    if name.len() > 2 && name.starts_with('"') && name.ends_with('"') {
        return by_name(&name[1..name.len() - 1]).map(|t| t.oid);
    }
    let name = name.to_lowercase();
    if name == "char" {
        return Some(1042);
    }
    if let Some(item) = name.strip_suffix("[]") {
        return type_oid(item)
            .and_then(by_oid)
            .map(|t| t.array)
            .filter(|oid| *oid != 0);
    }
    let found = by_name(&name).map(|t| t.oid);
    found.or_else(|| DataType::parse(&name).ok().map(|t| i64::from(t.oid())))
}

/// The type modifier of a column: PostgreSQL's `atttypmod`, -1 when there is none.
pub(super) fn modifier(data_type: &DataType) -> i64 {
    match data_type {
        DataType::Varchar(Some(n)) => i64::from(*n) + 4,
        DataType::Numeric(Some((precision, scale))) => {
            ((i64::from(*precision) << 16) | i64::from(*scale)) + 4
        }
        DataType::Vector(n) => i64::from(*n),
        DataType::Array(item) => modifier(item),
        _ => -1,
    }
}

/// A type as SQL writes it; `None` as its modifier: not known.
pub(crate) fn format_type(oid: i64, modifier: Option<i64>) -> String {
    if oid == 0 {
        return "-".into();
    }
    let Some(found) = by_oid(oid) else {
        return "???".into();
    };
    if found.category == "A" && found.element != 0 && found.name.starts_with('_') {
        return format!("{}[]", format_type(found.element, modifier));
    }
    let shown = match found.name {
        "bool" => "boolean",
        "int2" => "smallint",
        "int4" => "integer",
        "int8" => "bigint",
        "float4" => "real",
        "float8" => "double precision",
        "varchar" => "character varying",
        "bpchar" => "character",
        "time" => "time without time zone",
        "timetz" => "time with time zone",
        "timestamp" => "timestamp without time zone",
        "timestamptz" => "timestamp with time zone",
        "char" => "\"char\"",
        "any" => "\"any\"",
        name => name,
    };
    match (found.name, modifier) {
        ("varchar" | "bpchar", Some(m)) if m > 4 => format!("{shown}({})", m - 4),
        ("numeric", Some(m)) if m > 4 => format!("{shown}({},{})", (m - 4) >> 16, (m - 4) & 0xffff),
        ("vector", Some(m)) if m > 0 => format!("{shown}({m})"),
        _ => shown.into(),
    }
}

/// An identifier as it must be written: quoted only where it would not be read
/// back the same.
pub(crate) fn quote_ident(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !chronos_model::text::is_reserved(name);
    if is_plain {
        name.into()
    } else {
        crate::sql::quote(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_read() {
        let count = |text: &str| text.lines().filter(|l| !l.starts_with('#')).count();
        assert_eq!(all().len(), count(include_str!("types.txt")));
        assert_eq!(functions().len(), count(include_str!("functions.txt")));
        for t in all() {
            for function in t.functions.iter().filter(|f| **f != "-") {
                assert_ne!(function_oid(function), 0, "{} of {}", function, t.name);
            }
        }
    }

    #[test]
    fn the_types_of_columns_are_there() {
        for name in [
            "bool",
            "int2",
            "int4",
            "int8",
            "float4",
            "float8",
            "numeric",
            "text",
            "varchar",
            "bytea",
            "uuid",
            "date",
            "time",
            "timestamp",
            "timestamptz",
            "interval",
            "json",
            "jsonb",
        ] {
            let data_type = DataType::parse(name).unwrap();
            let found = by_oid(i64::from(data_type.oid())).unwrap();
            assert_eq!(found.name, name);
            let array = DataType::Array(Box::new(data_type));
            assert_eq!(found.array, i64::from(array.oid()), "{name}[]");
        }
        assert_eq!(
            by_name("vector").map(|t| t.oid),
            Some(i64::from(DataType::VECTOR_OID))
        );
    }

    #[test]
    fn types_are_named_as_in_sql() {
        let shown = |name: &str| {
            let t = DataType::parse(name).unwrap();
            format_type(i64::from(t.oid()), Some(modifier(&t)))
        };
        assert_eq!(shown("varchar(20)"), "character varying(20)");
        assert_eq!(shown("numeric(10,2)"), "numeric(10,2)");
        assert_eq!(shown("numeric(10,2)[]"), "numeric(10,2)[]");
        assert_eq!(shown("timestamptz[]"), "timestamp with time zone[]");
        assert_eq!(shown("vector(3)"), "vector(3)");
        assert_eq!(shown("int4"), "integer");
        assert_eq!(format_type(1043, None), "character varying");
        assert_eq!(format_type(424_242, None), "???");
        assert_eq!(type_oid("pg_catalog.text"), Some(25));
        assert_eq!(type_oid("double precision"), Some(701));
        assert_eq!(type_oid("text[]"), Some(1009));
        assert_eq!(type_oid("\"char\""), Some(18));
        assert_eq!(type_oid("hstore"), None);
    }
}
