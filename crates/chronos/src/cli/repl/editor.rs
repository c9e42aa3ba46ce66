//! The line editor: keys, history, hints, colours, and when Enter means "go".

use std::borrow::Cow;

use reedline::{
    default_emacs_keybindings, Color, ColumnarMenu, DefaultHinter, EditCommand, Emacs,
    FileBackedHistory, Highlighter, KeyCode, KeyModifiers, MenuBuilder, Prompt, PromptEditMode,
    PromptHistorySearch, PromptHistorySearchStatus, Reedline, ReedlineEvent, ReedlineMenu,
    StyledText, ValidationResult, Validator,
};

use super::complete::{SharedNames, SqlCompleter};
use super::scanner::{Open, Scanner};
use crate::cli::files;
use crate::cli::reply::Transaction;

/// Entries the history keeps.
const HISTORY_ENTRIES_MAX: usize = 10_000;
const MENU: &str = "completion";

/// The editor, ready to read statements.
pub(crate) fn editor(names: SharedNames) -> Reedline {
    let mut keys = default_emacs_keybindings();
    keys.add_binding(
        KeyModifiers::NONE,
        KeyCode::Tab,
        ReedlineEvent::UntilFound(vec![
            ReedlineEvent::Menu(MENU.to_owned()),
            ReedlineEvent::MenuNext,
        ]),
    );
    keys.add_binding(
        KeyModifiers::ALT,
        KeyCode::Enter,
        ReedlineEvent::Edit(vec![EditCommand::InsertNewline]),
    );
    let menu = ColumnarMenu::default().with_name(MENU);
    let mut editor = Reedline::create()
        .with_completer(Box::new(SqlCompleter::new(names)))
        .with_menu(ReedlineMenu::EngineCompleter(Box::new(menu)))
        .with_partial_completions(true)
        .with_quick_completions(true)
        .with_edit_mode(Box::new(Emacs::new(keys)))
        .with_validator(Box::new(UntilSemicolon))
        .with_highlighter(Box::new(Sql))
        .with_hinter(Box::new(
            DefaultHinter::default().with_style(Color::DarkGray.normal()),
        ))
        .with_history_exclusion_prefix(Some(" ".to_owned()));
    if std::env::var_os("NO_COLOR").is_some() {
        editor = editor.with_ansi_colors(false);
    }
    // A history that cannot be kept must not keep anyone from the prompt.
    let history = files::history_file()
        .and_then(|path| FileBackedHistory::with_file(HISTORY_ENTRIES_MAX, path).ok());
    match history {
        Some(history) => editor.with_history(Box::new(history)),
        None => editor,
    }
}

/// Enter ends the input when a statement is complete, or the line is a command.
struct UntilSemicolon;

impl Validator for UntilSemicolon {
    fn validate(&self, line: &str) -> ValidationResult {
        if is_complete(line) {
            ValidationResult::Complete
        } else {
            ValidationResult::Incomplete
        }
    }
}

fn is_complete(input: &str) -> bool {
    if input.trim_start().starts_with('\\') {
        return true;
    }
    // Words people type when they want out.
    if matches!(input.trim(), "exit" | "quit" | "help") {
        return true;
    }
    let mut scanner = Scanner::new();
    scanner.push(input);
    scanner.push("\n");
    scanner.open() == Open::Nothing
}

/// Colours strings, comments, numbers and keywords.
struct Sql;

impl Highlighter for Sql {
    fn highlight(&self, line: &str, _cursor: usize) -> StyledText {
        let mut styled = StyledText::new();
        for (part, text) in parts(line) {
            let style = match part {
                Part::Keyword => Color::Blue.bold(),
                Part::String => Color::Green.normal(),
                Part::Comment => Color::DarkGray.normal(),
                Part::Number => Color::Purple.normal(),
                Part::Other => Color::Default.normal(),
            };
            styled.push((style, text.to_owned()));
        }
        styled
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Keyword,
    String,
    Comment,
    Number,
    Other,
}

const COLOURED: &[&str] = &[
    "all",
    "alter",
    "analyze",
    "and",
    "as",
    "asc",
    "begin",
    "between",
    "by",
    "case",
    "commit",
    "conflict",
    "copy",
    "create",
    "cross",
    "default",
    "delete",
    "desc",
    "distinct",
    "do",
    "drop",
    "else",
    "end",
    "except",
    "exists",
    "explain",
    "false",
    "for",
    "from",
    "full",
    "group",
    "having",
    "if",
    "ilike",
    "in",
    "inner",
    "insert",
    "intersect",
    "interval",
    "into",
    "is",
    "join",
    "key",
    "lateral",
    "left",
    "like",
    "limit",
    "not",
    "nothing",
    "null",
    "of",
    "offset",
    "on",
    "or",
    "order",
    "over",
    "partition",
    "primary",
    "returning",
    "right",
    "rollback",
    "select",
    "set",
    "show",
    "system_time",
    "table",
    "then",
    "to",
    "true",
    "union",
    "update",
    "using",
    "valid_time",
    "values",
    "when",
    "where",
    "window",
    "with",
];

/// Cuts a line into parts that together are the line.
fn parts(line: &str) -> Vec<(Part, &str)> {
    let mut found = Vec::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let end_of_word = || {
            rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.'))
                .unwrap_or(rest.len())
        };
        let after = |quote: char| rest[1..].find(quote).map_or(rest.len(), |at| at + 2);
        let (part, length) = match first {
            '\'' => (Part::String, after('\'')),
            '"' => (Part::Other, after('"')),
            '-' if rest.starts_with("--") => (Part::Comment, rest.find('\n').unwrap_or(rest.len())),
            '/' if rest.starts_with("/*") => (
                Part::Comment,
                rest.find("*/").map_or(rest.len(), |at| at + 2),
            ),
            c if c.is_ascii_digit() => (Part::Number, end_of_word()),
            c if c.is_alphabetic() || c == '_' => {
                let length = end_of_word();
                let word = rest[..length].to_ascii_lowercase();
                match COLOURED.binary_search(&word.as_str()) {
                    Ok(_) => (Part::Keyword, length),
                    Err(_) => (Part::Other, length),
                }
            }
            c => (Part::Other, c.len_utf8()),
        };
        found.push((part, &rest[..length]));
        rest = &rest[length..];
    }
    found
}

/// `database=> `, with `*` in a transaction and `!` in a failed one.
pub(crate) struct SqlPrompt {
    database: String,
    mark: &'static str,
    continuation: String,
}

impl SqlPrompt {
    /// The prompt for this moment.
    pub(crate) fn new(database: &str, transaction: Transaction) -> Self {
        let continuation = format!("{}-> ", database);
        Self {
            database: database.to_owned(),
            mark: match transaction {
                Transaction::Idle => "=> ",
                Transaction::Open => "=*> ",
                Transaction::Failed => "=!> ",
            },
            continuation,
        }
    }
}

impl Prompt for SqlPrompt {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.database)
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_indicator(&self, _mode: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed(self.mark)
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.continuation)
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        let failing = match search.status {
            PromptHistorySearchStatus::Passing => "",
            PromptHistorySearchStatus::Failing => "failing ",
        };
        Cow::Owned(format!(" ({failing}search: {}) ", search.term))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enter_waits_for_the_semicolon() {
        for complete in [
            "select 1;",
            "select 1; -- x",
            "",
            "  ",
            "\\d",
            "quit",
            "-- note",
        ] {
            assert!(is_complete(complete), "{complete:?}");
        }
        for incomplete in [
            "select 1",
            "select ';",
            "select (1;",
            "/* a",
            "select 1; select 2",
        ] {
            assert!(!is_complete(incomplete), "{incomplete:?}");
        }
    }

    #[test]
    fn colouring_loses_nothing() {
        assert!(COLOURED.is_sorted());
        for line in [
            "select 'é' from t -- x\nwhere a=1.5",
            "'open",
            "\"q\"/* c",
            "日本 ؟",
            "a.b",
        ] {
            let joined: String = parts(line).into_iter().map(|(_, text)| text).collect();
            assert_eq!(joined, line);
        }
        assert_eq!(parts("select 1")[0], (Part::Keyword, "select"));
        assert_eq!(parts("selected")[0].0, Part::Other);
    }
}
