//! How deep a statement's expressions may nest, and long chains of AND and OR made flat.
//!
//! The parser reads `a OR b OR c ..` in a loop and gives a tree as deep as the chain is long.
//! Everything behind it walks trees by recursion, so a chain of thousands would run off the end
//! of the stack and take the node with it. AND and OR are associative, with NULLs too: their
//! chains become balanced trees. Whatever else nests too deep is refused.
//!
//! The engine's optimizer joins conditions to chains again, so planning a statement happens on a
//! stack that fits its conditions ([`Stack`]).
//!
//! What is refused was parsed before, and letting go of it is a recursion, too. So all of this
//! happens on a stack that is as large as the text may make it necessary.

use std::future::Future;
use std::ops::ControlFlow;
use std::pin::pin;

use chronos_model::SqlState;
use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, Expr, Visit, VisitMut, Visitor, VisitorMut,
};

use crate::QueryError;

/// How many expressions, or set operations, may stand in each other.
const DEPTH_MAX: usize = 256;
/// Tokens that may follow each other without a comma.
const UNBROKEN_TOKENS_MAX: usize = 200_000;
/// Stack for one level of a tree of the parser.
const LEVEL_BYTES: usize = 2 << 10;
/// Stack for one condition of a chain while it is planned. The engine's guarded recursions take
/// more of it than they need once it runs out, and leave too little to the unguarded ones.
const CONDITION_BYTES: usize = if cfg!(debug_assertions) {
    64 << 10
} else {
    8 << 10
};
/// Conditions of a statement.
const CONDITIONS_MAX: usize = 10_000;
/// So many conditions fit on any stack.
const CONDITIONS_MIN: usize = 100;
/// Stack for everything else.
const BASE_BYTES: usize = 256 << 10;

/// Runs `work`, which parses a text, on a stack that no tree made of it overflows (54001 if that
/// would be too large a stack).
pub(crate) fn with_stack<T>(
    sql: &str,
    work: impl FnOnce() -> Result<T, QueryError>,
) -> Result<T, QueryError> {
    let (mut unbroken, mut most) = (0, 0);
    for token in crate::lex::tokens(sql) {
        unbroken = if token.text(sql) == "," {
            0
        } else {
            unbroken + 1
        };
        most = most.max(unbroken);
    }
    if most > UNBROKEN_TOKENS_MAX {
        return Err(too_deep());
    }
    let bytes = BASE_BYTES + most * LEVEL_BYTES;
    stacker::maybe_grow(bytes, bytes, work)
}

/// The stack that planning a statement needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stack {
    /// 0: what there is suffices.
    bytes: usize,
}

impl Stack {
    /// For a statement's conditions.
    pub(crate) fn of(statement: &ast::Statement) -> Stack {
        let bytes = match conditions(statement) {
            0..=CONDITIONS_MIN => 0,
            many => BASE_BYTES + many * CONDITION_BYTES,
        };
        Stack { bytes }
    }

    /// Runs `work` on it.
    pub(crate) fn run<T>(self, work: impl FnOnce() -> T) -> T {
        match self.bytes {
            0 => work(),
            bytes => stacker::maybe_grow(bytes, bytes, work),
        }
    }

    /// Runs a future on it, each time it is polled.
    pub(crate) async fn run_async<F: Future>(self, work: F) -> F::Output {
        let mut work = pin!(work);
        std::future::poll_fn(|context| self.run(|| work.as_mut().poll(context))).await
    }
}

/// How many connectives a statement has.
fn conditions(statement: &ast::Statement) -> usize {
    let mut conditions = Conditions(0);
    let _ = Visit::visit(statement, &mut conditions);
    conditions.0
}

struct Conditions(usize);

impl Visitor for Conditions {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::BinaryOp { op, .. } = expr {
            self.0 += usize::from(matches!(op, BinaryOperator::And | BinaryOperator::Or));
        }
        ControlFlow::Continue(())
    }
}

/// Balances the statement's connectives and checks its depth (54001).
pub(crate) fn bound(statement: &mut ast::Statement) -> Result<(), QueryError> {
    match statement.visit(&mut Bound { depth: 0 }) {
        ControlFlow::Continue(()) if conditions(statement) <= CONDITIONS_MAX => Ok(()),
        _ => Err(too_deep()),
    }
}

fn too_deep() -> QueryError {
    QueryError::new(
        SqlState::TOO_COMPLEX,
        "stack depth limit exceeded: the statement nests too deep",
    )
    .with_hint(format!(
        "Expressions and set operations may nest {DEPTH_MAX} deep. AND and OR may stand {CONDITIONS_MAX} times, lists may be longer."
    ))
}

struct Bound {
    /// Expressions around the one being visited.
    depth: usize,
}

impl VisitorMut for Bound {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<()> {
        let (mut depth, mut set) = (0, query.body.as_ref());
        while let ast::SetExpr::SetOperation { left, .. } = set {
            (depth, set) = (depth + 1, left.as_ref());
        }
        check(depth)
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::BinaryOp { op, .. } = expr {
            if matches!(op, BinaryOperator::And | BinaryOperator::Or) {
                let op = op.clone();
                let operands = operands(std::mem::replace(expr, placeholder()), &op);
                *expr = balanced(operands, &op);
            }
        }
        self.depth += 1;
        check(self.depth)
    }

    fn post_visit_expr(&mut self, _: &mut Expr) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}

fn check(depth: usize) -> ControlFlow<()> {
    match depth > DEPTH_MAX {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    }
}

fn placeholder() -> Expr {
    Expr::Value(ast::Value::Null.into())
}

/// The operands of a chain that leans to the left, as the parser makes it.
fn operands(chain: Expr, op: &BinaryOperator) -> Vec<Expr> {
    let mut operands = Vec::new();
    let mut rest = chain;
    loop {
        match rest {
            Expr::BinaryOp {
                left,
                op: own,
                right,
            } if own == *op => {
                operands.push(*right);
                rest = *left;
            }
            first => {
                operands.push(first);
                operands.reverse();
                return operands;
            }
        }
    }
}

/// The operands in their order, as a tree of logarithmic depth.
fn balanced(mut operands: Vec<Expr>, op: &BinaryOperator) -> Expr {
    // A short chain stays as it was written.
    if operands.len() <= 16 {
        let chained = operands
            .into_iter()
            .reduce(|left, right| join(left, op, right));
        return chained.unwrap_or_else(placeholder);
    }
    let right = operands.split_off(operands.len() / 2);
    join(balanced(operands, op), op, balanced(right, op))
}

fn join(left: Expr, op: &BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp {
        left: Box::new(left),
        op: op.clone(),
        right: Box::new(right),
    }
}

#[cfg(test)]
mod tests {
    use crate::sql::parse;

    #[test]
    fn connectives_may_be_many_and_other_chains_may_not() {
        for (piece, joined, deep) in [
            ("a = 1", " OR ", false),
            ("a", " AND ", false),
            ("1", " + ", true),
            ("1", " UNION SELECT ", true),
            ("1", "::int8 - ", true),
            ("ARRAY[1]", " IS NULL = ", true),
        ] {
            let chain = vec![piece; 9_000].join(joined);
            let result = parse(&format!("SELECT {chain}"));
            match deep {
                true => assert_eq!(result.expect_err("it is deep").code.0, "54001"),
                false => assert!(result.is_ok(), "{joined}"),
            }
        }
    }

    #[test]
    fn the_order_of_operands_stays() {
        let chain: Vec<String> = (0..40).map(|i| format!("a = {i}")).collect();
        let Ok(crate::sql::Command::Query(statement)) =
            parse(&format!("SELECT {}", chain.join(" OR ")))
        else {
            panic!("it parses");
        };
        let found: Vec<String> = statement
            .to_string()
            .split(" OR ")
            .map(|s| s.replace("SELECT ", ""))
            .collect();
        assert_eq!(found, chain);
    }
}
