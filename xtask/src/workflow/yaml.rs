//! YAML text in, JSON values out, for the subset of YAML 1.2 that the workflows are written in: block
//! mappings and sequences, plain and quoted scalars, block scalars, flow sequences of scalars. Anything else
//! is an error with its line: a workflow must not mean one thing here and another on GitHub.

use anyhow::{Result, bail};
use serde_json::{Map, Value};

/// Reads one document.
pub fn parse(text: &str) -> Result<Value> {
    let lines = text.lines().enumerate().map(|(n, raw)| Line::new(n + 1, raw)).collect::<Result<Vec<_>>>()?;
    let mut parser = Parser { lines, at: 0 };
    let value = parser.block(0)?;
    match parser.peek() {
        Some(line) => bail!("line {}: `{}` is indented less than what it belongs to", line.number, line.text),
        None => Ok(value),
    }
}

/// A line without its comment.
struct Line<'a> {
    number: usize,
    raw: &'a str,
    indent: usize,
    /// Without indentation, comment and spaces at the end; empty for a blank line.
    text: &'a str,
}

impl<'a> Line<'a> {
    fn new(number: usize, raw: &'a str) -> Result<Self> {
        let text = raw.trim_start_matches(' ');
        if text.starts_with('\t') {
            bail!("line {number}: a tab cannot indent");
        }
        Ok(Self { number, raw, indent: raw.len() - text.len(), text: without_comment(text).trim_end() })
    }
}

/// A `#` starts a comment at the front or after a space, outside of quotes.
fn without_comment(text: &str) -> &str {
    let (mut quote, mut before) = (None, ' ');
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '#') if before == ' ' => return &text[..at],
            (None, '\'' | '"') if " [,".contains(before) => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
        before = c;
    }
    text
}

struct Parser<'a> {
    lines: Vec<Line<'a>>,
    at: usize,
}

impl<'a> Parser<'a> {
    /// The next line that is not blank.
    fn peek(&mut self) -> Option<&Line<'a>> {
        while self.lines.get(self.at).is_some_and(|line| line.text.is_empty()) {
            self.at += 1;
        }
        self.lines.get(self.at)
    }

    /// A mapping or a sequence whose lines are indented by at least `least`; null if there is none.
    fn block(&mut self, least: usize) -> Result<Value> {
        let Some(line) = self.peek() else { return Ok(Value::Null) };
        let (indent, is_list) = (line.indent, line.text == "-" || line.text.starts_with("- "));
        match (indent < least, is_list) {
            (true, _) => Ok(Value::Null),
            (false, true) => self.list(indent),
            (false, false) => self.map(indent),
        }
    }

    fn list(&mut self, indent: usize) -> Result<Value> {
        let mut items = Vec::new();
        while let Some(line) = self.peek().filter(|line| line.indent == indent && line.text.starts_with('-')) {
            let (number, item) = (line.number, line.text[1..].trim_start());
            let inner = indent + (line.text.len() - item.len());
            if item.is_empty() {
                self.at += 1;
                items.push(self.block(indent + 1)?);
            } else if key(item).is_some() {
                // `- key: value` opens a mapping whose first line stands behind the dash.
                let text = item;
                let at = self.at;
                self.lines[at].indent = inner;
                self.lines[at].text = text;
                items.push(self.map(inner)?);
            } else {
                let value = scalar(item, number)?;
                self.at += 1;
                items.push(value);
            }
        }
        Ok(Value::Array(items))
    }

    fn map(&mut self, indent: usize) -> Result<Value> {
        let mut map = Map::new();
        while let Some(line) = self.peek().filter(|line| line.indent >= indent) {
            let (number, text) = (line.number, line.text);
            if line.indent > indent {
                bail!("line {number}: `{text}` is indented more than the lines above it");
            }
            let Some((name, rest)) = key(text) else { bail!("line {number}: `{text}` is no `key: value`") };
            self.at += 1;
            let value = match rest.chars().next() {
                None => match self.peek() {
                    // A sequence may stand at the indentation of its key.
                    Some(line) if line.indent == indent && line.text.starts_with("- ") => self.list(indent)?,
                    _ => self.block(indent + 1)?,
                },
                Some('|' | '>') => self.block_scalar(indent, rest, number)?,
                Some(_) => scalar(rest, number)?,
            };
            if map.insert(name.to_owned(), value).is_some() {
                bail!("line {number}: `{name}` stands twice");
            }
        }
        Ok(Value::Object(map))
    }

    /// `|` keeps line breaks, `>` folds them; `-` drops the last one.
    fn block_scalar(&mut self, parent: usize, header: &str, number: usize) -> Result<Value> {
        if !matches!(header, "|" | "|-" | ">" | ">-") {
            bail!("line {number}: a block scalar with `{header}` is not read here");
        }
        let mut raw: Vec<&str> = Vec::new();
        while let Some(line) = self.lines.get(self.at).filter(|l| l.indent > parent || l.raw.trim().is_empty()) {
            raw.push(line.raw);
            self.at += 1;
        }
        while raw.last().is_some_and(|line| line.trim().is_empty()) {
            raw.pop();
        }
        let indent = raw.first().map_or(0, |line| line.len() - line.trim_start().len());
        let lines = raw.iter().map(|line| line.get(indent..).unwrap_or(""));
        let separator = if header.starts_with('|') { "\n" } else { " " };
        let mut text = lines.collect::<Vec<_>>().join(separator);
        if !header.ends_with('-') {
            text.push('\n');
        }
        Ok(Value::String(text))
    }
}

/// Splits `key: rest` or `key:`.
fn key(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = match text.find(": ") {
        Some(at) => (&text[..at], text[at + 2..].trim_start()),
        None => (text.strip_suffix(':')?, ""),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (!name.is_empty() && name.chars().all(plain)).then_some((name, rest))
}

fn scalar(text: &str, number: usize) -> Result<Value> {
    let unquoted = |inner: &str, quote: char| match inner.contains(quote) || (quote == '"' && inner.contains('\\')) {
        true => bail!("line {number}: escapes in quoted text are not read here"),
        false => Ok(Value::String(inner.to_owned())),
    };
    let enclosed = |open: char, close: char| text.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
    if let Some(inner) = enclosed('\'', '\'') {
        return unquoted(inner, '\'');
    }
    if let Some(inner) = enclosed('"', '"') {
        return unquoted(inner, '"');
    }
    if let Some(inner) = enclosed('[', ']') {
        let items = inner.split(',').map(str::trim).filter(|item| !item.is_empty());
        return Ok(Value::Array(items.map(|item| scalar(item, number)).collect::<Result<_>>()?));
    }
    if text == "{}" {
        return Ok(Value::Object(Map::new()));
    }
    if text.starts_with(['&', '*', '!', '{', '[', '%', '@', '`', '\'', '"', '?', '|', '>']) {
        bail!("line {number}: `{text}` is a form of YAML that is not read here");
    }
    Ok(match text {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "null" | "~" => Value::Null,
        _ => text.parse::<i64>().map_or_else(|_| Value::String(text.to_owned()), Value::from),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_workflows_are_written_in() {
        let text = "# top\nname: CI # why\non:\n  push:\n    branches: [main, 'v*']\n  workflow_dispatch:\n\
                    jobs:\n  plan:\n    timeout-minutes: 5\n    permissions: {}\n    if: ${{ a == 'x # y' }}\n    steps:\n      \
                    - uses: a/b@c # v1\n        with:\n          n: 0\n      - name: \"Two: words\"\n        run: |\n          \
                    one # kept\n\n            two\n      - run: >-\n          folded\n          text\n    needs:\n    - x\n";
        let expected = json!({
            "name": "CI",
            "on": { "push": { "branches": ["main", "v*"] }, "workflow_dispatch": null },
            "jobs": { "plan": {
                "timeout-minutes": 5,
                "permissions": {},
                "if": "${{ a == 'x # y' }}",
                "steps": [
                    { "uses": "a/b@c", "with": { "n": 0 } },
                    { "name": "Two: words", "run": "one # kept\n\n  two\n" },
                    { "run": "folded text" },
                ],
                "needs": ["x"],
            } },
        });
        assert_eq!(parse(text).unwrap(), expected);
    }

    #[test]
    fn what_is_not_read_is_an_error_with_its_line() {
        let rows = [
            ("a: &x 1", "line 1"),
            ("a: 1\n\tb: 2", "line 2"),
            ("a: 1\na: 2", "line 2"),
            ("a: {b: c}", "line 1"),
            ("a: 1\n   b: 2", "line 2"),
            ("a: |+\n  x", "line 1"),
            ("just text", "line 1"),
            ("  a: 1\nb: 2", "line 2"),
        ];
        for (text, place) in rows {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(place), "{text}: {error}");
        }
    }
}
