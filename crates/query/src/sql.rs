//! Statements as syntax trees: from one statement's text to a [`Command`].
//!
//! Temporal clauses are rewritten on the token stream first ([`crate::temporal`]),
//! then `sqlparser` reads PostgreSQL's dialect. What a session decides without
//! the engine (transactions, settings) is told apart here; what Chronos does not
//! have is refused here, by name, and never ignored.

use chronos_model::{name_in, name_parts, own_name, SequenceSchema, SqlState, PUBLIC_SCHEMA};
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::ast::Spanned as _;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use crate::{depth, temporal, QueryError};

mod copy_options;
mod created;
mod maintenance;
mod named;
mod overriding;
mod reserved;
mod sequence_options;
mod session;
mod shorthand;
mod strings;
mod time;
mod users;

pub use named::{named, no_statement, Declare, Direction, Named};
pub use shorthand::shorthand;
pub use time::{setting, DefaultClause, Erase, Setting};

pub use crate::views::CreateView;
pub use created::{CommentOn, CreateTableAs};
pub use maintenance::{AlterOptions, Maintenance};
pub use overriding::Overriding;
pub use users::{is_about_users, UserCommand, UserName, UserOptions};

/// How deep expressions and queries may nest.
const RECURSION_LIMIT: usize = 120;

/// A parsed statement, sorted by who carries it out.
#[derive(Debug, Clone)]
pub enum Command {
    /// SELECT, VALUES, WITH .. SELECT, EXPLAIN of one.
    Query(Box<ast::Statement>),
    /// EXPLAIN of a data-modifying statement: not run, its SELECT is explained.
    ExplainWrite(Box<ast::Statement>, ExplainOptions),
    /// INSERT, and what it says of identity columns.
    Insert(Box<ast::Insert>, Overriding),
    /// UPDATE, and the WITH before it.
    Update(Box<ast::Update>, Option<Box<ast::With>>),
    /// DELETE, and the WITH before it.
    Delete(Box<ast::Delete>, Option<Box<ast::With>>),
    /// CREATE TABLE
    CreateTable(Box<ast::CreateTable>),
    /// CREATE INDEX
    CreateIndex(Box<ast::CreateIndex>),
    /// CREATE SEQUENCE, IF NOT EXISTS.
    CreateSequence(Box<SequenceSchema>, bool),
    /// DROP SEQUENCE: names, IF EXISTS.
    DropSequences(Vec<ast::ObjectName>, bool),
    /// DROP INDEX: names, IF EXISTS.
    DropIndexes(Vec<ast::ObjectName>, bool),
    /// DROP TABLE: names, IF EXISTS, CASCADE.
    DropTables(Vec<ast::ObjectName>, bool, bool),
    /// CREATE VIEW
    CreateView(CreateView),
    /// DROP VIEW: names, IF EXISTS, CASCADE.
    DropViews(Vec<ast::ObjectName>, bool, bool),
    /// CREATE TABLE .. AS, SELECT INTO
    CreateTableAs(CreateTableAs),
    /// COMMENT ON
    Comment(CommentOn),
    /// TRUNCATE
    Truncate {
        /// The tables.
        names: Vec<ast::ObjectName>,
        /// CASCADE
        cascade: bool,
        /// RESTART IDENTITY
        restarts: bool,
    },
    /// CREATE SCHEMA: name, IF NOT EXISTS.
    CreateSchema(String, bool),
    /// DROP SCHEMA
    DropSchemas(crate::schemas::DropSchemas),
    /// SET CONSTRAINTS: names, none for ALL, and whether they are deferred.
    SetConstraints(Vec<String>, bool),
    /// COPY
    Copy(Box<ast::Statement>),
    /// BEGIN, START TRANSACTION
    Begin(Vec<ast::TransactionMode>, Option<String>),
    /// COMMIT, END
    Commit,
    /// ROLLBACK, ABORT; to a savepoint if named.
    Rollback(Option<String>),
    /// SAVEPOINT
    Savepoint(String),
    /// RELEASE SAVEPOINT
    Release(String),
    /// ERASE FROM
    Erase(Box<Erase>),
    /// SET name = value; `None`: DEFAULT.
    Set(String, Option<String>),
    /// SET LOCAL
    SetLocal(String, Option<String>),
    /// SHOW name; `all` for all.
    Show(String),
    /// RESET name; `all` for all.
    Reset(String),
    /// DISCARD ALL and its like.
    Discard,
    /// DEALLOCATE name; `None`: ALL.
    Deallocate(Option<String>),
    /// ALTER TABLE
    AlterTable(Box<ast::AlterTable>),
    /// ALTER TABLE .. SET (..), RESET (..)
    AlterOptions(AlterOptions),
    /// COMPACT, VACUUM
    Maintain(Maintenance),
    /// CREATE USER, GRANT and their like.
    Users(Box<UserCommand>),
    /// SET TRANSACTION ISOLATION LEVEL SERIALIZABLE.
    SetSerializable,
    /// A statement that is accepted and has no effect here (LISTEN, CHECKPOINT ..);
    /// its command tag.
    NoOperation(&'static str),
}

/// What EXPLAIN was asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExplainOptions {
    /// Run it and tell times.
    pub analyze: bool,
    /// More columns.
    pub verbose: bool,
}

/// Parses one statement. Errors carry 42601 and a byte offset where known.
pub fn parse(sql: &str) -> Result<Command, QueryError> {
    if let Some(command) = users::parse(sql)? {
        return Ok(command);
    }
    if let Some(command) = session::parse_session_command(sql)? {
        return Ok(command);
    }
    if let Some((begin, as_of)) = time::begin_as_of(sql)? {
        return match parse(&begin)? {
            Command::Begin(modes, _) => Ok(Command::Begin(modes, Some(as_of))),
            other => Ok(other),
        };
    }
    if let Some(erase) = time::erase(sql)? {
        return Ok(Command::Erase(Box::new(erase)));
    }
    strings::check(sql)?;
    let joined = strings::join(sql);
    depth::with_stack(&joined, || parse_statement(&joined))
}

fn parse_statement(sql: &str) -> Result<Command, QueryError> {
    let rewritten = temporal::rewrite(sql).map_err(lexical)?;
    let text = rewrite_ttl(&rewritten.sql);
    let text = without_only(&text);
    let text = crate::engine::mark_phrases(&text);
    let text = sequence_options::sorted(&text);
    let text = copy_options::with_truth_values(&text);
    let (text, overriding) = overriding::without_overriding(&text);
    let dialect = PostgreSqlDialect {};
    let mut statements = Parser::new(&dialect)
        .with_recursion_limit(RECURSION_LIMIT)
        .try_with_sql(&text)
        .and_then(|mut p| p.parse_statements())
        .map_err(|e| {
            let mut error = syntax_error(&e.to_string(), &text);
            error.offset = error
                .offset
                .map(|o| rewritten.original_position(o).min(sql.len()));
            error
        })?;
    match statements.len() {
        1 => {
            let mut statement = statements.remove(0);
            depth::bound(&mut statement)?;
            reserved::check(&statement)?;
            crate::precedence::restore(&mut statement);
            match classify(statement)? {
                Command::Insert(insert, _) => Ok(Command::Insert(insert, overriding)),
                other => Ok(other),
            }
        }
        0 => Err(QueryError::new(
            SqlState::SYNTAX_ERROR,
            "the statement is empty",
        )),
        _ => Err(QueryError::new(
            SqlState::SYNTAX_ERROR,
            "cannot insert multiple commands into a prepared statement",
        )),
    }
}

/// The parser's message in PostgreSQL's words, with the byte offset of the
/// `Line: l, Column: c` that it ends with.
fn syntax_error(message: &str, text: &str) -> QueryError {
    let message = message.trim_start_matches("sql parser error: ");
    if message.contains("recursion limit") {
        let e = QueryError::new(
            SqlState::TOO_COMPLEX,
            "stack depth limit exceeded: the statement nests too deep",
        );
        return e.with_hint(format!(
            "Expressions and subqueries may nest {RECURSION_LIMIT} deep."
        ));
    }
    let (body, place) = match message.rfind(" at Line: ") {
        Some(at) => (&message[..at], Some(&message[at + " at Line: ".len()..])),
        None => (message, None),
    };
    let offset = place.and_then(|place| {
        let (line, column) = place.split_once(", Column: ")?;
        let line: usize = line.trim().parse().ok()?;
        let column: usize = column.trim().parse().ok()?;
        let start: usize = text
            .split_inclusive('\n')
            .take(line.checked_sub(1)?)
            .map(str::len)
            .sum();
        let rest = text.get(start..)?;
        let within = rest
            .char_indices()
            .nth(column.checked_sub(1)?)
            .map_or(rest.len(), |(i, _)| i);
        Some(start + within)
    });
    let message = match body.rsplit_once("found: ") {
        Some((_, "EOF")) => format!("syntax error at end of input: {body}"),
        Some((_, token)) => format!("syntax error at or near \"{token}\": {body}"),
        None => format!("syntax error: {body}"),
    };
    let mut error = QueryError::new(SqlState::SYNTAX_ERROR, message);
    error.offset = offset;
    error
}

/// `WITH TTL=7d`, which is no SQL, as `WITH (ttl='7d')`. Works on text that the lexer
/// may refuse (`7d` is no number), and touches nothing but CREATE TABLE.
pub fn rewrite_ttl(sql: &str) -> std::borrow::Cow<'_, str> {
    use crate::lex::{Token, TokenKind};
    let starts_with_create = || {
        let mut tokens = crate::lex::tokens(sql).filter(|t| t.kind != TokenKind::Comment);
        tokens.next().is_some_and(|t| t.is_word(sql, "create"))
    };
    let mentions = |b: &[u8]| b.eq_ignore_ascii_case(b"ttl");
    if !sql.as_bytes().windows(3).any(mentions) || !starts_with_create() {
        return sql.into();
    }
    let tokens: Vec<Token> = crate::lex::tokens(sql)
        .filter(|t| t.kind != TokenKind::Comment)
        .collect();
    for around in tokens.windows(4) {
        let [with, ttl, equals, value] = around else {
            continue;
        };
        let is_clause = with.is_word(sql, "with") && ttl.is_word(sql, "ttl");
        if !is_clause || equals.text(sql) != "=" {
            continue;
        }
        let end = sql[value.start..]
            .find(|c: char| c.is_whitespace() || c == ';' || c == ',')
            .map_or(sql.len(), |n| value.start + n);
        let written = sql[value.start..end].trim_matches('\'');
        if written.is_empty() || !written.bytes().all(|b| b.is_ascii_alphanumeric()) {
            continue;
        }
        return format!("{}(ttl='{written}'){}", &sql[..ttl.start], &sql[end..]).into();
    }
    sql.into()
}

/// A write with WITH before it: an INSERT's moves to where its rows come from. `None`: the
/// query is no write.
fn write_with_ctes(query: &ast::Query) -> Option<Result<Command, QueryError>> {
    let with = query.with.clone();
    Some(match query.body.as_ref() {
        ast::SetExpr::Insert(ast::Statement::Insert(insert)) => {
            let mut insert = insert.clone();
            if let (Some(with), Some(source)) = (with, insert.source.as_mut()) {
                if source.with.is_some() {
                    return Some(Err(QueryError::unsupported(
                        "WITH both before and in an INSERT",
                    )));
                }
                source.with = Some(with);
            }
            Ok(Command::Insert(Box::new(insert), Overriding::None))
        }
        ast::SetExpr::Update(ast::Statement::Update(update)) => Ok(Command::Update(
            Box::new(update.clone()),
            with.map(Box::new),
        )),
        ast::SetExpr::Delete(ast::Statement::Delete(delete)) => Ok(Command::Delete(
            Box::new(delete.clone()),
            with.map(Box::new),
        )),
        ast::SetExpr::Insert(write) | ast::SetExpr::Update(write) | ast::SetExpr::Delete(write) => {
            classify(write.clone())
        }
        _ => return None,
    })
}

/// `ONLY` before a table's name, which asks for what is the case: no table inherits.
fn without_only(sql: &str) -> std::borrow::Cow<'_, str> {
    use crate::lex::TokenKind;
    let mut text = std::borrow::Cow::Borrowed(sql);
    let mut before = "";
    for token in crate::lex::tokens(sql).filter(|t| t.kind != TokenKind::Comment) {
        let word = &sql[token.start..token.end];
        let follows = ["update", "from", "join"]
            .iter()
            .any(|w| before.eq_ignore_ascii_case(w));
        if follows && word.eq_ignore_ascii_case("only") {
            text.to_mut()
                .replace_range(token.start..token.end, &" ".repeat(word.len()));
        }
        before = word;
    }
    text
}

fn lexical(e: crate::lex::LexError) -> QueryError {
    let mut error = QueryError::new(e.code, e.message);
    error.offset = Some(e.position);
    error
}

fn name_text(token: &crate::lex::Token, sql: &str) -> String {
    crate::lex::ident(token, sql).into_owned()
}

fn string_text(token: &crate::lex::Token, sql: &str) -> String {
    crate::lex::unescape_string(token, sql).into_owned()
}

fn classify(statement: ast::Statement) -> Result<Command, QueryError> {
    use ast::Statement as S;
    Ok(match statement {
        S::Query(ref query) => {
            if query.locks.iter().any(|l| l.nonblock.is_some()) {
                return Err(QueryError::unsupported(
                    "SELECT .. FOR UPDATE NOWAIT / SKIP LOCKED",
                ));
            }
            if let Some(write) = write_with_ctes(query) {
                return write;
            }
            if let ast::SetExpr::Select(select) = query.body.as_ref() {
                if let Some(into) = &select.into {
                    return created::select_into(query, into);
                }
            }
            Command::Query(Box::new(statement))
        }
        S::Explain {
            statement: inner,
            analyze,
            verbose,
            options,
            describe_alias: _,
            ..
        } => {
            let on = |name: &str| {
                options.iter().flatten().any(|o| {
                    o.name.value.eq_ignore_ascii_case(name)
                        && !matches!(&o.arg, Some(e) if matches!(e.to_string().to_ascii_lowercase().as_str(), "false" | "off" | "0"))
                })
            };
            let explain = ExplainOptions {
                analyze: analyze || on("analyze"),
                verbose: verbose || on("verbose"),
            };
            match *inner {
                query @ S::Query(_) => Command::Query(Box::new(self::explain(query, explain))),
                write @ (S::Insert(_) | S::Update(_) | S::Delete(_)) => {
                    Command::ExplainWrite(Box::new(write), explain)
                }
                _ => return Err(QueryError::unsupported("EXPLAIN of this statement")),
            }
        }
        S::Insert(insert) => Command::Insert(Box::new(insert), Overriding::None),
        S::Update(update) => Command::Update(Box::new(update), None),
        S::Delete(delete) => Command::Delete(Box::new(delete), None),
        S::CreateTable(create) => match create.query.is_some() {
            true => created::create_table_as(create)?,
            false => Command::CreateTable(Box::new(create)),
        },
        S::Drop {
            object_type: ast::ObjectType::Table,
            if_exists,
            names,
            cascade,
            ..
        } => Command::DropTables(names, if_exists, cascade),
        S::CreateSchema {
            schema_name,
            if_not_exists,
            with: None,
            options: None,
            default_collate_spec: None,
            clone: None,
        } => crate::schemas::create_schema(&schema_name, if_not_exists)?,
        S::Drop {
            object_type: ast::ObjectType::Schema,
            if_exists,
            names,
            cascade,
            ..
        } => crate::schemas::drop_schemas(&names, if_exists, cascade)?,
        S::Drop {
            object_type: ast::ObjectType::View,
            if_exists,
            names,
            cascade,
            ..
        } => Command::DropViews(names, if_exists, cascade),
        S::Comment {
            object_type,
            object_name,
            comment,
            if_exists: false,
        } => Command::Comment(created::comment_on(object_type, &object_name, comment)?),
        S::AlterTable(alter) => Command::AlterTable(Box::new(alter)),
        S::CreateIndex(create) => Command::CreateIndex(Box::new(create)),
        S::Drop {
            object_type: ast::ObjectType::Index,
            if_exists,
            names,
            ..
        } => Command::DropIndexes(names, if_exists),
        S::CreateSequence {
            temporary: false,
            if_not_exists,
            name,
            data_type,
            sequence_options,
            owned_by: None,
        } => {
            let sequence =
                crate::ddl::create_sequence(&name, data_type.as_ref(), &sequence_options)?;
            Command::CreateSequence(Box::new(sequence), if_not_exists)
        }
        S::Drop {
            object_type: ast::ObjectType::Sequence,
            if_exists,
            names,
            ..
        } => Command::DropSequences(names, if_exists),
        S::Truncate(truncate) => {
            let names = truncate.table_names.into_iter().map(|t| t.name);
            Command::Truncate {
                names: names.collect(),
                cascade: truncate.cascade == Some(ast::CascadeOption::Cascade),
                restarts: truncate.identity == Some(ast::TruncateIdentityOption::Restart),
            }
        }
        S::Copy { .. } => Command::Copy(Box::new(statement)),
        S::StartTransaction { modes, .. } => Command::Begin(modes, None),
        S::Commit { .. } => Command::Commit,
        S::Rollback { savepoint, .. } => Command::Rollback(savepoint.map(|s| fold(&s))),
        S::Savepoint { name } => Command::Savepoint(fold(&name)),
        S::ReleaseSavepoint { name } => Command::Release(fold(&name)),
        S::CreateExtension(e) if e.if_not_exists => Command::NoOperation("CREATE EXTENSION"),
        other => {
            let span = other.span();
            let text = other.to_string();
            let words: Vec<&str> = text.split_whitespace().take(2).collect();
            let mut error = QueryError::unsupported(words.join(" ").to_ascii_uppercase());
            error.offset =
                (span.start.line == 1).then(|| (span.start.column as usize).saturating_sub(1));
            return Err(error);
        }
    })
}

/// An identifier folded as PostgreSQL does: lower case unless quoted.
pub fn fold(ident: &ast::Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_ascii_lowercase(),
    }
}

/// A relation's name as the catalog has it; without a schema it is of `public`.
pub fn table_name(name: &ast::ObjectName) -> Result<String, QueryError> {
    let written = written_name(name)?;
    let (schema, own) = name_parts(&written);
    Ok(name_in(schema, own))
}

/// The same, but that `public` stands before the name if it was written so.
pub(crate) fn written_name(name: &ast::ObjectName) -> Result<String, QueryError> {
    let parts: Vec<String> = name
        .0
        .iter()
        .filter_map(|p| p.as_ident().map(fold))
        .collect();
    match parts.as_slice() {
        [table] => Ok(table.clone()),
        [schema, table] | [_, schema, table] => Ok(written_in(schema, table)),
        _ => Err(QueryError::new(
            SqlState::SYNTAX_ERROR,
            format!("improper relation name: {name}"),
        )),
    }
}

/// A name that was written with a schema.
pub(crate) fn written_in(schema: &str, table: &str) -> String {
    match schema {
        // As of a schema like others.
        PUBLIC_SCHEMA => name_in(" ", table).replacen(' ', PUBLIC_SCHEMA, 1),
        schema => name_in(schema, table),
    }
}

/// Whether a name was written with a schema.
pub(crate) fn is_written_qualified(name: &str) -> bool {
    own_name(name).len() < name.len()
}

/// A name as it must be written in SQL to be read back the same.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A parsed statement, as the engine takes it.
pub type AstStatement = ast::Statement;

/// Parses what must be a query.
pub fn parse_query(sql: &str) -> Result<ast::Statement, QueryError> {
    match parse(sql)? {
        Command::Query(statement) => Ok(*statement),
        _ => Err(QueryError::new(SqlState::SYNTAX_ERROR, "expected a query")),
    }
}

/// EXPLAIN of a query.
pub fn explain(query: ast::Statement, options: ExplainOptions) -> ast::Statement {
    ast::Statement::Explain {
        describe_alias: ast::DescribeAlias::Explain,
        analyze: options.analyze,
        verbose: options.verbose,
        query_plan: false,
        estimate: false,
        statement: Box::new(query),
        format: None,
        options: None,
    }
}

pub use crate::copy::{copy, CopyDirection, CopyStatement};
pub use ast::{AlterTable, CreateIndex, CreateTable, ForeignKeyConstraint, ObjectName};

/// Whether BEGIN asks for the isolation level SERIALIZABLE.
pub fn is_serializable(modes: &[ast::TransactionMode]) -> bool {
    modes.iter().any(|m| {
        matches!(
            m,
            ast::TransactionMode::IsolationLevel(ast::TransactionIsolationLevel::Serializable)
        )
    })
}

/// Whether BEGIN asks for a read-only transaction.
pub fn is_read_only(modes: &[ast::TransactionMode]) -> bool {
    modes.iter().any(|m| {
        matches!(
            m,
            ast::TransactionMode::AccessMode(ast::TransactionAccessMode::ReadOnly)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ttl_is_rewritten_where_it_is_a_clause() {
        for (sql, rewritten) in [
            (
                "CREATE TABLE t (a INT) WITH TTL=7d",
                "CREATE TABLE t (a INT) WITH (ttl='7d')",
            ),
            (
                "-- x\ncreate table t (a INT) with ttl = '30m';",
                "-- x\ncreate table t (a INT) with (ttl='30m');",
            ),
            (
                "CREATE TABLE t (a INT) WITH /* c */ ttl=1h; SELECT 1",
                "CREATE TABLE t (a INT) WITH /* c */ (ttl='1h'); SELECT 1",
            ),
        ] {
            assert_eq!(rewrite_ttl(sql), rewritten);
        }
        for untouched in [
            "CREATE TABLE t (a TEXT DEFAULT 'with ttl=7d')",
            "CREATE TABLE t (a INT) -- with ttl=7d",
            "CREATE TABLE t (\"with ttl=7d\" INT)",
            "CREATE TABLE t (a INT) WITH (ttl='7d')",
            "SELECT ttl FROM t",
            "CREATE TABLE t (a INT) WITH ttl=",
            "CREATE TABLE ttl (ttl INT)",
        ] {
            assert_eq!(rewrite_ttl(untouched), untouched);
        }
    }
}
