//! What an operand is to the resolution of operators: of a SQL type, or not yet.

use arrow_schema::Field;
use chronos_model::{text, DataType, Value};
use datafusion::common::{ExprSchema, ScalarValue};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator};

use crate::engine::scalar;
use crate::QueryError;

/// The type of an operand.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::engine) enum Operand {
    /// A constant text without a type.
    Unknown(String),
    /// NULL without a type.
    Null,
    /// A value of a type.
    Of(DataType),
    /// A parameter without a type, or what depends on one; or none of our types.
    Open,
}

impl Operand {
    /// The operand that an expression is.
    pub(in crate::engine) fn of(expr: &Expr, schema: &dyn ExprSchema) -> Operand {
        use arrow_schema::DataType as Arrow;
        if let Expr::Literal(value, metadata) = expr {
            match value {
                ScalarValue::Utf8(Some(written)) if metadata.is_none() => {
                    return Operand::Unknown(written.clone())
                }
                ScalarValue::Utf8(None) | ScalarValue::Null => return Operand::Null,
                _ => {}
            }
        }
        // A field has a name, and the name of a long chain of operators is long: chains are
        // asked for no more than their type.
        match expr {
            Expr::BinaryExpr(BinaryExpr { op, .. }) if is_logical(*op) => {
                return Operand::Of(DataType::Bool)
            }
            Expr::Not(_) | Expr::IsNull(_) | Expr::IsNotNull(_) | Expr::Like(_) => {
                return Operand::Of(DataType::Bool)
            }
            Expr::BinaryExpr(_) => {
                return match expr.get_type(schema) {
                    Ok(Arrow::Null) | Err(_) => Operand::Open,
                    Ok(arrow) => Operand::Of(DataType::of_arrow(&arrow)),
                }
            }
            _ => {}
        }
        let Ok((_, field)) = expr.to_field(schema) else {
            return Operand::Open;
        };
        match field.data_type() {
            Arrow::Null => match expr {
                Expr::Literal(..) => Operand::Null,
                _ => Operand::Open,
            },
            Arrow::Struct(_)
            | Arrow::Map(..)
            | Arrow::Union(..)
            | Arrow::UInt64
            | Arrow::Duration(_) => Operand::Open,
            Arrow::List(item) if item.data_type() == &Arrow::Null => Operand::Open,
            _ => Operand::Of(plain(&field)),
        }
    }

    /// Its type's name in messages.
    pub(in crate::engine) fn name(&self) -> String {
        match self {
            Operand::Of(DataType::Numeric(_)) => "numeric".to_owned(),
            Operand::Of(DataType::Varchar(_)) => "character varying".to_owned(),
            Operand::Of(DataType::Vector(_)) => "vector".to_owned(),
            Operand::Of(data_type) => data_type.to_string(),
            Operand::Unknown(_) | Operand::Null | Operand::Open => "unknown".to_owned(),
        }
    }
}

/// Whether an operator's result is a condition, whatever its operands are.
fn is_logical(op: Operator) -> bool {
    op.is_logic_operator()
        || matches!(
            op,
            Operator::Eq
                | Operator::NotEq
                | Operator::Lt
                | Operator::LtEq
                | Operator::Gt
                | Operator::GtEq
                | Operator::IsDistinctFrom
                | Operator::IsNotDistinctFrom
                | Operator::RegexMatch
                | Operator::RegexIMatch
                | Operator::RegexNotMatch
                | Operator::RegexNotIMatch
                | Operator::LikeMatch
                | Operator::ILikeMatch
                | Operator::NotLikeMatch
                | Operator::NotILikeMatch
        )
}

fn plain(field: &Field) -> DataType {
    DataType::of_field(field)
}

/// A constant text as a literal of a type. A NUMERIC keeps the digits that are written.
pub(in crate::engine) fn literal(written: &str, data_type: &DataType) -> Result<Expr, QueryError> {
    let (value, data_type) = match data_type {
        DataType::Varchar(_) => (Value::Text(written.to_owned()), DataType::Text),
        DataType::Numeric(_) => numeric(written)?,
        DataType::Vector(_) => (text::parse(data_type, written)?, data_type.clone()),
        other => (text::parse(other, written)?, other.clone()),
    };
    typed(&value, &data_type)
}

fn numeric(written: &str) -> Result<(Value, DataType), QueryError> {
    let trimmed = written.trim();
    let plain = !trimmed.contains(['e', 'E']);
    let scale = match trimmed.split_once('.') {
        Some((_, digits)) if plain => digits.len().min(37),
        None if plain => 0,
        _ => 10,
    };
    let shape = Some((38, scale as i8));
    let value = text::parse(&DataType::Numeric(shape), written)?;
    Ok((value, DataType::Numeric(shape)))
}

/// A value as a literal that remembers its SQL type.
fn typed(value: &Value, data_type: &DataType) -> Result<Expr, QueryError> {
    let scalar = scalar(value, data_type)?;
    let field = data_type.to_result_field("", true);
    let metadata = (!field.metadata().is_empty())
        .then(|| datafusion::common::metadata::FieldMetadata::from(&field));
    Ok(Expr::Literal(scalar, metadata))
}
