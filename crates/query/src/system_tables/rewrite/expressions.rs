//! Expressions made by hand.

use datafusion::sql::sqlparser::ast::{self, Expr, ObjectName};

pub(super) fn take(expr: &mut Box<Expr>) -> Expr {
    std::mem::replace(&mut **expr, null())
}

pub(super) fn null() -> Expr {
    Expr::Value(ast::Value::Null.into())
}

pub(super) fn number(value: i64) -> Expr {
    Expr::Value(ast::Value::Number(value.to_string(), false).into())
}

pub(super) fn call(name: &str, args: Vec<Expr>) -> Expr {
    let args = args
        .into_iter()
        .map(|e| ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(e)))
        .collect();
    Expr::Function(function_of(
        name,
        ast::FunctionArgumentList {
            duplicate_treatment: None,
            args,
            clauses: vec![],
        },
    ))
}

pub(super) fn function_of(name: &str, args: ast::FunctionArgumentList) -> ast::Function {
    ast::Function {
        name: ObjectName::from(vec![ast::Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: ast::FunctionArguments::None,
        args: ast::FunctionArguments::List(args),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    }
}
