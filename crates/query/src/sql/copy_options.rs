//! Truth values of COPY's options as PostgreSQL takes them: `ON`, `OFF`, `1` and `0` too, of
//! which the parser knows none.

use std::borrow::Cow;

use crate::lex::{Token, TokenKind};

/// Options of COPY that are on or off.
const SWITCHES: [&str; 2] = ["freeze", "header"];

/// A COPY with `TRUE` and `FALSE` in their place.
pub(super) fn with_truth_values(sql: &str) -> Cow<'_, str> {
    let mut tokens = crate::lex::tokens(sql).filter(|t| t.kind != TokenKind::Comment);
    if !tokens
        .next()
        .is_some_and(|first| first.is_word(sql, "copy"))
    {
        return sql.into();
    }
    let tokens: Vec<Token> = tokens.collect();
    let mut text = sql.to_owned();
    // From the end, so that positions before stay what they are.
    for around in tokens.windows(4).rev() {
        let [before, option, value, after] = around else {
            continue;
        };
        let is_switch = SWITCHES.iter().any(|word| option.is_word(sql, word));
        let is_option =
            ["(", ","].contains(&before.text(sql)) && [")", ","].contains(&after.text(sql));
        if !is_switch || !is_option {
            continue;
        }
        let meant = match value.text(sql).to_ascii_lowercase().as_str() {
            "on" | "1" => "TRUE",
            "off" | "0" => "FALSE",
            _ => continue,
        };
        text.replace_range(value.start..value.end, meant);
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::with_truth_values;

    #[test]
    fn switches_are_spelled_out_and_nothing_else_is() {
        for (written, meant) in [
            (
                "copy t from stdin with (freeze on)",
                "copy t from stdin with (freeze TRUE)",
            ),
            (
                "COPY t FROM STDIN (HEADER OFF, FREEZE 1)",
                "COPY t FROM STDIN (HEADER FALSE, FREEZE TRUE)",
            ),
            (
                "COPY t FROM STDIN (HEADER, FORMAT csv)",
                "COPY t FROM STDIN (HEADER, FORMAT csv)",
            ),
            ("SELECT f(header on)", "SELECT f(header on)"),
        ] {
            assert_eq!(with_truth_values(written), meant);
        }
    }
}
