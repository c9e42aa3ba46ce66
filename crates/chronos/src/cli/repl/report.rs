//! SQL errors as a person reads them: the sentence, the place, the way out.

use crate::cli::output::{one_line, width};
use crate::cli::reply::SqlError;

/// Characters of a long line shown before and after the place of the error.
const WINDOW: usize = 50;

/// The error as several lines, ended by a line feed:
///
/// ```text
/// ERROR:  table "x" does not exist (42P01)
/// LINE 2:   from x
///                ^
/// HINT:  …
/// ```
pub(crate) fn error_text(error: &SqlError, sql: &str) -> String {
    let severity = if error.severity.is_empty() {
        "ERROR"
    } else {
        &error.severity
    };
    let mut text = format!("{severity}:  {}\n", error.to_string().trim_end());
    if let Some(place) = error.position.and_then(|position| place(sql, position)) {
        text.push_str(&place);
    }
    let more = [
        ("DETAIL", &error.detail),
        ("HINT", &error.hint),
        ("CONTEXT", &error.context),
    ];
    for (label, value) in more {
        if let Some(value) = value {
            text.push_str(&format!("{label}:  {value}\n"));
        }
    }
    text
}

/// The line that holds the character at `position` (counted from 1), and a caret.
fn place(sql: &str, position: usize) -> Option<String> {
    let (at, _) = sql
        .char_indices()
        .chain([(sql.len(), ' ')])
        .nth(position.checked_sub(1)?)?;
    let start = sql[..at].rfind('\n').map_or(0, |feed| feed + 1);
    let end = sql[at..].find('\n').map_or(sql.len(), |feed| at + feed);
    let number = sql[..start].matches('\n').count() + 1;

    let before: Vec<char> = sql[start..at].chars().collect();
    let after: Vec<char> = sql[at..end].chars().collect();
    let skipped = before.len().saturating_sub(WINDOW);
    let left: String = before[skipped..].iter().collect();
    let right: String = after.iter().take(WINDOW).collect();
    let left_mark = if skipped > 0 { "…" } else { "" };
    let right_mark = if after.len() > WINDOW { "…" } else { "" };

    let head = format!("LINE {number}: {left_mark}{}", one_line(&left));
    let caret = width(&head);
    let shown = one_line(&right);
    Some(format!("{head}{shown}{right_mark}\n{:caret$}^\n", ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(position: Option<usize>) -> SqlError {
        SqlError {
            severity: "ERROR".into(),
            code: "42P01".into(),
            message: "table \"x\" does not exist".into(),
            hint: Some("create it".into()),
            position,
            ..SqlError::default()
        }
    }

    #[test]
    fn the_caret_stands_under_the_place() {
        // The 22nd character; not the 24th byte.
        let text = error_text(&error(Some(22)), "select '水',\n  a from x");
        let expected = [
            "ERROR:  table \"x\" does not exist (42P01)",
            "LINE 2:   a from x",
            "                 ^",
            "HINT:  create it",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn long_lines_are_shown_around_the_place() {
        let sql = format!(
            "select {} from x where {}",
            "a,".repeat(200),
            "b".repeat(200)
        );
        let at = sql.find(" x ").unwrap() + 2;
        let text = error_text(&error(Some(at)), &sql);
        let lines: Vec<&str> = text.lines().collect();
        assert!(width(lines[1]) < 120);
        let column = width(lines[2]) - 1;
        assert_eq!(lines[1].chars().nth(column), Some('x'));
    }

    #[test]
    fn positions_outside_are_ignored() {
        for position in [None, Some(0), Some(10), Some(usize::MAX)] {
            assert!(!error_text(&error(position), "select 1").contains("LINE"));
        }
        // Just behind the end is where an unfinished statement lacks something.
        assert!(error_text(&error(Some(9)), "select 1").contains("LINE 1: select 1\n"));
    }
}
