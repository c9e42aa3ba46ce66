//! Statements about how a table is kept, read from tokens: the parser knows none of them
//! in this form.
//!
//! ```text
//! ALTER TABLE [IF EXISTS] t SET (ttl = '7d', history_keep = 10)
//! ALTER TABLE [IF EXISTS] t RESET (ttl)
//! COMPACT [TABLE] [t]
//! VACUUM [(option, ..)] [FULL] [VERBOSE] [ANALYZE] [t, ..]
//! ```

use chronos_model::SqlState;

use super::Command;
use crate::lex::{ident, unescape_string, Token, TokenKind};
use crate::QueryError;

/// Which tables a COMPACT or VACUUM is about, and what it does.
#[derive(Debug, Clone, PartialEq)]
pub struct Maintenance {
    /// The command tag.
    pub verb: &'static str,
    /// Folded names; none: all tables.
    pub tables: Vec<String>,
    /// Whether tables are rewritten that have nothing to drop.
    pub everything: bool,
}

/// ALTER TABLE .. SET (..) or RESET (..).
#[derive(Debug, Clone, PartialEq)]
pub struct AlterOptions {
    /// The table's folded name.
    pub table: String,
    /// Whether it may be missing.
    pub if_exists: bool,
    /// Folded names of options and what they are set to; `None`: they are reset.
    pub options: Vec<(String, Option<String>)>,
}

/// `None`: another statement.
pub(super) fn parse(sql: &str, tokens: &[Token]) -> Result<Option<Command>, QueryError> {
    let mut rest = Rest { sql, tokens };
    let command = if rest.takes("compact") {
        rest.takes("table");
        Command::Maintain(rest.tables("COMPACT", true)?)
    } else if rest.takes("vacuum") {
        let everything = rest.vacuum_options()?;
        Command::Maintain(rest.tables("VACUUM", everything)?)
    } else if rest.takes("alter") && rest.takes("table") {
        match rest.alter_options()? {
            Some(alter) => Command::AlterOptions(alter),
            None => return Ok(None),
        }
    } else {
        return Ok(None);
    };
    rest.end()?;
    Ok(Some(command))
}

struct Rest<'a> {
    sql: &'a str,
    tokens: &'a [Token],
}

impl<'a> Rest<'a> {
    fn text(&self) -> &'a str {
        self.tokens.first().map_or("", |t| t.text(self.sql))
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

    fn name(&mut self) -> Result<String, QueryError> {
        let Some(token) = self.tokens.first().filter(|t| t.is_name()) else {
            return Err(self.unexpected());
        };
        let name = ident(token, self.sql).into_owned();
        self.advance();
        Ok(name)
    }

    /// A table's name, with its schema if that was written.
    fn table(&mut self) -> Result<String, QueryError> {
        let first = self.name()?;
        if !self.takes(".") {
            return Ok(first);
        }
        Ok(super::written_in(&first, &self.name()?))
    }

    fn tables(&mut self, verb: &'static str, everything: bool) -> Result<Maintenance, QueryError> {
        let mut tables = Vec::new();
        if !matches!(self.text(), "" | ";") {
            tables.push(self.table()?);
            while self.takes(",") {
                tables.push(self.table()?);
            }
        }
        Ok(Maintenance {
            verb,
            tables,
            everything,
        })
    }

    /// Whether FULL is among the options. The others say nothing here.
    fn vacuum_options(&mut self) -> Result<bool, QueryError> {
        let mut full = false;
        if self.takes("(") {
            loop {
                let option = self.name()?;
                let value = match self.text() {
                    "," | ")" => "on".to_owned(),
                    other => other.trim_matches('\'').to_ascii_lowercase(),
                };
                if !matches!(self.text(), "," | ")") {
                    self.advance();
                }
                full |= option == "full" && matches!(value.as_str(), "on" | "true" | "1");
                if self.takes(")") {
                    return Ok(full);
                }
                if !self.takes(",") {
                    return Err(self.unexpected());
                }
            }
        }
        loop {
            if self.takes("full") {
                full = true;
            } else if !["freeze", "verbose", "analyze", "analyse"]
                .iter()
                .any(|word| self.takes(word))
            {
                return Ok(full);
            }
        }
    }

    /// `None`: it alters something else.
    fn alter_options(&mut self) -> Result<Option<AlterOptions>, QueryError> {
        let if_exists = self.takes("if") && self.takes("exists");
        self.takes("only");
        let table = self.table()?;
        let sets = self.takes("set");
        if (!sets && !self.takes("reset")) || !self.takes("(") {
            return Ok(None);
        }
        let mut options = Vec::new();
        loop {
            let name = self.name()?;
            let value = match sets {
                true if self.takes("=") => self.value()?,
                true => return Err(self.unexpected()),
                false => None,
            };
            options.push((name, value));
            if self.takes(")") {
                break;
            }
            if !self.takes(",") {
                return Err(self.unexpected());
            }
        }
        Ok(Some(AlterOptions {
            table,
            if_exists,
            options,
        }))
    }

    /// NULL and DEFAULT reset.
    fn value(&mut self) -> Result<Option<String>, QueryError> {
        if self.takes("null") || self.takes("default") {
            return Ok(None);
        }
        let Some(token) = self.tokens.first() else {
            return Err(self.unexpected());
        };
        let value = match token.kind {
            TokenKind::String => unescape_string(token, self.sql).into_owned(),
            TokenKind::Number | TokenKind::Word => token.text(self.sql).to_owned(),
            _ => return Err(self.unexpected()),
        };
        self.advance();
        Ok(Some(value))
    }

    fn end(&mut self) -> Result<(), QueryError> {
        self.takes(";");
        match self.tokens {
            [] => Ok(()),
            _ => Err(self.unexpected()),
        }
    }

    fn unexpected(&self) -> QueryError {
        let message = match self.tokens.first() {
            None => "syntax error at end of input".to_owned(),
            Some(token) => format!("syntax error at or near \"{}\"", token.text(self.sql)),
        };
        let mut error = QueryError::new(SqlState::SYNTAX_ERROR, message);
        error.offset = Some(self.tokens.first().map_or(self.sql.len(), |t| t.start));
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::parse as parse_statement;

    fn maintenance(sql: &str) -> Maintenance {
        match parse_statement(sql).unwrap() {
            Command::Maintain(m) => m,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn compact_and_vacuum_name_tables() {
        let all = |verb, everything| Maintenance {
            verb,
            tables: vec![],
            everything,
        };
        assert_eq!(maintenance("COMPACT;"), all("COMPACT", true));
        assert_eq!(maintenance("compact table T").tables, vec!["t".to_owned()]);
        assert_eq!(maintenance("VACUUM"), all("VACUUM", false));
        assert_eq!(maintenance("VACUUM (ANALYZE, FULL)"), all("VACUUM", true));
        assert_eq!(
            maintenance("vacuum full \"A\", public.b").tables,
            ["A".to_owned(), crate::sql::written_in("public", "b")]
        );
        assert!(!maintenance("vacuum (full off) a").everything);
        for wrong in ["COMPACT a b", "VACUUM (", "COMPACT TABLE 'a'"] {
            parse_statement(wrong).unwrap_err();
        }
    }

    #[test]
    fn options_are_set_and_reset() {
        let options = |sql: &str| match parse_statement(sql).unwrap() {
            Command::AlterOptions(alter) => alter.options,
            other => panic!("{other:?}"),
        };
        let of = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
        assert_eq!(
            options("ALTER TABLE t SET (ttl = '7d', History_Keep=10, x = NULL);"),
            [
                of("ttl", Some("7d")),
                of("history_keep", Some("10")),
                of("x", None)
            ]
        );
        assert_eq!(
            options("alter table if exists only public.t reset (ttl, history_ttl)"),
            [of("ttl", None), of("history_ttl", None)]
        );
        for wrong in [
            "ALTER TABLE t SET (ttl)",
            "ALTER TABLE t SET (ttl = '1d'",
            "ALTER TABLE t SET ()",
        ] {
            let error = parse_statement(wrong).unwrap_err();
            assert_eq!(error.code, SqlState::SYNTAX_ERROR, "{wrong}");
        }
        let other = parse_statement("ALTER TABLE t ADD COLUMN a int").unwrap();
        assert!(matches!(other, Command::AlterTable(_)));
    }
}
