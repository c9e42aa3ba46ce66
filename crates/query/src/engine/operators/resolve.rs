//! Which operator two types have.

use chronos_model::{DataType, SqlState};
use datafusion::common::{ExprSchema, ScalarValue};
use datafusion::logical_expr::{binary_expr, cast, lit, BinaryExpr, Expr, Operator};

use super::{arrays, json, kernels, literal, times, undefined, Operand};
use crate::engine::casts;
use crate::QueryError;

/// An operator: one of the engine's, or one that it has not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::engine) enum Op {
    Sql(Operator),
    /// `a ^ b`
    Power,
    /// `a && b`
    Overlap,
    /// `- b`
    Negate,
}

impl Op {
    fn symbol(self) -> String {
        match self {
            Op::Sql(Operator::NotEq) => "<>".to_owned(),
            Op::Sql(Operator::IsDistinctFrom | Operator::IsNotDistinctFrom) => "=".to_owned(),
            Op::Sql(Operator::LikeMatch) => "~~".to_owned(),
            Op::Sql(Operator::NotLikeMatch) => "!~~".to_owned(),
            Op::Sql(Operator::BitwiseXor) => "#".to_owned(),
            Op::Sql(op) => op.to_string(),
            Op::Power => "^".to_owned(),
            Op::Overlap => "&&".to_owned(),
            Op::Negate => "-".to_owned(),
        }
    }
}

/// The operator that an expression applies, resolved again: parameters have types now.
pub(in crate::engine) fn resolve_binary(
    expr: &BinaryExpr,
    schema: &dyn ExprSchema,
) -> Result<Option<Expr>, QueryError> {
    resolve(Op::Sql(expr.op), &expr.left, &expr.right, schema)
}

/// What `left op right` is. `None`: what the engine makes of it is right, or the types are
/// not known yet.
pub(in crate::engine) fn resolve(
    op: Op,
    left: &Expr,
    right: &Expr,
    schema: &dyn ExprSchema,
) -> Result<Option<Expr>, QueryError> {
    let (l, r) = (Operand::of(left, schema), Operand::of(right, schema));
    if op == Op::Negate {
        return negate(right, &r);
    }
    if matches!(op, Op::Sql(Operator::And | Operator::Or)) {
        return logical(op, (left, &l), (right, &r));
    }
    let (left, right, l, r) = match (&l, &r) {
        (Operand::Of(known), Operand::Open) if matches!(right, Expr::Placeholder(_)) => {
            let Some(wanted) = json_operand(op, known) else {
                return Ok(None);
            };
            let right = json::parameter_as(right, &wanted);
            (left.clone(), right, known.clone(), wanted)
        }
        (Operand::Open, _) | (_, Operand::Open) => return Ok(None),
        (Operand::Of(l), Operand::Of(r)) => (left.clone(), right.clone(), l.clone(), r.clone()),
        (Operand::Of(known), _) => {
            let (right, r) = meet(op, right, &r, known, Side::Right)?;
            (left.clone(), right, known.clone(), r)
        }
        (_, Operand::Of(known)) => {
            let (left, l) = meet(op, left, &l, known, Side::Left)?;
            (left, right.clone(), l, known.clone())
        }
        _ => return both_unknown(op, (left, &l), (right, &r)),
    };
    typed(op, left, &l, right, &r).map(Some)
}

/// The type of what stands on the right of a JSON value, when it has none of its own.
fn json_operand(op: Op, left: &DataType) -> Option<DataType> {
    match op {
        Op::Sql(operator) => json::right_type(operator, left),
        _ => None,
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Left,
    Right,
}

/// An operand of unknown type beside one of a known type.
fn meet(
    op: Op,
    expr: &Expr,
    operand: &Operand,
    known: &DataType,
    side: Side,
) -> Result<(Expr, DataType), QueryError> {
    use DataType as T;
    let of_json = json_operand(op, known).filter(|_| side == Side::Right);
    let wanted = match (op, known) {
        _ if of_json.is_some() => of_json.unwrap_or(T::Text),
        (Op::Sql(Operator::Question | Operator::QuestionAnd | Operator::QuestionPipe), _)
        | (Op::Sql(Operator::HashMinus), _)
            if side == Side::Left =>
        {
            T::Jsonb
        }
        (Op::Sql(operator), _) if json::is_json_only(operator) && side == Side::Left => {
            let known = Operand::Of(known.clone()).name();
            return Err(ambiguous("unknown", &op.symbol(), &known));
        }
        (Op::Sql(Operator::Minus), T::Json) => T::Text,
        (Op::Sql(operator), _) if json::is_json_only(operator) => T::Text,
        (Op::Sql(Operator::StringConcat), T::Array(_) | T::Bytea | T::Jsonb) => known.clone(),
        (Op::Sql(Operator::StringConcat), _) => T::Text,
        (
            Op::Sql(
                Operator::RegexMatch
                | Operator::RegexIMatch
                | Operator::RegexNotMatch
                | Operator::RegexNotIMatch
                | Operator::LikeMatch
                | Operator::ILikeMatch
                | Operator::NotLikeMatch
                | Operator::NotILikeMatch,
            ),
            _,
        ) => T::Text,
        (Op::Sql(Operator::Plus), T::Date) if matches!(operand, Operand::Unknown(_)) => {
            let (l, r) = match side {
                Side::Left => ("unknown", "date"),
                Side::Right => ("date", "unknown"),
            };
            return Err(ambiguous(l, "+", r));
        }
        (Op::Sql(Operator::Plus), T::Timestamp | T::TimestampTz | T::Time) => T::Interval,
        (Op::Sql(Operator::Minus), T::Time) if side == Side::Right => T::Interval,
        (Op::Sql(Operator::Multiply | Operator::Divide), T::Interval) => T::Float8,
        (Op::Power, _) => T::Float8,
        _ => known.clone(),
    };
    let expr = match operand {
        Operand::Unknown(written) => literal(written, &wanted)?,
        _ => cast_null(expr, &wanted),
    };
    let is_numeric = matches!(wanted, T::Numeric(_));
    let met = if is_numeric {
        written_shape(&expr).unwrap_or(wanted)
    } else {
        wanted
    };
    Ok((expr, met))
}

fn written_shape(expr: &Expr) -> Option<DataType> {
    match expr {
        Expr::Literal(ScalarValue::Decimal128(_, p, s), _) => {
            Some(DataType::Numeric(Some((*p, *s))))
        }
        _ => None,
    }
}

fn cast_null(expr: &Expr, to: &DataType) -> Expr {
    cast(expr.clone(), to.to_arrow())
}

fn ambiguous(left: &str, op: &str, right: &str) -> QueryError {
    QueryError::new(
        SqlState("42725"),
        format!("operator is not unique: {left} {op} {right}"),
    )
    .with_hint(
        "Could not choose a best candidate operator. You might need to add explicit type casts.",
    )
}

fn both_unknown(
    op: Op,
    (left, l): (&Expr, &Operand),
    (right, r): (&Expr, &Operand),
) -> Result<Option<Expr>, QueryError> {
    let is_arithmetic = matches!(
        op,
        Op::Sql(
            Operator::Plus
                | Operator::Minus
                | Operator::Multiply
                | Operator::Divide
                | Operator::Modulo
                | Operator::BitwiseAnd
                | Operator::BitwiseOr
                | Operator::BitwiseXor
                | Operator::AtArrow
                | Operator::ArrowAt
                | Operator::Arrow
                | Operator::LongArrow
                | Operator::HashArrow
                | Operator::HashLongArrow
        ) | Op::Overlap
    );
    if is_arithmetic && (l, r) != (&Operand::Null, &Operand::Null) {
        return Err(ambiguous("unknown", &op.symbol(), "unknown"));
    }
    if let (Op::Sql(operator), Some(wanted)) = (op, json_operand(op, &DataType::Jsonb)) {
        if json::is_json_only(operator) {
            let as_type = |expr: &Expr, operand: &Operand, to: &DataType| match operand {
                Operand::Unknown(written) => literal(written, to),
                _ => Ok(json::parameter_as(expr, to)),
            };
            let left = as_type(left, l, &DataType::Jsonb)?;
            let right = as_type(right, r, &wanted)?;
            return Ok(json::apply(
                operator,
                left,
                &DataType::Jsonb,
                right,
                &wanted,
            ));
        }
    }
    if op == Op::Power {
        let as_float = |expr: &Expr, operand: &Operand| match operand {
            Operand::Unknown(written) => literal(written, &DataType::Float8),
            _ => Ok(cast_null(expr, &DataType::Float8)),
        };
        return Ok(Some(kernels::power(
            as_float(left, l)?,
            as_float(right, r)?,
        )));
    }
    Ok(None)
}

/// `- x`
fn negate(expr: &Expr, operand: &Operand) -> Result<Option<Expr>, QueryError> {
    match operand {
        Operand::Unknown(_) => Err(QueryError::new(
            SqlState("42725"),
            "operator is not unique: - unknown",
        )),
        Operand::Of(t) if t.is_integer() => {
            // Zero has the operand's width, so that the difference is checked in it.
            let zero = literal("0", t)?;
            Ok(Some(binary_expr(zero, Operator::Minus, expr.clone())))
        }
        Operand::Of(t) if t.is_number() || *t == DataType::Interval => Ok(None),
        Operand::Of(_) => Err(QueryError::new(
            SqlState::UNDEFINED_FUNCTION,
            format!("operator does not exist: - {}", operand.name()),
        )),
        Operand::Null | Operand::Open => Ok(None),
    }
}

/// AND, OR
fn logical(
    op: Op,
    (left, l): (&Expr, &Operand),
    (right, r): (&Expr, &Operand),
) -> Result<Option<Expr>, QueryError> {
    let word = op.symbol();
    let (new_left, new_right) = (boolean(l, &word)?, boolean(r, &word)?);
    if new_left.is_none() && new_right.is_none() {
        return Ok(None);
    }
    let Op::Sql(operator) = op else {
        return Ok(None);
    };
    Ok(Some(binary_expr(
        new_left.unwrap_or_else(|| left.clone()),
        operator,
        new_right.unwrap_or_else(|| right.clone()),
    )))
}

/// An argument that must be a condition; `None`: it is, as it stands.
pub(in crate::engine) fn boolean(
    operand: &Operand,
    whose: &str,
) -> Result<Option<Expr>, QueryError> {
    match operand {
        Operand::Of(DataType::Bool) | Operand::Null | Operand::Open => Ok(None),
        Operand::Unknown(written) => Ok(Some(literal(written, &DataType::Bool)?)),
        Operand::Of(_) => Err(QueryError::new(
            SqlState::DATATYPE_MISMATCH,
            format!(
                "argument of {whose} must be type boolean, not type {}",
                operand.name()
            ),
        )),
    }
}

/// Both operands have types.
fn typed(op: Op, left: Expr, l: &DataType, right: Expr, r: &DataType) -> Result<Expr, QueryError> {
    let missing = || {
        let name = |t: &DataType| Operand::Of(t.clone()).name();
        undefined(&name(l), &op.symbol(), &name(r))
    };
    let operator = match op {
        Op::Power if l.is_number() && r.is_number() => {
            return Ok(kernels::power(as_float(left, l), as_float(right, r)))
        }
        Op::Overlap => return arrays::overlap(left, l, right, r).ok_or_else(missing),
        Op::Sql(operator) => operator,
        Op::Power | Op::Negate => return Err(missing()),
    };
    if json::right_type(operator, l).is_some() || json::is_json_only(operator) {
        if let Some(expr) = json::apply(operator, left.clone(), l, right.clone(), r) {
            return Ok(expr);
        }
        // `jsonb || text` is the concatenation of texts.
        if operator != Operator::StringConcat {
            return Err(missing());
        }
    }
    match operator {
        Operator::Plus
        | Operator::Minus
        | Operator::Multiply
        | Operator::Divide
        | Operator::Modulo => {
            if l.is_number() && r.is_number() {
                return arithmetic(operator, left, l, right, r).ok_or_else(missing);
            }
            if let Some(expr) = vectors(operator, &left, l, &right, r) {
                return Ok(expr);
            }
            times::arithmetic(operator, left, l, right, r).ok_or_else(missing)
        }
        Operator::Eq
        | Operator::NotEq
        | Operator::Lt
        | Operator::LtEq
        | Operator::Gt
        | Operator::GtEq
        | Operator::IsDistinctFrom
        | Operator::IsNotDistinctFrom => {
            let (left, right) = comparable(left, l, right, r).ok_or_else(missing)?;
            Ok(binary_expr(left, operator, right))
        }
        Operator::StringConcat => concatenation(left, l, right, r)?.ok_or_else(missing),
        Operator::BitwiseAnd | Operator::BitwiseOr | Operator::BitwiseXor => {
            if !(l.is_integer() && r.is_integer()) {
                return Err(missing());
            }
            Ok(binary_expr(left, operator, right))
        }
        Operator::BitwiseShiftLeft | Operator::BitwiseShiftRight => {
            if !(l.is_integer() && r.is_integer()) {
                return Err(missing());
            }
            let right = if l == r {
                right
            } else {
                cast(right, l.to_arrow())
            };
            Ok(binary_expr(left, operator, right))
        }
        Operator::AtArrow | Operator::ArrowAt => {
            let (whole, w, part, p) = match operator {
                Operator::AtArrow => (left, l, right, r),
                _ => (right, r, left, l),
            };
            arrays::contains(whole, w, part, p).ok_or_else(missing)
        }
        _ => {
            if !(l.is_text() && r.is_text()) {
                return Err(missing());
            }
            Ok(binary_expr(left, operator, right))
        }
    }
}

/// Arithmetic between numbers; `None`: there is no such operator.
fn arithmetic(op: Operator, left: Expr, l: &DataType, right: Expr, r: &DataType) -> Option<Expr> {
    use DataType as T;
    if l.is_float() || r.is_float() {
        if op == Operator::Modulo {
            return None;
        }
        let (left, right) = match (l, r) {
            (T::Float4, T::Float4) => (left, right),
            _ => (as_float(left, l), as_float(right, r)),
        };
        // The kernel that checks the range takes its place once types are coerced.
        return Some(binary_expr(left, op, right));
    }
    let is_decimal = matches!(l, T::Numeric(_)) || matches!(r, T::Numeric(_));
    if op == Operator::Divide && is_decimal {
        return Some(kernels::divide(as_decimal(left, l), as_decimal(right, r)));
    }
    if is_decimal {
        return Some(binary_expr(as_decimal(left, l), op, as_decimal(right, r)));
    }
    // The engine widens the narrower side.
    Some(binary_expr(left, op, right))
}

/// An expression as DOUBLE PRECISION; a constant is converted here and now.
fn as_float(expr: Expr, data_type: &DataType) -> Expr {
    if let Expr::Literal(value, _) = &expr {
        let converted = match value {
            ScalarValue::Decimal128(Some(v), _, s) => Some(casts::decimal_to_float(*v, *s)),
            ScalarValue::Int64(Some(v)) => Some(*v as f64),
            _ => None,
        };
        if let Some(converted) = converted {
            return lit(converted);
        }
    }
    match data_type {
        DataType::Float8 => expr,
        DataType::Numeric(_) => casts::call(expr, DataType::Float8),
        _ => cast(expr, DataType::Float8.to_arrow()),
    }
}

fn as_decimal(expr: Expr, data_type: &DataType) -> Expr {
    let digits = match data_type {
        DataType::Int2 => 5,
        DataType::Int4 => 10,
        DataType::Int8 => 19,
        _ => return expr,
    };
    if let Expr::Literal(ScalarValue::Int64(Some(v)), _) = &expr {
        let digits = v.unsigned_abs().to_string().len() as u8;
        return lit(ScalarValue::Decimal128(Some(i128::from(*v)), digits, 0));
    }
    cast(expr, arrow_schema::DataType::Decimal128(digits, 0))
}

/// Vectors and values of the engine's own are left to it.
fn vectors(op: Operator, left: &Expr, l: &DataType, right: &Expr, r: &DataType) -> Option<Expr> {
    matches!((l, r), (DataType::Vector(_), DataType::Vector(_)))
        .then(|| binary_expr(left.clone(), op, right.clone()))
}

/// Two operands of a comparison, brought to one type; `None`: they do not compare.
pub(super) fn comparable(
    left: Expr,
    l: &DataType,
    right: Expr,
    r: &DataType,
) -> Option<(Expr, Expr)> {
    use DataType as T;
    match (l, r) {
        (T::Json, _) | (_, T::Json) => None,
        (T::Jsonb, T::Jsonb) => Some((json::jsonb_key(left), json::jsonb_key(right))),
        (T::Interval, T::Interval) => {
            Some((kernels::interval_key(left), kernels::interval_key(right)))
        }
        (l, r) if l.is_number() && r.is_number() => {
            let by_float = (l.is_float() || r.is_float())
                && !matches!((l, r), (T::Float4, T::Float4) | (T::Float8, T::Float8));
            if by_float {
                return Some((as_float(left, l), as_float(right, r)));
            }
            Some((left, right))
        }
        (l, r) if l.is_text() && r.is_text() => Some((left, right)),
        (T::Date | T::Timestamp | T::TimestampTz, T::Date | T::Timestamp | T::TimestampTz) => {
            Some((left, right))
        }
        (T::Array(_), T::Array(_)) => arrays::comparable(left, l, right, r),
        (T::Vector(_), T::Vector(_)) => Some((left, right)),
        (l, r) if l == r => Some((left, right)),
        _ => None,
    }
}

/// `||`
fn concatenation(
    left: Expr,
    l: &DataType,
    right: Expr,
    r: &DataType,
) -> Result<Option<Expr>, QueryError> {
    use DataType as T;
    if matches!((l, r), (T::Array(_), _) | (_, T::Array(_))) {
        return Ok(arrays::concatenation(left, l, right, r));
    }
    if (l, r) == (&T::Bytea, &T::Bytea) {
        return Ok(Some(binary_expr(left, Operator::StringConcat, right)));
    }
    if !l.is_text() && !r.is_text() {
        return Ok(None);
    }
    Ok(Some(binary_expr(
        as_text(left, l),
        Operator::StringConcat,
        as_text(right, r),
    )))
}

fn as_text(expr: Expr, data_type: &DataType) -> Expr {
    match data_type {
        DataType::Text | DataType::Varchar(_) => expr,
        _ => casts::call(expr, DataType::Text),
    }
}
