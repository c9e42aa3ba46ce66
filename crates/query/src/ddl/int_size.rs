//! `default_int_size = 4`: INT, INTEGER and SERIAL of a declared column are 32 bits wide, as in
//! PostgreSQL, and not 64.
//!
//! A migration tool compares the types that a model declares with those it finds. One that writes
//! INTEGER and finds BIGINT sees a difference for ever, so who uses one sets this for its
//! connections. It is about columns of CREATE TABLE and ALTER TABLE, and nothing else: types are
//! written out here, before anything looks at the statement, and no plan depends on the setting.

use datafusion::sql::sqlparser::ast::{
    AlterColumnOperation, AlterTable, AlterTableOperation, ArrayElemTypeDef, CreateTable, DataType,
    Ident, ObjectName,
};

/// The columns of a CREATE TABLE.
pub fn narrow_created(create: &CreateTable) -> CreateTable {
    let mut create = create.clone();
    for column in &mut create.columns {
        narrow(&mut column.data_type);
    }
    create
}

/// The columns that an ALTER TABLE adds, and the types that it gives.
pub fn narrow_altered(alter: &AlterTable) -> AlterTable {
    let mut alter = alter.clone();
    for operation in &mut alter.operations {
        match operation {
            AlterTableOperation::AddColumn { column_def, .. } => narrow(&mut column_def.data_type),
            AlterTableOperation::AlterColumn {
                op:
                    AlterColumnOperation::SetDataType {
                        data_type, using, ..
                    },
                ..
            } => {
                narrow(data_type);
                if let Some(datafusion::sql::sqlparser::ast::Expr::Cast { data_type, .. }) = using {
                    narrow(data_type);
                }
            }
            _ => {}
        }
    }
    alter
}

fn narrow(written: &mut DataType) {
    match written {
        DataType::Int(None) | DataType::Integer(None) => *written = DataType::Int4(None),
        DataType::Array(ArrayElemTypeDef::SquareBracket(item, _)) => narrow(item),
        other if other.to_string().eq_ignore_ascii_case("serial") => {
            *other = DataType::Custom(ObjectName::from(vec![Ident::new("serial4")]), vec![]);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::{ast::Statement, dialect::PostgreSqlDialect, parser::Parser};

    fn parsed(sql: &str) -> Statement {
        let mut statements = Parser::parse_sql(&PostgreSqlDialect {}, sql).expect(sql);
        statements.remove(0)
    }

    #[test]
    fn only_what_has_no_width_of_its_own_becomes_narrow() {
        let sql = "CREATE TABLE t (a INT, b INTEGER[], c BIGINT, d SERIAL, e BIGSERIAL, f SMALLINT, g TEXT)";
        let Statement::CreateTable(create) = parsed(sql) else {
            panic!("{sql}");
        };
        assert_eq!(
            narrow_created(&create).to_string(),
            "CREATE TABLE t (a INT4, b INT4[], c BIGINT, d serial4, e BIGSERIAL, f SMALLINT, g TEXT)"
        );
        let sql = "ALTER TABLE t ADD COLUMN h INT, ALTER COLUMN a TYPE INTEGER USING a::INTEGER";
        let Statement::AlterTable(alter) = parsed(sql) else {
            panic!("{sql}");
        };
        let narrow = Statement::AlterTable(narrow_altered(&alter)).to_string();
        assert!(!narrow.contains("INTEGER"), "{narrow}");
        assert!(narrow.contains("h INT4"), "{narrow}");
    }
}
