//! Words that PostgreSQL's grammar takes for itself.

/// Whether a folded word without quotes cannot be a column, a table or an alias
/// (PostgreSQL 17, appendix C: "reserved", with and without "can be function or
/// type").
pub fn is_reserved(word: &str) -> bool {
    match word.len() {
        2 => matches!(word, "as" | "do" | "in" | "is" | "on" | "or" | "to"),
        3 => matches!(word, "all" | "and" | "any" | "asc" | "end" | "for" | "not"),
        4 => matches!(
            word,
            "both"
                | "case"
                | "cast"
                | "desc"
                | "else"
                | "from"
                | "full"
                | "into"
                | "join"
                | "left"
                | "like"
                | "null"
                | "only"
                | "some"
                | "then"
                | "true"
                | "user"
                | "when"
                | "with"
        ),
        5 => matches!(
            word,
            "array"
                | "check"
                | "cross"
                | "false"
                | "fetch"
                | "grant"
                | "group"
                | "ilike"
                | "inner"
                | "limit"
                | "order"
                | "outer"
                | "right"
                | "table"
                | "union"
                | "using"
                | "where"
        ),
        6 => matches!(
            word,
            "binary"
                | "column"
                | "create"
                | "except"
                | "freeze"
                | "having"
                | "isnull"
                | "offset"
                | "select"
                | "unique"
                | "window"
        ),
        7 => matches!(
            word,
            "analyse"
                | "analyze"
                | "collate"
                | "default"
                | "foreign"
                | "lateral"
                | "leading"
                | "natural"
                | "notnull"
                | "placing"
                | "primary"
                | "similar"
                | "verbose"
        ),
        8 => matches!(word, "distinct" | "overlaps" | "trailing" | "variadic"),
        9 => matches!(
            word,
            "collation" | "initially" | "intersect" | "localtime" | "returning" | "symmetric"
        ),
        _ => matches!(
            word,
            "asymmetric"
                | "authorization"
                | "concurrently"
                | "constraint"
                | "current_catalog"
                | "current_date"
                | "current_role"
                | "current_schema"
                | "current_time"
                | "current_timestamp"
                | "current_user"
                | "deferrable"
                | "localtimestamp"
                | "references"
                | "session_user"
                | "system_user"
                | "tablesample"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_grammar_are_told_from_names() {
        for word in ["select", "user", "left", "current_timestamp", "analyse"] {
            assert!(is_reserved(word), "{word}");
        }
        for word in ["device_id", "timestamp", "value", "Select", ""] {
            assert!(!is_reserved(word), "{word}");
        }
    }
}
