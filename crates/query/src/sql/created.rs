//! CREATE TABLE .. AS, SELECT INTO and COMMENT ON as what is to be done.

use chronos_model::SqlState;
use datafusion::sql::sqlparser::ast;

use super::{fold, written_name, Command};
use crate::QueryError;

/// CREATE TABLE .. AS, SELECT INTO.
#[derive(Debug, Clone)]
pub struct CreateTableAs {
    /// Folded name.
    pub name: String,
    /// Whether the table may exist.
    pub if_not_exists: bool,
    /// Gives the rows.
    pub query: Box<ast::Statement>,
}

/// COMMENT ON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommentOn {
    /// `table`, `view`, `index`, `sequence` or `column`.
    pub kind: &'static str,
    /// The relation's folded name.
    pub relation: String,
    /// The column's.
    pub column: Option<String>,
    /// `None`: NULL, no comment.
    pub text: Option<String>,
}

pub(super) fn create_table_as(create: ast::CreateTable) -> Result<Command, QueryError> {
    if create.temporary {
        return Err(QueryError::unsupported("CREATE TEMPORARY TABLE"));
    }
    let has_options = !matches!(create.table_options, ast::CreateTableOptions::None);
    if !create.columns.is_empty() || !create.constraints.is_empty() || has_options {
        return Err(
            QueryError::unsupported("CREATE TABLE .. AS with columns or options")
                .with_hint("Create the table, then INSERT .. SELECT."),
        );
    }
    let Some(query) = create.query else {
        return Err(QueryError::new(SqlState::SYNTAX_ERROR, "expected a query"));
    };
    Ok(Command::CreateTableAs(CreateTableAs {
        name: written_name(&create.name)?,
        if_not_exists: create.if_not_exists,
        query: Box::new(ast::Statement::Query(query)),
    }))
}

pub(super) fn select_into(
    query: &ast::Query,
    into: &ast::SelectInto,
) -> Result<Command, QueryError> {
    if into.temporary {
        return Err(QueryError::unsupported("SELECT INTO TEMPORARY"));
    }
    let mut query = query.clone();
    if let ast::SetExpr::Select(select) = query.body.as_mut() {
        select.into = None;
    }
    Ok(Command::CreateTableAs(CreateTableAs {
        name: written_name(&into.name)?,
        if_not_exists: false,
        query: Box::new(ast::Statement::Query(Box::new(query))),
    }))
}

pub(super) fn comment_on(
    object: ast::CommentObject,
    name: &ast::ObjectName,
    text: Option<String>,
) -> Result<CommentOn, QueryError> {
    let kind = match object {
        ast::CommentObject::Table => "table",
        ast::CommentObject::View => "view",
        ast::CommentObject::Index => "index",
        ast::CommentObject::Sequence => "sequence",
        ast::CommentObject::Column => "column",
        other => return Err(QueryError::unsupported(format!("COMMENT ON {other}"))),
    };
    let mut name = name.clone();
    let column = match kind {
        "column" => name.0.pop().and_then(|p| p.as_ident().map(fold)),
        _ => None,
    };
    if kind == "column" && name.0.is_empty() {
        return Err(QueryError::new(
            SqlState::SYNTAX_ERROR,
            "column name must be qualified",
        ));
    }
    Ok(CommentOn {
        kind,
        relation: written_name(&name)?,
        column,
        // An empty text is none.
        text: text.filter(|text| !text.is_empty()),
    })
}
