//! Parses TOML 1.0 with spans. The `toml` crate reads TOML 1.1 and dates, which Nix's
//! `builtins.fromTOML` does not: whatever the two would understand differently is a problem here.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};
use toml_parser::{
    Source,
    lexer::{Token, TokenKind},
};

use crate::diagnostic::Problem;

/// Tables as far as they could be read, and everything that is wrong with their syntax.
pub struct Parsed<'a> {
    pub table: DeTable<'a>,
    pub problems: Vec<Problem>,
}

/// The text of a file, or where it stops being UTF-8. The span counts in the lossy text, which is what a
/// person is shown.
pub fn decode(bytes: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let replacement = at..at + char::REPLACEMENT_CHARACTER.len_utf8();
        Problem::new(replacement, format!("not UTF-8: byte 0x{:02x} cannot stand here", bytes[at]))
            .help("TOML is UTF-8 text; save the file in that encoding")
    })
}

/// Reads a text as TOML 1.0 without dates.
pub fn parse(text: &str) -> Parsed<'_> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut problems: Vec<Problem> = errors.iter().map(|error| syntax(text, error)).collect();
    // What follows on the same line is mostly the parser's own confusion.
    problems.sort_by_key(|problem| problem.span.start);
    problems.dedup_by_key(|problem| text.as_bytes()[..problem.span.start].iter().filter(|b| **b == b'\n').count());
    if problems.is_empty() {
        let tokens = Source::new(text).lex().into_vec();
        newer_inline_tables(&tokens, &mut problems);
        newer_escapes(text, &tokens, &mut problems);
        unreadable_table(table.get_ref(), &mut problems);
    }
    Parsed { table: table.into_inner(), problems }
}

fn syntax(text: &str, error: &toml::de::Error) -> Problem {
    let span = error.span().unwrap_or(text.len()..text.len());
    let message = error.message().lines().collect::<Vec<_>>().join(", ");
    let problem = Problem::new(span, format!("not TOML: {message}"));
    problem.help(match message.as_str() {
        text if text.starts_with("duplicate key") => {
            "a table or a key stands only once in a file; merge the two or rename one"
        }
        text if text.contains("must be quoted") => "put the value in quotes",
        _ => "the syntax is described at https://toml.io/en/v1.0.0",
    })
}

/// TOML 1.1 allows newlines, comments and a last comma in an inline table.
fn newer_inline_tables(tokens: &[Token], problems: &mut Vec<Problem>) {
    let mut open = Vec::new();
    let mut previous: Option<&Token> = None;
    for token in tokens {
        match token.kind() {
            kind @ (TokenKind::LeftCurlyBracket | TokenKind::LeftSquareBracket) => open.push(kind),
            TokenKind::RightCurlyBracket => {
                open.pop();
                if let Some(comma) = previous.filter(|before| before.kind() == TokenKind::Comma) {
                    problems.push(
                        Problem::new(span(comma), "a comma after the last value of an inline table is TOML 1.1")
                            .help("Nix reads TOML 1.0: remove the comma"),
                    );
                }
            }
            TokenKind::RightSquareBracket => drop(open.pop()),
            TokenKind::Newline | TokenKind::Comment if open.last() == Some(&TokenKind::LeftCurlyBracket) => {
                problems.push(
                    Problem::new(span(token), "an inline table over several lines is TOML 1.1")
                        .help("Nix reads TOML 1.0: write it on one line, or as a [table]"),
                );
            }
            _ => {}
        }
        if !matches!(token.kind(), TokenKind::Whitespace | TokenKind::Newline | TokenKind::Comment) {
            previous = Some(token);
        }
    }
}

/// TOML 1.1 added `\e` and `\xHH` to the escapes of basic strings and quoted keys.
fn newer_escapes(text: &str, tokens: &[Token], problems: &mut Vec<Problem>) {
    for token in tokens.iter().filter(|t| matches!(t.kind(), TokenKind::BasicString | TokenKind::MlBasicString)) {
        let start = token.span().start();
        let mut characters = text[span(token)].char_indices();
        while let Some((at, character)) = characters.next() {
            if character != '\\' {
                continue;
            }
            if let Some((_, escape @ ('e' | 'x'))) = characters.next() {
                let at = start + at;
                problems.push(
                    Problem::new(at..at + 2, format!("the escape `\\{escape}` is TOML 1.1"))
                        .help("Nix reads TOML 1.0: write \\u00 and two hexadecimal digits"),
                );
            }
        }
    }
}

/// Values that are TOML and that Nix has no value for.
fn unreadable_table(table: &DeTable, problems: &mut Vec<Problem>) {
    for (key, value) in table {
        nul(key.get_ref(), key.span(), problems);
        unreadable(value, problems);
    }
}

fn unreadable(value: &Spanned<DeValue>, problems: &mut Vec<Problem>) {
    match value.get_ref() {
        DeValue::Datetime(_) => problems.push(
            Problem::new(value.span(), "a date or time, which Nix cannot read").help("write it as a string, in quotes"),
        ),
        DeValue::String(text) => nul(text, value.span(), problems),
        // The parser leaves it to its caller to find out whether digits make a number.
        DeValue::Integer(number) if i64::from_str_radix(number.as_str(), number.radix()).is_err() => problems.push(
            Problem::new(value.span(), "no integer of 64 bits").help("write it as a string if it is a name, in quotes"),
        ),
        DeValue::Array(items) => items.iter().for_each(|item| unreadable(item, problems)),
        DeValue::Table(table) => unreadable_table(table, problems),
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) => {}
    }
}

fn nul(text: &str, span: Range<usize>, problems: &mut Vec<Problem>) {
    if text.contains('\0') {
        problems.push(Problem::new(span, "a NUL character, which Nix strings cannot hold").help("remove \\u0000"));
    }
}

fn span(token: &Token) -> Range<usize> {
    token.span().start()..token.span().end()
}
