//! Columns of `int2vector` and `oidvector`: PostgreSQL counts their items from 0, and those of
//! every other array from 1.
//!
//! ```text
//! indkey[0]                        indkey[0 + 1]
//! generate_subscripts(indkey, 1)   unnest(__subscripts_from_zero(indkey, 1))
//! array_lower(indkey, 1), ..       array_lower(indkey, 1) - 1
//! ```
//!
//! They are known by the names that they have in the catalog, and one that JDBC gives.

use datafusion::sql::sqlparser::ast::{self, BinaryOperator, Expr};

use super::expressions::number;
use crate::sql::fold;

const COLUMNS: [&str; 9] = [
    "indkey",
    "indcollation",
    "indclass",
    "indoption",
    "i_indoption",
    "partattrs",
    "prattrs",
    "proargtypes",
    "tgattr",
];

/// Whether an expression is such a column, or one as an array, which keeps its bounds.
pub(super) fn is_vector(expr: &Expr) -> bool {
    let is_named = |ident: &ast::Ident| COLUMNS.contains(&fold(ident).as_str());
    match expr {
        Expr::Identifier(ident) => is_named(ident),
        Expr::CompoundIdentifier(parts) => parts.last().is_some_and(is_named),
        Expr::Nested(inner) => is_vector(inner),
        Expr::Cast { expr, .. } => is_vector(expr),
        _ => false,
    }
}

/// A subscript, or a bound, as one of an array; `None`: it is none of a vector.
pub(super) fn counted(expr: &Expr) -> Option<Expr> {
    match expr {
        Expr::CompoundFieldAccess { root, access_chain } => {
            let (parts, chain) = of_chain(root, access_chain)?;
            let [ast::AccessExpr::Subscript(ast::Subscript::Index { index })] = chain else {
                return None;
            };
            let one_more = moved(index.clone(), BinaryOperator::Plus);
            Some(Expr::CompoundFieldAccess {
                root: parts,
                access_chain: vec![ast::AccessExpr::Subscript(ast::Subscript::Index {
                    index: one_more,
                })],
            })
        }
        Expr::Function(function) => {
            let name = function.name.to_string().to_ascii_lowercase();
            let is_bound = matches!(name.as_str(), "array_lower" | "array_upper");
            let ast::FunctionArguments::List(list) = &function.args else {
                return None;
            };
            match list.args.first() {
                Some(ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(array)))
                    if is_bound && is_vector(array) =>
                {
                    Some(moved(expr.clone(), BinaryOperator::Minus))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// A vector, of which the rest of a chain is asked: `i.indkey[0]` may be read as `i`, `.indkey`, `[0]`.
fn of_chain<'a>(
    root: &Expr,
    chain: &'a [ast::AccessExpr],
) -> Option<(Box<Expr>, &'a [ast::AccessExpr])> {
    if is_vector(root) {
        return Some((Box::new(root.clone()), chain));
    }
    let (Expr::Identifier(first), [ast::AccessExpr::Dot(Expr::Identifier(second)), rest @ ..]) =
        (root, chain)
    else {
        return None;
    };
    let column = Expr::CompoundIdentifier(vec![first.clone(), second.clone()]);
    is_vector(&column).then(|| (Box::new(column), rest))
}

fn moved(expr: Expr, op: BinaryOperator) -> Expr {
    Expr::Nested(Box::new(Expr::BinaryOp {
        left: Box::new(expr),
        op,
        right: Box::new(number(1)),
    }))
}
