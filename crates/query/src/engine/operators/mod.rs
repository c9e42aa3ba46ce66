//! Operators as PostgreSQL resolves them: by the types of their operands, with what an
//! untyped constant means taken from the other side.
//!
//! ```text
//!   SQL planner ── plan_binary_op ──▶ resolve ──▶ an expression of the engine's, or a
//!   analyzer, once parameters        │            call of ours (kernels.rs, times.rs)
//!   have types ──────────────────────┘       └──▶ 42883, 42804, 22P02 ..
//! ```
//!
//! The engine would coerce almost anything to almost anything (`text = int` by a cast of
//! the text); here what PostgreSQL has no operator for is an error.
//!
//! A constant text without a cast is of unknown type: it is read as a literal of the other
//! operand's type. The engine plans it as `Utf8`, and every text that has a type as
//! `Utf8View`, which tells the two apart.

mod arrays;
mod json;
mod kernels;
mod operand;
mod resolve;
mod times;

use chronos_model::SqlState;
use datafusion::common::DFSchema;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::planner::{
    ExprPlanner, PlannerResult, RawBinaryExpr, RawFieldAccessExpr,
};
use datafusion::logical_expr::{Expr, GetFieldAccess, Operator};
use datafusion::sql::sqlparser::ast::BinaryOperator as Sql;

pub(super) use json::jsonb_key;
pub(super) use kernels::{float, interval_key};
pub(super) use operand::{literal, Operand};
pub(super) use resolve::{boolean, resolve, resolve_binary, Op};

use crate::{functions, QueryError};

/// Stands for `-x`, with NULL as left side, in rewritten syntax trees.
pub(super) const NEGATE: &str = "__negate";
/// Stands for `a IS DISTINCT FROM b`.
pub(super) const DISTINCT: &str = "__distinct";
/// Stands for `a IS NOT DISTINCT FROM b`.
pub(super) const NOT_DISTINCT: &str = "__not_distinct";

/// Resolves operators while a statement is planned.
#[derive(Debug)]
pub(super) struct Operators;

impl ExprPlanner for Operators {
    fn plan_binary_op(
        &self,
        raw: RawBinaryExpr,
        schema: &DFSchema,
    ) -> DfResult<PlannerResult<RawBinaryExpr>> {
        let Some(op) = operator(&raw.op) else {
            return Ok(PlannerResult::Original(raw));
        };
        let left = super::typing::settle(raw.left, schema)?;
        let right = super::typing::settle(raw.right, schema)?;
        if let Some(planned) = resolve(op, &left, &right, schema)? {
            return Ok(PlannerResult::Planned(planned));
        }
        let planned = match op {
            Op::Negate => Expr::Negative(Box::new(right)),
            Op::Sql(op @ (Operator::IsDistinctFrom | Operator::IsNotDistinctFrom)) => {
                datafusion::logical_expr::binary_expr(left, op, right)
            }
            _ => {
                let op = raw.op;
                return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
            }
        };
        Ok(PlannerResult::Planned(planned))
    }

    /// Subscripts of arrays, where the engine's count from the end when they are negative, and of
    /// JSONB.
    fn plan_field_access(
        &self,
        raw: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> DfResult<PlannerResult<RawFieldAccessExpr>> {
        let operand = Operand::of(&raw.expr, schema);
        if let Operand::Of(chronos_model::DataType::Jsonb) = operand {
            return match json::subscript(&raw) {
                Some(planned) => Ok(PlannerResult::Planned(planned)),
                None => Err(QueryError::unsupported("slices of jsonb").into()),
            };
        }
        let is_array = matches!(operand, Operand::Of(chronos_model::DataType::Array(_)));
        if !is_array {
            return Ok(PlannerResult::Original(raw));
        }
        let array = raw.expr;
        let planned = match raw.field_access {
            GetFieldAccess::ListIndex { key } => functions::pure("__subscript", vec![array, *key]),
            GetFieldAccess::ListRange {
                start,
                stop,
                stride: _,
            } => functions::pure("__slice", vec![array, *start, *stop]),
            field_access => {
                return Ok(PlannerResult::Original(RawFieldAccessExpr {
                    field_access,
                    expr: array,
                }))
            }
        };
        match planned {
            Some(planned) => Ok(PlannerResult::Planned(planned)),
            None => Err(QueryError::unsupported("subscripts of arrays").into()),
        }
    }
}

fn operator(sql: &Sql) -> Option<Op> {
    let op = match sql {
        Sql::Eq => Operator::Eq,
        Sql::NotEq => Operator::NotEq,
        Sql::Lt => Operator::Lt,
        Sql::LtEq => Operator::LtEq,
        Sql::Gt => Operator::Gt,
        Sql::GtEq => Operator::GtEq,
        Sql::Plus => Operator::Plus,
        Sql::Minus => Operator::Minus,
        Sql::Multiply => Operator::Multiply,
        Sql::Divide => Operator::Divide,
        Sql::Modulo => Operator::Modulo,
        Sql::And => Operator::And,
        Sql::Or => Operator::Or,
        Sql::PGRegexMatch => Operator::RegexMatch,
        Sql::PGRegexIMatch => Operator::RegexIMatch,
        Sql::PGRegexNotMatch => Operator::RegexNotMatch,
        Sql::PGRegexNotIMatch => Operator::RegexNotIMatch,
        Sql::PGLikeMatch => Operator::LikeMatch,
        Sql::PGILikeMatch => Operator::ILikeMatch,
        Sql::PGNotLikeMatch => Operator::NotLikeMatch,
        Sql::PGNotILikeMatch => Operator::NotILikeMatch,
        Sql::BitwiseAnd => Operator::BitwiseAnd,
        Sql::BitwiseOr => Operator::BitwiseOr,
        Sql::PGBitwiseXor | Sql::BitwiseXor => Operator::BitwiseXor,
        Sql::PGBitwiseShiftLeft => Operator::BitwiseShiftLeft,
        Sql::PGBitwiseShiftRight => Operator::BitwiseShiftRight,
        Sql::StringConcat => Operator::StringConcat,
        Sql::AtArrow => Operator::AtArrow,
        Sql::ArrowAt => Operator::ArrowAt,
        Sql::Arrow => Operator::Arrow,
        Sql::LongArrow => Operator::LongArrow,
        Sql::HashArrow => Operator::HashArrow,
        Sql::HashLongArrow => Operator::HashLongArrow,
        Sql::HashMinus => Operator::HashMinus,
        Sql::Question => Operator::Question,
        Sql::QuestionAnd => Operator::QuestionAnd,
        Sql::QuestionPipe => Operator::QuestionPipe,
        Sql::PGExp => return Some(Op::Power),
        Sql::PGOverlap => return Some(Op::Overlap),
        Sql::Custom(name) => match name.as_str() {
            NEGATE => return Some(Op::Negate),
            DISTINCT => Operator::IsDistinctFrom,
            NOT_DISTINCT => Operator::IsNotDistinctFrom,
            _ => return None,
        },
        _ => return None,
    };
    Some(Op::Sql(op))
}

/// 42883 for an operator that the types have not.
fn undefined(left: &str, op: &str, right: &str) -> QueryError {
    QueryError::new(
        SqlState::UNDEFINED_FUNCTION,
        format!("operator does not exist: {left} {op} {right}"),
    )
    .with_hint(
        "No operator matches the given name and argument types. You might need to add explicit type casts.",
    )
}
