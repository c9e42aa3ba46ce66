//! Completion: which words may stand at the cursor.
//!
//! A pure function over the text before the cursor and the names the database is known
//! to have. After `FROM`, `JOIN`, `INTO`, `UPDATE` or `TABLE` come tables; after
//! `table.` its columns; after a backslash, commands; elsewhere keywords, columns of
//! the tables the statement mentions, and tables.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use reedline::{Completer, CompletionResult, Span, Suggestion};

use super::meta;
use crate::cli::reply::{quote_identifier, SmallResult};

/// Suggestions offered at once.
const SUGGESTIONS_MAX: usize = 200;

const KEYWORDS: &[&str] = &[
    "ALL",
    "ALTER TABLE",
    "ANALYZE",
    "AND",
    "AS",
    "AS OF",
    "ASC",
    "BEGIN",
    "BETWEEN",
    "BIGINT",
    "BOOLEAN",
    "BY",
    "CASE",
    "CAST",
    "COALESCE",
    "COMMIT",
    "COPY",
    "COUNT",
    "CREATE TABLE",
    "CROSS JOIN",
    "DATE",
    "DEFAULT",
    "DELETE FROM",
    "DESC",
    "DISTINCT",
    "DO NOTHING",
    "DO UPDATE SET",
    "DOUBLE PRECISION",
    "DROP TABLE",
    "ELSE",
    "END",
    "EXCEPT",
    "EXISTS",
    "EXPLAIN",
    "FALSE",
    "FOR SYSTEM_TIME AS OF",
    "FOR SYSTEM_TIME ALL",
    "FOR VALID_TIME AS OF",
    "FROM",
    "FULL JOIN",
    "GROUP BY",
    "HAVING",
    "HISTORY",
    "IF EXISTS",
    "IF NOT EXISTS",
    "ILIKE",
    "IN",
    "INNER JOIN",
    "INSERT INTO",
    "INTEGER",
    "INTERSECT",
    "INTERVAL",
    "IS NOT NULL",
    "IS NULL",
    "JOIN",
    "JSONB",
    "LATERAL",
    "LEFT JOIN",
    "LIKE",
    "LIMIT",
    "NOT",
    "NOT NULL",
    "NULL",
    "NUMERIC",
    "NULLS FIRST",
    "NULLS LAST",
    "OFFSET",
    "ON",
    "ON CONFLICT",
    "OR",
    "ORDER BY",
    "OVER",
    "PARTITION BY",
    "PRIMARY KEY",
    "RETURNING",
    "RIGHT JOIN",
    "ROLLBACK",
    "SELECT",
    "SET",
    "SHOW",
    "STDIN",
    "STDOUT",
    "SUM",
    "TABLE",
    "TEXT",
    "THEN",
    "TIMESTAMP",
    "TIMESTAMPTZ",
    "TO",
    "TRUE",
    "UNION",
    "UNION ALL",
    "UPDATE",
    "USING",
    "UUID",
    "VALUES",
    "WHEN",
    "WHERE",
    "WINDOW",
    "WITH",
];

const BEFORE_TABLE: &[&str] = &["FROM", "JOIN", "INTO", "UPDATE", "TABLE", "EXISTS", "COPY"];

/// Tables and their columns, as of the last look.
#[derive(Debug, Default)]
pub(crate) struct Names {
    tables: BTreeMap<String, Vec<String>>,
}

impl Names {
    /// Takes them from the answer to [`super::describe::names`].
    pub(crate) fn from_result(result: &SmallResult) -> Self {
        let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for row in &result.rows {
            if let [_, Some(table), Some(column)] = row.as_slice() {
                tables
                    .entry(table.clone())
                    .or_default()
                    .push(column.clone());
            }
        }
        Self { tables }
    }
}

/// Names shared between the prompt, which refreshes them, and the editor.
pub(crate) type SharedNames = Arc<RwLock<Names>>;

/// The word at the end of `before`, and what precedes it.
fn last_word(before: &str) -> (&str, &str) {
    let start = before
        .rfind(|c: char| !(c.is_alphanumeric() || c == '_' || c == '"' || c == '\\' || c == '?'))
        .map_or(0, |at| {
            at + before[at..].chars().next().map_or(1, char::len_utf8)
        });
    before.split_at(start)
}

/// Whether `before` ends inside a string or a comment, where nothing completes.
fn in_string(before: &str) -> bool {
    before.matches('\'').count() % 2 == 1
        || before
            .rsplit('\n')
            .next()
            .is_some_and(|line| line.contains("--"))
}

/// Words that may replace the last word of `before`; with whether a blank follows.
pub(crate) fn candidates(before: &str, names: &Names) -> Vec<(String, bool)> {
    let (context, word) = last_word(before);
    if word.starts_with('\\') && context.trim().is_empty() {
        let commands = meta::NAMES
            .iter()
            .filter(|(name, _)| name.starts_with(word));
        return commands
            .map(|(name, _)| ((*name).to_owned(), true))
            .collect();
    }
    if context.trim_start().starts_with("\\d") {
        return matching(names.tables.keys(), word);
    }
    if in_string(before) {
        return Vec::new();
    }
    if let Some(qualified) = context.strip_suffix('.') {
        let qualifier = last_word(qualified).1;
        let table = resolve(qualifier, before, names);
        return matching(table.into_iter().flatten(), word);
    }
    let previous = last_word(context.trim_end()).1.to_ascii_uppercase();
    if BEFORE_TABLE.contains(&previous.as_str()) {
        return matching(names.tables.keys(), word);
    }
    if word.is_empty() {
        return Vec::new();
    }
    let mentioned = names
        .tables
        .iter()
        .filter(|(table, _)| mentions(before, table))
        .flat_map(|(_, columns)| columns);
    let mut found = matching(mentioned, word);
    found.extend(matching(names.tables.keys(), word));
    found.extend(keywords(word));
    let mut seen = std::collections::HashSet::new();
    found.retain(|(candidate, _)| seen.insert(candidate.clone()));
    found
}

/// Keywords that begin with `word`, in the case it is written in.
fn keywords(word: &str) -> impl Iterator<Item = (String, bool)> + '_ {
    let upper = word.to_ascii_uppercase();
    let lower_case = word.chars().any(char::is_lowercase);
    KEYWORDS
        .iter()
        .filter(move |keyword| keyword.starts_with(&upper))
        .map(move |keyword| match lower_case {
            true => (keyword.to_ascii_lowercase(), true),
            false => ((*keyword).to_owned(), true),
        })
}

fn matching<'a>(names: impl Iterator<Item = &'a String>, word: &str) -> Vec<(String, bool)> {
    let plain = word.trim_start_matches('"').to_lowercase();
    names
        .filter(|name| name.to_lowercase().starts_with(&plain))
        .map(|name| (quote_identifier(name), false))
        .collect()
}

/// Whether `text` contains `table` as a word.
fn mentions(text: &str, table: &str) -> bool {
    let mut words = text.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    words.any(|word| word.eq_ignore_ascii_case(table))
}

/// The columns of the table that `qualifier` names, directly or as `table [AS] qualifier`.
fn resolve<'n>(
    qualifier: &str,
    text: &str,
    names: &'n Names,
) -> Option<impl Iterator<Item = &'n String>> {
    let wanted = qualifier.trim_matches('"');
    if let Some(columns) = names.tables.get(&wanted.to_lowercase()) {
        return Some(columns.iter());
    }
    let words: Vec<&str> = text
        .split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .filter(|word| !word.is_empty() && !word.eq_ignore_ascii_case("as"))
        .collect();
    words
        .windows(2)
        .filter(|pair| pair[1].eq_ignore_ascii_case(wanted))
        .find_map(|pair| names.tables.get(&pair[0].to_lowercase()))
        .map(|columns| columns.iter())
}

/// The editor's side of completion.
pub(crate) struct SqlCompleter {
    names: SharedNames,
}

impl SqlCompleter {
    /// Completes from `names`, as they are at the time.
    pub(crate) fn new(names: SharedNames) -> Self {
        Self { names }
    }
}

impl Completer for SqlCompleter {
    fn complete(&mut self, line: &str, pos: usize) -> CompletionResult {
        let before = line.get(..pos).unwrap_or(line);
        let start = before.len() - last_word(before).1.len();
        let found = match self.names.read() {
            Ok(names) => candidates(before, &names),
            Err(_) => Vec::new(),
        };
        let suggestions: Vec<Suggestion> = found
            .into_iter()
            .take(SUGGESTIONS_MAX)
            .map(|(value, append_whitespace)| Suggestion {
                description: describe(&value),
                value,
                span: Span::new(start, before.len()),
                append_whitespace,
                ..Suggestion::default()
            })
            .collect();
        CompletionResult::fresh(suggestions)
    }
}

fn describe(value: &str) -> Option<String> {
    let (_, text) = meta::NAMES.iter().find(|(name, _)| *name == value)?;
    Some((*text).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let tables = [
            ("readings", vec!["device_id", "metric", "value"]),
            ("devices", vec!["device_id", "site"]),
            ("Mixed", vec!["a"]),
        ];
        Names {
            tables: tables
                .into_iter()
                .map(|(table, columns)| {
                    (
                        table.to_owned(),
                        columns.into_iter().map(str::to_owned).collect(),
                    )
                })
                .collect(),
        }
    }

    fn complete(before: &str) -> Vec<String> {
        let found = candidates(before, &names());
        found.into_iter().map(|(value, _)| value).collect()
    }

    #[test]
    fn tables_follow_from() {
        assert_eq!(complete("select * from re"), ["readings"]);
        assert_eq!(
            complete("select * from "),
            ["\"Mixed\"", "devices", "readings"]
        );
        assert_eq!(complete("\\d dev"), ["devices"]);
    }

    #[test]
    fn columns_follow_a_table_or_its_alias() {
        assert_eq!(complete("select * from readings r where r.me"), ["metric"]);
        assert_eq!(
            complete("select readings."),
            ["device_id", "metric", "value"]
        );
        assert_eq!(
            complete("select * from readings where va"),
            ["value", "values"]
        );
        assert_eq!(complete("select x."), [""; 0]);
    }

    #[test]
    fn keywords_keep_their_case() {
        assert_eq!(complete("sel"), ["select"]);
        assert_eq!(complete("SEL"), ["SELECT"]);
        assert!(complete("select 'sel").is_empty());
        assert!(complete("-- sel").is_empty());
    }

    #[test]
    fn commands_complete_at_the_start_only() {
        assert_eq!(complete("\\ti"), ["\\timing"]);
        assert!(complete("select \\ti").is_empty());
    }
}
