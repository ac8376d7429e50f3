//! Reads the keys that `[defaults]` and a host's row share.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{
    destination::Destination,
    diagnostic::{Problem, nearest},
    job::{Artifact, SYSTEMS, System, Test},
};

/// What a table sets. A key that is set but wrong is `None` here and counted by [`Keys::sets`].
#[derive(Default)]
pub struct Keys {
    pub description: Option<String>,
    pub system: Option<System>,
    pub artifacts: Option<Vec<(Artifact, Range<usize>)>>,
    pub live: Option<String>,
    pub tests: Option<Vec<(Test, Range<usize>)>>,
    pub tags: Option<Vec<String>>,
    pub target: Option<Destination>,
    pub checks: Option<Vec<String>>,
    set: Vec<String>,
}

impl Keys {
    /// Reads the `allowed` keys of a table; `title` is how the file writes its name.
    pub fn read(table: &DeTable, title: &str, allowed: &[&str], problems: &mut Vec<Problem>) -> Self {
        let mut keys = Self::default();
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            if !allowed.contains(&name) {
                problems.push(unknown_key(name, key.span(), title, allowed));
                continue;
            }
            keys.set.push(name.to_owned());
            let reader = &mut Reader { key: name, problems };
            match name {
                "description" => keys.description = reader.description(value),
                "system" => keys.system = reader.system(value),
                "artifacts" => keys.artifacts = reader.artifacts(value),
                "live" => keys.live = reader.word(value),
                "tests" => keys.tests = reader.names(value, "test", &Test::ALL, Test::as_str),
                "target" => keys.target = reader.target(value),
                "checks" => keys.checks = reader.checks(value),
                _ => keys.tags = reader.tags(value),
            }
        }
        keys
    }

    /// True if the table has the key, whatever it says.
    pub fn sets(&self, key: &str) -> bool {
        self.set.iter().any(|set| set == key)
    }
}

fn unknown_key(name: &str, span: Range<usize>, title: &str, allowed: &[&str]) -> Problem {
    let problem = Problem::new(span, format!("unknown key `{}` in {title}", name.escape_default()));
    let list = allowed.join(", ");
    match nearest(name, allowed.iter().copied()) {
        Some(near) => problem.help(format!("did you mean `{near}`?")),
        None if ["description", "target"].contains(&name) => {
            problem.help(format!("a {name} belongs to one host: move it to the host's row"))
        }
        None => problem.help(format!("the keys here are {list}")),
    }
}

struct Reader<'a> {
    key: &'a str,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn wrong(&mut self, span: Range<usize>, message: String, help: impl Into<String>) {
        self.problems.push(Problem::new(span, message).help(help));
    }

    fn text<'v>(&mut self, value: &'v Spanned<DeValue>, example: &str) -> Option<&'v str> {
        let text = value.get_ref().as_str();
        if text.is_none() {
            let message = format!("`{}` is text in quotes, this is {}", self.key, type_of(value.get_ref()));
            self.wrong(value.span(), message, format!("write {} = \"{example}\"", self.key));
        }
        text
    }

    fn description(&mut self, value: &Spanned<DeValue>) -> Option<String> {
        let text = self.text(value, "what the machine is for")?;
        if text.trim().is_empty() || text.contains(char::is_control) {
            let message = match text.trim().is_empty() {
                true => "the description is empty",
                false => "the description is more than one line of text",
            };
            self.wrong(value.span(), message.to_owned(), "say in one line what the machine is for");
            return None;
        }
        Some(text.to_owned())
    }

    fn system(&mut self, value: &Spanned<DeValue>) -> Option<System> {
        let text = self.text(value, "x86_64-linux")?;
        let system = text.parse();
        if system.is_err() {
            let list = SYSTEMS.join(", ");
            let help = match nearest(text, SYSTEMS) {
                Some(near) => format!("did you mean \"{near}\"? The systems are {list}"),
                None => format!("NixOS hosts can be built for {list}"),
            };
            self.wrong(value.span(), format!("unknown system `{}`", text.escape_default()), help);
        }
        system.ok()
    }

    fn artifacts(&mut self, value: &Spanned<DeValue>) -> Option<Vec<(Artifact, Range<usize>)>> {
        let artifacts = self.names(value, "artifact", &Artifact::ALL, Artifact::as_str)?;
        if artifacts.is_empty() {
            let message = "a host without artifacts has nothing to build".to_owned();
            self.wrong(value.span(), message, "name \"iso\", \"system\" or both");
            return None;
        }
        Some(artifacts)
    }

    /// A list of names out of a fixed set.
    fn names<T: Copy>(
        &mut self,
        value: &Spanned<DeValue>,
        what: &str,
        all: &[T],
        name: fn(T) -> &'static str,
    ) -> Option<Vec<(T, Range<usize>)>> {
        let known: Vec<&str> = all.iter().map(|item| name(*item)).collect();
        let items = self.list(value, known[0])?;
        let mut found = Vec::new();
        for (text, span) in &items {
            match all.iter().find(|item| name(**item) == text) {
                Some(item) => found.push((*item, span.clone())),
                None => {
                    let list = known.join(", ");
                    let help = match nearest(text, known.iter().copied()) {
                        Some(near) => format!("did you mean \"{near}\"? There are {list}"),
                        None => format!("there are {list}"),
                    };
                    self.wrong(span.clone(), format!("unknown {what} `{}`", text.escape_default()), help);
                }
            }
        }
        (found.len() == items.len()).then_some(found)
    }

    fn word(&mut self, value: &Spanned<DeValue>) -> Option<String> {
        let text = self.text(value, "minimal")?.to_owned();
        self.is_word(&text, value.span()).then_some(text)
    }

    fn tags(&mut self, value: &Spanned<DeValue>) -> Option<Vec<String>> {
        let items = self.list(value, "server")?;
        let good = items.iter().filter(|(text, span)| self.is_word(text, span.clone())).count();
        (good == items.len()).then(|| items.into_iter().map(|(text, _)| text).collect())
    }

    fn target(&mut self, value: &Spanned<DeValue>) -> Option<Destination> {
        let target = self.text(value, "root@10.0.0.1")?.parse();
        target.map_err(|rule| self.wrong(value.span(), "this is no target".to_owned(), rule)).ok()
    }

    fn checks(&mut self, value: &Spanned<DeValue>) -> Option<Vec<String>> {
        let items = self.list(value, "systemctl is-active nginx")?;
        let bad = |text: &str| text.trim().is_empty() || text.contains(char::is_control);
        for (_, span) in items.iter().filter(|(text, _)| bad(text)) {
            self.wrong(
                span.clone(),
                "a check is one line of shell".to_owned(),
                "write a command that succeeds if all is well",
            );
        }
        (!items.iter().any(|(text, _)| bad(text))).then(|| items.into_iter().map(|(text, _)| text).collect())
    }

    fn is_word(&mut self, text: &str, span: Range<usize>) -> bool {
        let first = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        let good = first && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if !good {
            let message = format!("`{}` is no name that `{}` can hold", text.escape_default(), self.key);
            self.wrong(span, message, "use a-z, 0-9 and '-', starting with a letter or a digit");
        }
        good
    }

    /// A list of strings, none of them twice.
    fn list(&mut self, value: &Spanned<DeValue>, example: &str) -> Option<Vec<(String, Range<usize>)>> {
        let key = self.key;
        let help = format!("write {key} = [\"{example}\"]");
        let Some(items) = value.get_ref().as_array() else {
            let message = format!("`{key}` is a list in brackets, this is {}", type_of(value.get_ref()));
            self.wrong(value.span(), message, help);
            return None;
        };
        let mut texts: Vec<(String, Range<usize>)> = Vec::new();
        for item in items.iter() {
            match item.get_ref().as_str() {
                Some(text) if texts.iter().any(|(other, _)| other == text) => {
                    self.wrong(item.span(), format!("\"{text}\" stands twice in `{key}`"), "remove one of the two");
                }
                Some(text) => texts.push((text.to_owned(), item.span())),
                None => {
                    let message = format!("`{key}` is a list of text in quotes, this is {}", type_of(item.get_ref()));
                    self.wrong(item.span(), message, help.clone());
                }
            }
        }
        (texts.len() == items.len()).then_some(texts)
    }
}

/// A TOML type as a person would say it.
pub fn type_of(value: &DeValue) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
