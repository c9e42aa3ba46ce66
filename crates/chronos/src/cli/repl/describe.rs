//! The questions behind `\d`, `\dt` and completion, in standard SQL over
//! `information_schema`, so that every backend answers them alike.

use crate::cli::reply::quote_literal;

const USER_SCHEMAS: &str = "table_schema NOT IN ('pg_catalog', 'information_schema')";

/// Names offered for completion: schema, table, column.
pub(crate) fn names() -> String {
    format!(
        "SELECT table_schema, table_name, column_name FROM information_schema.columns \
         WHERE {USER_SCHEMAS} ORDER BY table_schema, table_name, ordinal_position LIMIT 20000"
    )
}

/// Tables, and with `views` also views.
pub(crate) fn relations(views: bool) -> String {
    let only = if views {
        ""
    } else {
        " AND table_type = 'BASE TABLE'"
    };
    format!(
        "SELECT table_schema AS schema, table_name AS name, \
         CASE table_type WHEN 'BASE TABLE' THEN 'table' ELSE lower(table_type) END AS type \
         FROM information_schema.tables WHERE {USER_SCHEMAS}{only} ORDER BY 1, 2"
    )
}

/// A table's name, as a person writes it: `t`, `s.t`, `"T"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableName {
    /// The schema, if given.
    pub(crate) schema: Option<String>,
    /// The table, folded to lower case unless quoted.
    pub(crate) table: String,
}

impl TableName {
    /// Parses a name as PostgreSQL does.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text.trim();
        loop {
            let (part, after) =
                identifier(rest).ok_or_else(|| format!("{text:?} is not the name of a table"))?;
            parts.push(part);
            match after.trim_start().strip_prefix('.') {
                Some(next) => rest = next.trim_start(),
                None if after.trim().is_empty() => break,
                None => return Err(format!("{text:?} is not the name of a table")),
            }
        }
        match parts.len() {
            1 => Ok(Self {
                schema: None,
                table: parts.remove(0),
            }),
            2 => Ok(Self {
                table: parts.remove(1),
                schema: Some(parts.remove(0)),
            }),
            _ => Err(format!("{text:?} has more than a schema and a table")),
        }
    }

    fn condition(&self) -> String {
        let schema = self.schema.as_ref().map_or_else(
            || USER_SCHEMAS.to_owned(),
            |schema| format!("table_schema = {}", quote_literal(schema)),
        );
        format!("table_name = {} AND {schema}", quote_literal(&self.table))
    }

    /// The columns of this table.
    pub(crate) fn columns(&self) -> String {
        format!(
            "SELECT column_name AS \"column\", data_type AS type, \
             CASE is_nullable WHEN 'NO' THEN 'not null' ELSE '' END AS nullable, \
             coalesce(column_default, '') AS \"default\" FROM information_schema.columns \
             WHERE {} ORDER BY table_schema, ordinal_position",
            self.condition()
        )
    }

    /// The columns of this table's primary key, in the key's order.
    pub(crate) fn primary_key(&self) -> String {
        format!(
            "SELECT k.column_name FROM information_schema.key_column_usage k \
             WHERE k.constraint_name IN (SELECT constraint_name \
             FROM information_schema.table_constraints \
             WHERE constraint_type = 'PRIMARY KEY' AND {condition}) AND {condition} \
             ORDER BY k.ordinal_position",
            condition = self.condition()
        )
    }
}

/// Reads one identifier; gives it folded, and what follows.
fn identifier(text: &str) -> Option<(String, &str)> {
    if let Some(quoted) = text.strip_prefix('"') {
        let mut name = String::new();
        let mut rest = quoted;
        loop {
            let (part, after) = rest.split_once('"')?;
            name.push_str(part);
            match after.strip_prefix('"') {
                Some(more) => {
                    name.push('"');
                    rest = more;
                }
                None => return (!name.is_empty()).then_some((name, after)),
            }
        }
    }
    let end = text
        .find(|c: char| !(c == '_' || c == '$' || c.is_alphanumeric()))
        .unwrap_or(text.len());
    let starts_well = text.starts_with(|c: char| c == '_' || c.is_alphabetic());
    starts_well.then(|| (text[..end].to_ascii_lowercase(), &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(schema: Option<&str>, table: &str) -> Result<TableName, String> {
        Ok(TableName {
            schema: schema.map(str::to_owned),
            table: table.to_owned(),
        })
    }

    #[test]
    fn names_fold_and_quote() {
        assert_eq!(TableName::parse("Readings"), name(None, "readings"));
        assert_eq!(
            TableName::parse("\"Mixed \"\"x\"\"\""),
            name(None, "Mixed \"x\"")
        );
        assert_eq!(TableName::parse("Plant . \"T\""), name(Some("plant"), "T"));
        for bad in [
            "",
            "1t",
            "a b",
            "a.",
            "\"x",
            "\"\"",
            "a.b.c",
            "t; drop table t",
        ] {
            assert!(TableName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn literals_are_escaped() {
        let table = TableName::parse("\"it's\"").unwrap();
        assert!(table.columns().contains("table_name = 'it''s'"));
    }
}
