//! GitHub's expressions in, values out ("Evaluate expressions in workflows and actions" in GitHub's
//! documentation). What the workflows do not use is an error.

use anyhow::{Result, bail};
use serde_json::Value;

/// Whether what came before succeeded; the status functions ask it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Success,
    Failure,
    /// Something that is needed was skipped: neither success nor failure.
    Skipped,
}

/// The contexts (`github`, `needs`, `matrix`, `steps`, …) as one object, and the status so far.
#[derive(Clone, Debug)]
pub struct Scope {
    pub contexts: Value,
    pub status: Status,
}

impl Scope {
    /// Text with `${{ }}` in it. If it is nothing but one expression its value keeps its type.
    pub fn value(&self, text: &str) -> Result<Value> {
        let trimmed = text.trim();
        if let Some(inner) = trimmed.strip_prefix("${{").and_then(|rest| rest.strip_suffix("}}"))
            && !inner.contains("${{")
        {
            return self.evaluate(inner);
        }
        Ok(Value::String(self.text(text)?))
    }

    /// The same as text, as it reaches an environment variable or a script.
    pub fn text(&self, text: &str) -> Result<String> {
        let (mut out, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once("${{") {
            let Some((inner, after)) = after.split_once("}}") else { bail!("`{text}`: `${{{{` without its end") };
            out.push_str(before);
            out.push_str(&shown(&self.evaluate(inner)?));
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }

    /// An `if:`; without a status function it also needs that everything before succeeded.
    pub fn condition(&self, text: &str) -> Result<bool> {
        let inner = text.trim();
        let inner = inner.strip_prefix("${{").and_then(|rest| rest.strip_suffix("}}")).unwrap_or(inner);
        let value = truthy(&self.evaluate(inner)?);
        let asks = ["always()", "success()", "failure()", "cancelled()"].iter().any(|call| inner.contains(call));
        Ok(value && (asks || self.status == Status::Success))
    }

    fn evaluate(&self, text: &str) -> Result<Value> {
        let mut parser = Parser { scope: self, tokens: tokens(text)?, at: 0, whole: text };
        let value = parser.or()?;
        match parser.tokens.get(parser.at) {
            None => Ok(value),
            Some(token) => bail!("`{}`: `{token}` is not understood", text.trim()),
        }
    }
}

/// A value as it stands in text.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn truthy(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Number(number) => number.as_f64() != Some(0.0),
        _ => true,
    }
}

fn tokens(text: &str) -> Result<Vec<String>> {
    let (mut tokens, mut rest) = (Vec::new(), text.trim_start());
    while let Some(first) = rest.chars().next() {
        let word = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        let length = match first {
            '\'' => {
                // A quote inside is written twice.
                let mut end = 1;
                loop {
                    let Some(at) = rest[end..].find('\'') else { bail!("`{}`: a quote has no end", text.trim()) };
                    end += at + 1;
                    if !rest[end..].starts_with('\'') {
                        break end;
                    }
                    end += 1;
                }
            }
            _ if ["==", "!=", "&&", "||"].iter().any(|op| rest.starts_with(op)) => 2,
            '(' | ')' | ',' | '!' => 1,
            c if word(c) => rest.find(|c| !word(c)).unwrap_or(rest.len()),
            c => bail!("`{}`: `{c}` is not understood", text.trim()),
        };
        tokens.push(rest[..length].to_owned());
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

struct Parser<'a> {
    scope: &'a Scope,
    tokens: Vec<String>,
    at: usize,
    whole: &'a str,
}

impl Parser<'_> {
    fn take(&mut self, token: &str) -> bool {
        let found = self.tokens.get(self.at).is_some_and(|next| next == token);
        self.at += usize::from(found);
        found
    }

    fn or(&mut self) -> Result<Value> {
        let mut left = self.and()?;
        while self.take("||") {
            let right = self.and()?;
            left = if truthy(&left) { left } else { right };
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Value> {
        let mut left = self.equal()?;
        while self.take("&&") {
            let right = self.equal()?;
            left = if truthy(&left) { right } else { left };
        }
        Ok(left)
    }

    fn equal(&mut self) -> Result<Value> {
        let left = self.unary()?;
        if self.take("==") {
            return Ok(Value::Bool(equal(&left, &self.unary()?)));
        }
        if self.take("!=") {
            return Ok(Value::Bool(!equal(&left, &self.unary()?)));
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Value> {
        if self.take("!") {
            return Ok(Value::Bool(!truthy(&self.unary()?)));
        }
        if self.take("(") {
            let value = self.or()?;
            return if self.take(")") { Ok(value) } else { bail!("`{}`: a `)` is missing", self.whole.trim()) };
        }
        let Some(token) = self.tokens.get(self.at).cloned() else {
            bail!("`{}` ends too early", self.whole.trim());
        };
        self.at += 1;
        if let Some(text) = token.strip_prefix('\'') {
            return Ok(Value::String(text.trim_end_matches('\'').replace("''", "'")));
        }
        if self.take("(") {
            return self.call(&token);
        }
        match token.as_str() {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            "null" => Ok(Value::Null),
            _ => token.parse::<i64>().map_or_else(|_| self.path(&token), |n| Ok(Value::from(n))),
        }
    }

    /// What a context holds; a missing key is null, a missing context is an error.
    fn path(&self, path: &str) -> Result<Value> {
        let mut parts = path.split('.');
        let context = parts.next().unwrap_or_default();
        let Some(mut value) = self.scope.contexts.get(context) else {
            bail!("`{}`: there is no context `{context}` here", self.whole.trim());
        };
        for part in parts {
            value = value.get(part).unwrap_or(&Value::Null);
        }
        Ok(value.clone())
    }

    fn call(&mut self, function: &str) -> Result<Value> {
        let mut arguments = Vec::new();
        while !self.take(")") {
            if !arguments.is_empty() && !self.take(",") {
                bail!("`{}`: a `,` or `)` is missing", self.whole.trim());
            }
            arguments.push(self.or()?);
        }
        let status = self.scope.status;
        Ok(match (function, arguments.as_slice()) {
            ("always", []) => Value::Bool(true),
            ("success", []) => Value::Bool(status == Status::Success),
            ("failure", []) => Value::Bool(status == Status::Failure),
            // An interrupt ends the whole emulation, so that nothing is ever asked after one.
            ("cancelled", []) => Value::Bool(false),
            ("toJSON", [value]) => Value::String(serde_json::to_string_pretty(value)?),
            ("fromJSON", [Value::String(text)]) => serde_json::from_str(text)?,
            _ => bail!("`{}`: the function `{function}` is not emulated", self.whole.trim()),
        })
    }
}

/// Loose equality: text without regard to case, values of different types as numbers.
fn equal(a: &Value, b: &Value) -> bool {
    let number = |value: &Value| match value {
        Value::Null => 0.0,
        Value::Bool(yes) => f64::from(u8::from(*yes)),
        Value::Number(number) => number.as_f64().unwrap_or(f64::NAN),
        Value::String(text) if text.is_empty() => 0.0,
        Value::String(text) => text.parse().unwrap_or(f64::NAN),
        _ => f64::NAN,
    };
    match (a, b) {
        (Value::String(a), Value::String(b)) => a.eq_ignore_ascii_case(b),
        (Value::Array(_) | Value::Object(_), _) => a == b,
        _ => number(a) == number(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn scope(status: Status) -> Scope {
        let contexts = json!({
            "github": { "event_name": "push", "event": {}, "ref": "refs/heads/main" },
            "needs": { "plan": { "outputs": { "any": "true", "matrix": "{\"include\":[{\"name\":\"a\"}]}" } } },
            "matrix": { "jobs": "a.iso b.iso", "kvm": true },
            "vars": {},
        });
        Scope { contexts, status }
    }

    #[test]
    fn values() {
        let rows = [
            ("${{ github.event_name }}", json!("push")),
            ("a ${{ matrix.jobs }} b", json!("a a.iso b.iso b")),
            ("${{ vars.FLEET || '.' }}", json!(".")),
            ("${{ fromJSON(needs.plan.outputs.matrix) }}", json!({"include": [{"name": "a"}]})),
            ("${{ matrix.kvm && 'yes' || 'no' }}", json!("yes")),
            ("${{ github.event.pull_request.number || github.ref }}", json!("refs/heads/main")),
            ("${{ 'it''s' }}", json!("it's")),
            ("${{ !(1 == 2) }}", json!(true)),
            ("${{ vars.X == '' }}", json!(true)),
            ("${{ 'A' != 'a' }}", json!(false)),
        ];
        for (text, expected) in rows {
            assert_eq!(scope(Status::Success).value(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn conditions_include_success_unless_they_ask_for_the_status() {
        use Status::{Failure, Skipped, Success};
        let rows = [
            ("needs.plan.outputs.any == 'true'", Success, true),
            ("needs.plan.outputs.any == 'true'", Failure, false),
            ("always()", Failure, true),
            ("${{ !cancelled() }}", Failure, true),
            ("${{ !cancelled() }}", Skipped, true),
            ("failure()", Skipped, false),
            ("success()", Skipped, false),
        ];
        for (text, status, expected) in rows {
            assert_eq!(scope(status).condition(text).unwrap(), expected, "{text} {status:?}");
        }
    }

    #[test]
    fn what_is_not_emulated_is_an_error() {
        for text in ["${{ hashFiles('x') }}", "${{ secrets.X }}", "${{ a b }}", "${{ 'x }}", "${{ (1 }}", "${{ a[0] }}"]
        {
            assert!(scope(Status::Success).value(text).is_err(), "{text}");
        }
    }
}
