//! The type that expressions have in common, and that they are brought to.

use chronos_model::{DataType, SqlState};
use datafusion::common::ExprSchema;
use datafusion::logical_expr::{cast, Expr};

use crate::engine::operators::{literal, Operand};
use crate::QueryError;

/// Brings expressions to the type that they have in common; says whether one changed.
///
/// Errors: 42804, there is none.
pub(super) fn unify(
    exprs: &mut [&mut Expr],
    schema: &dyn ExprSchema,
    what: &str,
) -> Result<bool, QueryError> {
    let operands: Vec<Operand> = exprs.iter().map(|e| Operand::of(e, schema)).collect();
    let Some(common) = common_type(&operands, what)? else {
        return Ok(false);
    };
    let mut is_changed = false;
    for (expr, operand) in exprs.iter_mut().zip(&operands) {
        let converted = match operand {
            Operand::Unknown(written) => literal(written, &common)?,
            Operand::Of(t) if *t != common && t.to_arrow() != common.to_arrow() => {
                cast(expr.clone(), common.to_arrow())
            }
            _ => continue,
        };
        **expr = converted;
        is_changed = true;
    }
    Ok(is_changed)
}

/// The type that operands have in common; `None`: none of them has one.
pub(super) fn common_type(
    operands: &[Operand],
    what: &str,
) -> Result<Option<DataType>, QueryError> {
    let mut common: Option<DataType> = None;
    for operand in operands {
        let Operand::Of(data_type) = operand else {
            continue;
        };
        common = Some(match common {
            None => data_type.clone(),
            Some(so_far) => joined(&so_far, data_type).ok_or_else(|| {
                QueryError::new(
                    SqlState::DATATYPE_MISMATCH,
                    format!(
                        "{what} types {} and {} cannot be matched",
                        Operand::Of(so_far.clone()).name(),
                        operand.name()
                    ),
                )
            })?,
        });
    }
    Ok(common)
}

/// The type that values of both types convert to by themselves.
fn joined(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType as T;
    if a == b {
        return Some(a.clone());
    }
    let rank = |t: &DataType| match t {
        T::Int2 => 1,
        T::Int4 => 2,
        T::Int8 => 3,
        T::Numeric(_) => 4,
        T::Float4 => 5,
        T::Float8 => 6,
        T::Date => 11,
        T::Timestamp => 12,
        T::TimestampTz => 13,
        _ => 0,
    };
    match (a, b) {
        (a, b) if a.is_text() && b.is_text() => Some(T::Text),
        (T::Array(x), T::Array(y)) => Some(T::Array(Box::new(joined(x, y)?))),
        (T::Vector(_), T::Array(_)) | (T::Array(_), T::Vector(_)) => None,
        (a, b) if a.is_number() && b.is_number() => {
            if a.is_float() || b.is_float() || rank(a).max(rank(b)) < 4 {
                return Some(if rank(a) > rank(b) { a } else { b }.clone());
            }
            Some(T::Numeric(Some(widest(shape(a), shape(b)))))
        }
        (a, b) if rank(a) > 10 && rank(b) > 10 => {
            Some(if rank(a) > rank(b) { a } else { b }.clone())
        }
        _ => None,
    }
}

/// Precision and scale of a NUMERIC, or of an integer as one.
fn shape(data_type: &DataType) -> (u8, i8) {
    match data_type {
        DataType::Int2 => (5, 0),
        DataType::Int4 => (10, 0),
        DataType::Int8 => (19, 0),
        DataType::Numeric(p) => DataType::numeric_shape(*p),
        _ => (38, 0),
    }
}

fn widest(a: (u8, i8), b: (u8, i8)) -> (u8, i8) {
    let scale = a.1.max(b.1);
    let before = |(p, s): (u8, i8)| i16::from(p) - i16::from(s);
    let precision = (before(a).max(before(b)) + i16::from(scale)).clamp(1, 38);
    (precision as u8, scale)
}
