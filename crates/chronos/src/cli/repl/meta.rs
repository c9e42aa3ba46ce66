//! Commands to the prompt itself, which begin with a backslash: their grammar and help.

use crate::cli::args::Format;

/// A parsed command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Meta {
    /// `\d`: tables and views.
    Relations,
    /// `\d t`: one table's columns.
    Describe(String),
    /// `\dt`: tables.
    Tables,
    /// `\timing [on|off]`; `None` toggles.
    Timing(Option<bool>),
    /// `\x [on|off]`; `None` toggles.
    Expanded(Option<bool>),
    /// `\format F`; `None` shows it.
    Format(Option<Format>),
    /// `\i FILE`.
    Include(String),
    /// `\o [FILE]`; `None` is back to stdout.
    Output(Option<String>),
    /// `\echo TEXT`.
    Echo(String),
    /// `\?`.
    Help,
    /// `\h`.
    SqlHelp,
    /// `\conninfo`.
    ConnectionInfo,
    /// `\q`.
    Quit,
}

/// Names that complete, with a word on each.
pub(crate) const NAMES: &[(&str, &str)] = &[
    ("\\?", "this help"),
    ("\\conninfo", "where this session is connected to"),
    ("\\d", "tables and views, or the columns of one"),
    ("\\dt", "tables"),
    ("\\echo", "print a line"),
    ("\\format", "table, csv, json or line"),
    ("\\h", "SQL by example"),
    ("\\i", "run a file"),
    ("\\o", "send results to a file, or back to the terminal"),
    ("\\q", "leave"),
    ("\\timing", "show how long statements take"),
    ("\\x", "records below each other"),
];

/// What `\?` prints.
pub(crate) const HELP: &str = "\
\\d [TABLE]       tables and views, or the columns of one
\\dt              tables
\\x [on|off]      records below each other
\\timing [on|off] show how long statements take
\\format FORMAT   print results as table, csv, json or line
\\i FILE          run the statements of a file
\\o [FILE]        send results to a file, or back to the terminal
\\echo TEXT       print a line
\\conninfo        where this session is connected to
\\h               SQL by example
\\q               leave (as does Ctrl-D)

A statement ends with ; and may span lines. Tab completes; Ctrl-R searches the history;
Ctrl-C drops the input, or stops the running statement. A line that begins with a blank
is kept out of the history.";

/// What `\h` prints.
pub(crate) const SQL_HELP: &str = "\
Tables and rows
  CREATE TABLE t (id BIGINT PRIMARY KEY, name TEXT NOT NULL, at TIMESTAMPTZ DEFAULT now());
  INSERT INTO t (id, name) VALUES (1, 'pump') ON CONFLICT (id) DO UPDATE SET name = excluded.name;
  UPDATE t SET name = 'pump 2' WHERE id = 1 RETURNING *;
  DELETE FROM t WHERE id = 1;
  COPY t TO STDOUT WITH (FORMAT csv, HEADER);

The past
  SELECT * FROM t FOR SYSTEM_TIME AS OF '2025-01-31 12:00:00+00';
  SELECT * FROM t FOR SYSTEM_TIME AS OF now() - INTERVAL '5 minutes';
  SELECT *, _system_from, _system_to FROM t FOR SYSTEM_TIME ALL WHERE id = 1;
  SELECT * FROM history('t', 1);

Plans
  EXPLAIN ANALYZE SELECT count(*) FROM t;";

/// Parses a line that begins with a backslash. The error is a sentence for the person.
pub(crate) fn parse(line: &str) -> Result<Meta, String> {
    let line = line.trim().trim_end_matches(';').trim_end();
    let (name, argument) = line
        .split_once(char::is_whitespace)
        .map_or((line, ""), |(name, rest)| (name, rest.trim()));
    let unquoted = unquote(argument);
    let optional = (!unquoted.is_empty()).then_some(unquoted.clone());
    let meta = match name {
        "\\d" => optional.map_or(Meta::Relations, |_| Meta::Describe(argument.to_owned())),
        "\\dt" => Meta::Tables,
        "\\timing" => Meta::Timing(switch(argument)?),
        "\\x" => Meta::Expanded(switch(argument)?),
        "\\format" => Meta::Format(optional.as_deref().map(format).transpose()?),
        "\\i" | "\\include" => Meta::Include(optional.ok_or("\\i needs a file name")?),
        "\\o" | "\\out" => Meta::Output(optional),
        "\\echo" => Meta::Echo(unquoted),
        "\\?" | "\\help" => Meta::Help,
        "\\h" => Meta::SqlHelp,
        "\\conninfo" => Meta::ConnectionInfo,
        "\\q" | "\\quit" | "\\exit" => Meta::Quit,
        _ => return Err(format!("unknown command {name}; \\? lists the commands")),
    };
    Ok(meta)
}

fn switch(argument: &str) -> Result<Option<bool>, String> {
    match argument.to_ascii_lowercase().as_str() {
        "" => Ok(None),
        "on" | "true" | "1" => Ok(Some(true)),
        "off" | "false" | "0" => Ok(Some(false)),
        _ => Err(format!("expected on or off, not {argument:?}")),
    }
}

fn format(argument: &str) -> Result<Format, String> {
    clap::ValueEnum::from_str(argument, true)
        .map_err(|_| format!("expected table, csv, json or line, not {argument:?}"))
}

/// An argument in single quotes may hold blanks; a quote in it is doubled.
fn unquote(argument: &str) -> String {
    match argument
        .strip_prefix('\'')
        .and_then(|rest| rest.strip_suffix('\''))
    {
        Some(inner) => inner.replace("''", "'"),
        None => argument.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_parse() {
        assert_eq!(parse("\\d"), Ok(Meta::Relations));
        assert_eq!(
            parse("\\d readings;"),
            Ok(Meta::Describe("readings".into()))
        );
        assert_eq!(parse("\\x"), Ok(Meta::Expanded(None)));
        assert_eq!(parse("\\timing OFF"), Ok(Meta::Timing(Some(false))));
        assert_eq!(parse("\\format JSON"), Ok(Meta::Format(Some(Format::Json))));
        assert_eq!(
            parse("\\i 'my file.sql'"),
            Ok(Meta::Include("my file.sql".into()))
        );
        assert_eq!(parse("\\o"), Ok(Meta::Output(None)));
    }

    #[test]
    fn mistakes_are_explained() {
        assert!(parse("\\nope").is_err_and(|e| e.contains("\\nope") && e.contains("\\?")));
        assert!(parse("\\x maybe").is_err());
        assert!(parse("\\i").is_err());
        assert!(parse("\\format xml").is_err());
    }

    #[test]
    fn every_name_that_completes_exists() {
        for (name, _) in NAMES {
            let line = if *name == "\\i" { "\\i f" } else { name };
            assert!(parse(line).is_ok(), "{name}");
            assert!(HELP.contains(name) || *name == "\\?", "{name}");
        }
    }
}
