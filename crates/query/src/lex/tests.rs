//! Tables of texts and their tokens.

use proptest::prelude::*;

use super::*;

fn shape(sql: &str) -> String {
    let name = |t: Token| match t.kind {
        TokenKind::Word => "w",
        TokenKind::QuotedIdent => "q",
        TokenKind::UnicodeIdent => "uq",
        TokenKind::String => match t.string_kind(sql).unwrap() {
            StringKind::Plain => "s",
            StringKind::Escape => "es",
            StringKind::Unicode => "us",
            StringKind::Dollar => "ds",
            StringKind::Bit => "bs",
            StringKind::Hex => "xs",
        },
        TokenKind::Number => "n",
        TokenKind::Param => "p",
        TokenKind::Operator => "o",
        TokenKind::Punct(_) => "",
        TokenKind::Comment => "c",
        TokenKind::Error(_) => "!",
    };
    tokens(sql)
        .map(|t| format!("{}{}", name(t), t.text(sql)))
        .collect::<Vec<_>>()
        .join("|")
}

#[test]
fn cuts_tokens_as_postgres_does() {
    let cases = [
        ("SELECT a.b,$1", "wSELECT|wa|.|wb|,|p$1"),
        ("größe_1$x \"A\"\"b\"", "wgröße_1$x|q\"A\"\"b\""),
        (
            "1 1.5 .5 1. 1e10 1.5E-3 1_000 0x1F 0b10 0o17",
            "n1|n1.5|n.5|n1.|n1e10|n1.5E-3|n1_000|n0x1F|n0b10|n0o17",
        ),
        ("1..2 1.2.3", "n1|o..|n2|n1.2|n.3"),
        ("1a 1_ 0x 1e+ $1a", "!1a|!1_|!0x|!1e+|!$1a"),
        ("a::int b:=1 c:d", "wa|o::|wint|wb|o:=|n1|wc|:|wd"),
        ("a->>'b'<=>c<->d@>e", "wa|o->>|s'b'|o<=>|wc|o<->|wd|o@>|we"),
        (
            "x=-1 y>=-2 z@-3 a*-b",
            "wx|o=|o-|n1|wy|o>=|o-|n2|wz|o@-|n3|wa|o*|o-|wb",
        ),
        ("a--b\nc+--d", "wa|c--b|wc|o+|c--d"),
        (
            "a/* x /* y */ z */b+/*c*/",
            "wa|c/* x /* y */ z */|wb|o+|c/*c*/",
        ),
        (
            "'it''s' E'a\\'b' e'' B'01' x'1f'",
            "s'it''s'|esE'a\\'b'|ese''|bsB'01'|xsx'1f'",
        ),
        ("'a'\n  'b' 'c' 'd'", "s'a'\n  'b'|s'c'|s'd'"),
        ("'a' -- one\n 'b'", "s'a' -- one\n 'b'"),
        (
            "U&'d\\0061' u&\"x\" U & 'x'",
            "usU&'d\\0061'|uqu&\"x\"|wU|o&|s'x'",
        ),
        (
            "$$a'b;$$ $t$ $$ $t$ a$t$b",
            "ds$$a'b;$$|ds$t$ $$ $t$|wa$t$b",
        ),
        ("$ \\ {", "!$|!\\|!{"),
        ("N'x' count(*)", "wN|s'x'|wcount|(|o*|)"),
        ("[1:2]", "[|n1|:|n2|]"),
        ("'open", "!'open"),
        ("\"open", "!\"open"),
        ("\"\"x", "!\"\"|wx"),
        ("$a$open$b$", "!$a$open$b$"),
        ("/* open /* */", "!/* open /* */"),
        ("E'open\\'", "!E'open\\'"),
        ("", ""),
        (" \t\u{b}\u{c}\r\n", ""),
    ];
    for (sql, expected) in cases {
        assert_eq!(shape(sql), expected, "{sql}");
    }
}

#[test]
fn faults_read_as_in_postgres() {
    let cases = [
        (
            "select 'abc",
            "unterminated quoted string at or near \"'abc\"",
            7,
        ),
        (
            "B'01",
            "unterminated bit string literal at or near \"B'01\"",
            0,
        ),
        (
            "X'01",
            "unterminated hexadecimal string literal at or near \"X'01\"",
            0,
        ),
        (
            "a $x$ b",
            "unterminated dollar-quoted string at or near \"$x$ b\"",
            2,
        ),
        (
            "\"a",
            "unterminated quoted identifier at or near \"\"a\"",
            0,
        ),
        (
            "\"\"",
            "zero-length delimited identifier at or near \"\"\"\"",
            0,
        ),
        ("1 /* a", "unterminated /* comment at or near \"/* a\"", 2),
        (
            "ä 12ab",
            "trailing junk after numeric literal at or near \"12ab\"",
            3,
        ),
        ("$1x", "trailing junk after parameter at or near \"$1x\"", 0),
        ("0x", "invalid hexadecimal integer at or near \"0x\"", 0),
        ("a \\ b", "syntax error at or near \"\\\"", 2),
    ];
    for (sql, message, position) in cases {
        let error = split(sql).unwrap_err();
        assert_eq!(error.message, message);
        assert_eq!(error.position, position, "{sql}");
        assert_eq!(error.code, SqlState::SYNTAX_ERROR);
    }
    assert_eq!(char_position("ä 12ab", 3), 3);
    assert_eq!(char_position("", 0), 1);
}

fn only(sql: &str) -> Token {
    let mut all = tokens(sql);
    let token = all.next().unwrap();
    assert!(all.next().is_none(), "{sql}");
    token
}

#[test]
fn decodes_strings() {
    let cases = [
        ("'abc'", "abc"),
        ("''", ""),
        ("''''", "'"),
        ("'it''s'\n'' \n 'x''y'", "it'sx'y"),
        ("'a\\n'", "a\\n"),
        ("E'abc'", "abc"),
        (r"E'\b\f\n\r\t\v\\\'\q'''", "\u{8}\u{c}\n\r\t\u{b}\\'q'"),
        (r"E'\101\x41\x4a\7\xg'", "AAJ\u{7}xg"),
        (r"E'\u00e4\U0001F600\ud83d\ude00'", "ä😀😀"),
        (r"E'\303\244'", "ä"),
        ("E'a\\n'\n'b\\n'", "a\nb\n"),
        ("$$a'$b$$", "a'$b"),
        ("$t$a$$b$t$", "a$$b"),
        (r"U&'d\0061t\+000061\\'", "data\\"),
        (r"U&'\d83d\de00'", "😀"),
        ("B'0101'", "0101"),
        ("x'1F'", "1F"),
    ];
    for (sql, expected) in cases {
        assert_eq!(unescape_string(&only(sql), sql), expected, "{sql}");
    }
    let faults = [
        (r"E'\u12'", Fault::BadEscape),
        (r"E'\ud83dx'", Fault::BadSurrogatePair),
        (r"E'\U00110000'", Fault::BadEscapeValue),
        (r"E'\xff'", Fault::BadUtf8),
        (r"E'\0'", Fault::BadUtf8),
        (r"U&'\00'", Fault::BadEscape),
        (r"U&'\0000'", Fault::BadEscapeValue),
        (r#"U&"\00""#, Fault::BadEscape),
    ];
    for (sql, fault) in faults {
        assert_eq!(only(sql).kind, TokenKind::Error(fault), "{sql}");
    }
    assert_eq!(split(r"E'\u12'").unwrap_err().code, SqlState("22025"));
    assert!(matches!(
        unescape_string(&only("'abc'"), "'abc'"),
        std::borrow::Cow::Borrowed("abc")
    ));
}

#[test]
fn decodes_identifiers() {
    let cases = [
        ("Abc", "abc"),
        ("ÄB", "Äb"),
        ("\"Abc\"", "Abc"),
        ("\"a\"\"b\"", "a\"b"),
        (r#"U&"d\0061""""#, "da\""),
    ];
    for (sql, expected) in cases {
        assert_eq!(ident(&only(sql), sql), expected, "{sql}");
    }
}

#[test]
fn splits_statements() {
    let cases: [(&str, &[&str]); 8] = [
        ("", &[]),
        (" ; ;; -- x\n", &[]),
        ("select 1", &["select 1"]),
        ("select 1; select 2;", &["select 1", "select 2"]),
        (
            "select ';', \";\", $$;$$ /* ; */; b -- ;",
            &["select ';', \";\", $$;$$", "b"],
        ),
        (
            "-- a\nselect /* in */ 1 -- z\n; x",
            &["select /* in */ 1", "x"],
        ),
        ("a (;) b", &["a (", ") b"]),
        (
            "begin; insert into t values ('x;'';'); commit",
            &["begin", "insert into t values ('x;'';')", "commit"],
        ),
    ];
    for (sql, expected) in cases {
        let parts: Vec<_> = split(sql)
            .unwrap()
            .iter()
            .map(|s| &sql[s.start..s.end])
            .collect();
        assert_eq!(parts, expected, "{sql}");
    }
}

#[test]
fn knows_when_a_reader_may_send() {
    for sql in [
        "",
        " \n",
        "-- x",
        "select 1;",
        "select 1; -- done",
        "select 1; /* a */ ",
        ";",
    ] {
        assert!(ends_in_statement(sql), "{sql}");
    }
    for sql in [
        "select 1",
        "select ';",
        "select 1; x",
        "select 1 -- ;",
        "a; /* b",
        "$$;",
        "\";",
    ] {
        assert!(!ends_in_statement(sql), "{sql}");
    }
}

/// Text rich in what the scanner looks at.
pub(crate) fn soup() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("'"),
        Just("\""),
        Just("$"),
        Just("$$"),
        Just("$1"),
        Just("\\"),
        Just("E'"),
        Just("U&'"),
        Just("U&\""),
        Just("--"),
        Just("/*"),
        Just("*/"),
        Just("\n"),
        Just(" "),
        Just("0x"),
        Just("1e"),
        Just("."),
        Just("a"),
        Just("ä"),
        Just("😀"),
        Just("\\u"),
        Just("d83d"),
        Just(";"),
        Just("::"),
        Just("-"),
        Just("+"),
        Just("\0"),
        Just("FOR"),
        Just("SYSTEM_TIME"),
        Just("("),
        Just(")"),
        Just("7"),
        Just("_"),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|p| p.concat())
}

proptest! {
    #[test]
    fn any_text_is_covered_by_tokens(sql in prop_oneof![soup(), any::<String>()]) {
        let mut end = 0;
        for token in tokens(&sql) {
            prop_assert!(token.start >= end && token.end > token.start && token.end <= sql.len());
            prop_assert!(sql[end..token.start].trim().is_empty());
            prop_assert!(sql.is_char_boundary(token.start) && sql.is_char_boundary(token.end));
            let _ = ident(&token, &sql);
            let _ = unescape_string(&token, &sql);
            end = token.end;
        }
        prop_assert!(sql[end..].trim().is_empty());
        let _ = split(&sql);
        let _ = ends_in_statement(&sql);
    }

    #[test]
    fn a_quoted_string_reads_back(text in any::<String>()) {
        let sql = format!("'{}'", text.replace('\'', "''"));
        prop_assert_eq!(unescape_string(&only(&sql), &sql), text.as_str());
        let escaped = format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
        if !text.contains('\0') {
            prop_assert_eq!(unescape_string(&only(&escaped), &escaped), text.as_str());
        }
    }
}
