//! Statements about users and roles, read from tokens to their end: their text holds passwords,
//! so none of it goes through the parser, whose errors quote what they meet.
//!
//! ```text
//! CREATE USER | ROLE | GROUP n [WITH] option ..
//! ALTER USER | ROLE n [WITH] option ..      ALTER USER | ROLE n RENAME TO m
//! DROP USER | ROLE | GROUP [IF EXISTS] n, ..
//! GRANT role, .. TO user, ..                REVOKE role, .. FROM user, ..
//! ```
//!
//! What users here do not have is refused by name: privileges of single tables, connection
//! limits, membership in one another.

use chronos_model::{text, DataType, Role, Secret, SqlState, Value};

use super::Command;
use crate::lex::{ident, unescape_string, Token, TokenKind};
use crate::QueryError;

/// A statement about users.
#[derive(Debug, Clone, PartialEq)]
pub enum UserCommand {
    /// CREATE USER, CREATE ROLE: the name, and what it shall be.
    Create(String, UserOptions),
    /// ALTER USER: the name, and what becomes other.
    Alter(UserName, UserOptions),
    /// ALTER USER .. RENAME TO: the old name and the new one.
    Rename(UserName, String),
    /// DROP USER: names, IF EXISTS.
    Drop(Vec<UserName>, bool),
    /// GRANT role TO user.
    Grant(Vec<Role>, Vec<UserName>),
    /// REVOKE role FROM user.
    Revoke(Vec<Role>, Vec<UserName>),
}

/// A user as a statement names it.
#[derive(Debug, Clone, PartialEq)]
pub enum UserName {
    /// By its folded name.
    Named(String),
    /// `CURRENT_USER` and its like.
    Current,
}

/// What CREATE and ALTER say of a user; `None`: nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UserOptions {
    /// LOGIN, NOLOGIN; CREATE USER says LOGIN.
    pub can_login: Option<bool>,
    /// PASSWORD; of no password: `Some(None)`.
    pub password: Option<Option<Secret>>,
    /// VALID UNTIL, in microseconds since 1970; for ever: `Some(None)`.
    pub valid_until: Option<Option<i64>>,
    /// SUPERUSER, NOSUPERUSER.
    pub is_admin: Option<bool>,
    /// IN ROLE
    pub roles: Vec<Role>,
}

/// Options that say what is the case for every user.
const GIVEN: [&str; 6] = [
    "nocreatedb",
    "nocreaterole",
    "nocreateuser",
    "noreplication",
    "nobypassrls",
    "inherit",
];
/// Options that ask for what no user has.
const REFUSED: [&str; 9] = [
    "createdb",
    "createrole",
    "createuser",
    "noinherit",
    "replication",
    "bypassrls",
    "admin",
    "role",
    "user",
];

/// Whether a statement is about users: such a text is not remembered, nor quoted in errors.
pub fn is_about_users(sql: &str) -> bool {
    let mut words = crate::lex::tokens(sql).filter(|t| t.kind != TokenKind::Comment);
    let Some(first) = words.next() else {
        return false;
    };
    match first.text(sql).to_ascii_lowercase().as_str() {
        "grant" | "revoke" => true,
        "create" | "alter" | "drop" => words
            .next()
            .is_some_and(|t| ["user", "role", "group"].iter().any(|w| t.is_word(sql, w))),
        _ => false,
    }
}

/// `None`: another statement.
pub(super) fn parse(sql: &str) -> Result<Option<Command>, QueryError> {
    if !is_about_users(sql) {
        return Ok(None);
    }
    let tokens: Vec<Token> = crate::lex::tokens(sql)
        .filter(|t| t.kind != TokenKind::Comment)
        .collect();
    let mut rest = Rest {
        sql,
        tokens: &tokens,
    };
    let command = rest.statement()?;
    rest.takes(";");
    match rest.tokens.first() {
        None => Ok(Some(Command::Users(Box::new(command)))),
        Some(_) => Err(rest.unexpected()),
    }
}

/// `SET ROLE x`, `SET SESSION AUTHORIZATION x`, by the word behind SET and the next one. Nobody
/// becomes somebody else; to stay who one is, is granted. `None`: it sets something else.
pub(super) fn set_role(what: &str, to: &str) -> Result<Option<Command>, QueryError> {
    match (what, to) {
        ("role" | "authorization", "=" | "to" | "") => Ok(None),
        ("role", "none") | ("authorization", "default") => Ok(Some(Command::NoOperation("SET"))),
        ("role", _) => Err(QueryError::unsupported("SET ROLE")),
        ("authorization", _) => Err(QueryError::unsupported("SET SESSION AUTHORIZATION")),
        _ => Ok(None),
    }
}

struct Rest<'a> {
    sql: &'a str,
    tokens: &'a [Token],
}

impl Rest<'_> {
    fn statement(&mut self) -> Result<UserCommand, QueryError> {
        if self.takes("grant") {
            let roles = self.granted("GRANT", "to")?;
            let users = self.names()?;
            self.refuse_options()?;
            return Ok(UserCommand::Grant(roles, users));
        }
        if self.takes("revoke") {
            let roles = self.granted("REVOKE", "from")?;
            let users = self.names()?;
            let _ = self.takes("cascade") || self.takes("restrict");
            return Ok(UserCommand::Revoke(roles, users));
        }
        let (create, alter) = (self.takes("create"), self.takes("alter"));
        if !create && !alter && !self.takes("drop") {
            return Err(self.unexpected());
        }
        let is_user = self.takes("user");
        let is_group = !is_user && !self.takes("role") && self.takes("group");
        if is_user && self.is_word("mapping") {
            return Err(QueryError::unsupported("USER MAPPING"));
        }
        if create {
            let name = self.new_name()?;
            let mut options = self.options()?;
            options.can_login = options.can_login.or(Some(is_user));
            return Ok(UserCommand::Create(name, options));
        }
        if alter {
            return self.alter(is_group);
        }
        let if_exists = self.takes("if") && self.takes("exists");
        Ok(UserCommand::Drop(self.names()?, if_exists))
    }

    fn alter(&mut self, is_group: bool) -> Result<UserCommand, QueryError> {
        if self.is_word("all") {
            return Err(QueryError::unsupported("ALTER ROLE ALL"));
        }
        let name = self.user()?;
        if self.takes("rename") {
            if !self.takes("to") {
                return Err(self.unexpected());
            }
            return Ok(UserCommand::Rename(name, self.new_name()?));
        }
        if is_group {
            return Err(QueryError::unsupported("ALTER GROUP .. ADD, DROP")
                .with_hint("Write GRANT role TO user, REVOKE role FROM user."));
        }
        if self.is_word("set") || self.is_word("reset") || self.is_word("in") {
            return Err(QueryError::unsupported("ALTER ROLE .. SET")
                .with_hint("Settings are those of sessions: SET, or options of the connection."));
        }
        Ok(UserCommand::Alter(name, self.options()?))
    }

    /// The roles of GRANT and REVOKE, and the word behind them.
    fn granted(&mut self, verb: &str, until: &str) -> Result<Vec<Role>, QueryError> {
        let is_other = |t: &Token| t.is_word(self.sql, "on") || t.is_word(self.sql, "option");
        if self.tokens.iter().any(is_other) {
            let what = format!("{verb} of privileges of single objects, and of options");
            return Err(QueryError::unsupported(what).with_hint(
                "Write GRANT chronos_read_only, chronos_read_write or chronos_admin TO user.",
            ));
        }
        let mut roles = vec![self.role()?];
        while self.takes(",") {
            roles.push(self.role()?);
        }
        match self.takes(until) {
            true => Ok(roles),
            false => Err(self.unexpected()),
        }
    }

    fn refuse_options(&mut self) -> Result<(), QueryError> {
        if self.is_word("with") || self.is_word("granted") {
            return Err(QueryError::unsupported("GRANT .. WITH, GRANTED BY"));
        }
        Ok(())
    }

    fn role(&mut self) -> Result<Role, QueryError> {
        let name = self.name()?;
        Role::of_name(&name).ok_or_else(|| {
            let roles: Vec<&str> = Role::ALL.iter().map(|r| r.name()).collect();
            QueryError::unsupported(format!("GRANT and REVOKE of the role \"{name}\""))
                .with_hint(format!("The roles are {}.", roles.join(", ")))
        })
    }

    fn options(&mut self) -> Result<UserOptions, QueryError> {
        self.takes("with");
        let mut options = UserOptions::default();
        while !matches!(self.text(), "" | ";") {
            self.option(&mut options)?;
        }
        Ok(options)
    }

    fn option(&mut self, options: &mut UserOptions) -> Result<(), QueryError> {
        let Some(token) = self.tokens.first().filter(|t| t.kind == TokenKind::Word) else {
            return Err(self.unexpected());
        };
        let word = token.text(self.sql).to_ascii_lowercase();
        if let Some(refused) = REFUSED.iter().find(|w| **w == word) {
            let what = refused.to_ascii_uppercase();
            return Err(QueryError::unsupported(format!("the role option {what}")));
        }
        match word.as_str() {
            "encrypted" => {
                self.advance();
                match self.is_word("password") {
                    true => Ok(()),
                    false => Err(self.unexpected()),
                }
            }
            "password" => {
                self.advance();
                let value = match self.takes("null") {
                    true => None,
                    false => Some(Secret::new(self.string()?)),
                };
                self.once(options.password.replace(value).is_some())
            }
            "login" | "nologin" => {
                self.advance();
                let is_again = options.can_login.replace(word == "login").is_some();
                self.once(is_again)
            }
            "superuser" | "nosuperuser" => {
                self.advance();
                let is_again = options.is_admin.replace(word == "superuser").is_some();
                self.once(is_again)
            }
            "valid" => {
                self.advance();
                if !self.takes("until") {
                    return Err(self.unexpected());
                }
                let until = moment(&self.string()?)?;
                self.once(options.valid_until.replace(until).is_some())
            }
            "in" => {
                self.advance();
                if !self.takes("role") && !self.takes("group") {
                    return Err(self.unexpected());
                }
                options.roles.push(self.role()?);
                while self.takes(",") {
                    options.roles.push(self.role()?);
                }
                Ok(())
            }
            "connection" => {
                self.advance();
                let is_none = self.takes("limit") && self.takes("-") && self.takes("1");
                match is_none {
                    true => Ok(()),
                    false => Err(QueryError::unsupported("the role option CONNECTION LIMIT")),
                }
            }
            word if GIVEN.contains(&word) => {
                self.advance();
                Ok(())
            }
            _ => Err(self.unexpected()),
        }
    }

    fn once(&self, is_again: bool) -> Result<(), QueryError> {
        match is_again {
            false => Ok(()),
            true => Err(QueryError::new(
                SqlState::SYNTAX_ERROR,
                "conflicting or redundant options",
            )),
        }
    }

    fn names(&mut self) -> Result<Vec<UserName>, QueryError> {
        let mut names = vec![self.user()?];
        while self.takes(",") {
            names.push(self.user()?);
        }
        Ok(names)
    }

    fn user(&mut self) -> Result<UserName, QueryError> {
        let words = ["current_user", "session_user", "current_role"];
        if words.iter().any(|word| self.takes(word)) {
            return Ok(UserName::Current);
        }
        self.takes("group");
        self.name().map(UserName::Named)
    }

    /// A name that a user may be given.
    fn new_name(&mut self) -> Result<String, QueryError> {
        let name = self.name()?;
        let is_reserved = name.starts_with("pg_") || name.starts_with("chronos_");
        if is_reserved || matches!(name.as_str(), "public" | "none") {
            let message = format!("role name \"{name}\" is reserved");
            return Err(QueryError::new(SqlState("42939"), message));
        }
        Ok(name)
    }

    fn name(&mut self) -> Result<String, QueryError> {
        let Some(token) = self.tokens.first().filter(|t| t.is_name()) else {
            return Err(self.unexpected());
        };
        let name = ident(token, self.sql).into_owned();
        self.advance();
        Ok(name)
    }

    fn string(&mut self) -> Result<String, QueryError> {
        let token = self.tokens.first();
        let Some(token) = token.filter(|t| t.kind == TokenKind::String) else {
            return Err(self.unexpected());
        };
        let text = unescape_string(token, self.sql).into_owned();
        self.advance();
        Ok(text)
    }

    fn text(&self) -> &str {
        self.tokens.first().map_or("", |t| t.text(self.sql))
    }

    fn is_word(&self, word: &str) -> bool {
        self.tokens
            .first()
            .is_some_and(|t| t.is_word(self.sql, word))
    }

    fn advance(&mut self) {
        self.tokens = self.tokens.get(1..).unwrap_or_default();
    }

    fn takes(&mut self, what: &str) -> bool {
        let is = match self.tokens.first() {
            Some(t) if t.kind == TokenKind::Word => t.is_word(self.sql, what),
            Some(t) => t.text(self.sql) == what,
            None => false,
        };
        if is {
            self.advance();
        }
        is
    }

    /// A syntax error, which quotes words but never a string: it may be a password.
    fn unexpected(&self) -> QueryError {
        let Some(token) = self.tokens.first() else {
            let message = "syntax error at end of input";
            return QueryError::new(SqlState::SYNTAX_ERROR, message);
        };
        let message = match token.kind {
            TokenKind::Word => format!("syntax error at or near \"{}\"", token.text(self.sql)),
            _ => "syntax error".to_owned(),
        };
        let mut error = QueryError::new(SqlState::SYNTAX_ERROR, message);
        error.offset = Some(token.start);
        error
    }
}

/// `None`: for ever.
fn moment(written: &str) -> Result<Option<i64>, QueryError> {
    if written.trim().eq_ignore_ascii_case("infinity") {
        return Ok(None);
    }
    match text::parse(&DataType::TimestampTz, written)? {
        Value::TimestampTz(micros) => Ok(Some(micros)),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(sql: &str) -> Result<UserCommand, QueryError> {
        match parse(sql)? {
            Some(Command::Users(command)) => Ok(*command),
            other => panic!("{sql}: {other:?}"),
        }
    }

    fn named(name: &str) -> UserName {
        UserName::Named(name.to_owned())
    }

    #[test]
    fn statements_are_understood() {
        let UserCommand::Create(name, options) = parsed(
            "CREATE USER Ada WITH ENCRYPTED PASSWORD 'it''s' VALID UNTIL '2030-01-01Z' NOCREATEDB
             CONNECTION LIMIT -1 IN ROLE chronos_read_only, pg_read_all_data;",
        )
        .unwrap() else {
            panic!("no CREATE")
        };
        assert_eq!(name, "ada");
        assert_eq!(options.can_login, Some(true));
        assert_eq!(options.password, Some(Some(Secret::new("it's"))));
        assert_eq!(options.valid_until, Some(Some(1_893_456_000_000_000)));
        assert_eq!(options.roles, [Role::ReadOnly, Role::ReadOnly]);
        let UserCommand::Create(_, options) = parsed("create role r").unwrap() else {
            panic!("no CREATE")
        };
        assert_eq!(options.can_login, Some(false));
        assert_eq!(
            parsed("DROP ROLE IF EXISTS a, \"B\"").unwrap(),
            UserCommand::Drop(vec![named("a"), named("B")], true)
        );
        assert_eq!(
            parsed("GRANT chronos_admin TO a").unwrap(),
            UserCommand::Grant(vec![Role::Admin], vec![named("a")])
        );
        assert_eq!(
            parsed("REVOKE chronos_read_write FROM CURRENT_USER CASCADE").unwrap(),
            UserCommand::Revoke(vec![Role::ReadWrite], vec![UserName::Current])
        );
        let options = UserOptions {
            password: Some(None),
            ..UserOptions::default()
        };
        assert_eq!(
            parsed("ALTER ROLE a PASSWORD NULL").unwrap(),
            UserCommand::Alter(named("a"), options)
        );
    }

    #[test]
    fn what_is_refused_is_refused_by_name_and_never_quotes_a_password() {
        for (sql, code) in [
            ("GRANT SELECT ON t TO a", "0A000"),
            (
                "GRANT ALL PRIVILEGES ON ALL TABLES IN SCHEMA public TO a",
                "0A000",
            ),
            ("REVOKE INSERT ON t FROM a", "0A000"),
            ("GRANT b TO a", "0A000"),
            ("GRANT pg_write_all_data TO a", "0A000"),
            ("GRANT chronos_admin TO a WITH ADMIN OPTION", "0A000"),
            ("CREATE USER a CREATEDB", "0A000"),
            ("CREATE USER a CONNECTION LIMIT 3", "0A000"),
            ("CREATE USER a PASSWORD 'hidden' PASSWORD 'hidden'", "42601"),
            ("CREATE USER a PASSWORD hidden 'hidden'", "42601"),
            ("CREATE USER a 'hidden'", "42601"),
            ("CREATE USER a PASSWORD E'hidden' 7", "42601"),
            ("CREATE USER pg_a", "42939"),
            ("CREATE USER chronos_admin", "42939"),
            ("ALTER USER a SET work_mem = 1", "0A000"),
            ("CREATE USER a VALID UNTIL 'soon'", "22007"),
        ] {
            let error = parsed(sql).unwrap_err();
            assert_eq!(error.code.0, code, "{sql}");
            assert!(!error.message.contains("'hidden"), "{}", error.message);
        }
        assert!(parse("CREATE TABLE user_role (a INT)").unwrap().is_none());
        assert!(!format!("{:?}", parsed("CREATE USER a PASSWORD 'hidden'")).contains("hidden"));
    }
}
