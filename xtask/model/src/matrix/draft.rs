//! Adds the row of a new host at the end of the text of hosts.toml. Pure; every other
//! character of the file stays.

use std::fmt::Write as _;

use crate::diagnostic::Problem;

use super::Matrix;

/// A row to be written. What is `None` is left to `[defaults]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    pub name: String,
    pub description: String,
    pub system: Option<String>,
    pub artifacts: Option<Vec<String>>,
    pub live: Option<String>,
    pub tests: Option<Vec<String>>,
    pub tags: Option<Vec<String>>,
    pub checks: Option<Vec<String>>,
}

impl Draft {
    /// The text with the row at its end.
    pub fn append_to(&self, text: &str) -> String {
        let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
        let mut whole = text.to_owned();
        if !text.is_empty() {
            whole += &newline.repeat(if text.ends_with('\n') { 1 } else { 2 });
        }
        whole + &self.row().replace('\n', newline)
    }

    fn row(&self) -> String {
        let mut row = format!("[host.{}]\ndescription = {}\n", key(&self.name), quoted(&self.description));
        let mut line = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                let _ = writeln!(row, "{key} = {value}");
            }
        };
        let list =
            |items: &Vec<String>| format!("[{}]", items.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", "));
        line("system", self.system.as_deref().map(quoted));
        line("artifacts", self.artifacts.as_ref().map(list));
        line("live", self.live.as_deref().map(quoted));
        line("tests", self.tests.as_ref().map(list));
        line("tags", self.tags.as_ref().map(list));
        line("checks", self.checks.as_ref().map(list));
        row
    }

    /// The matrix with the row in it, if the file and the row are right.
    pub fn check(&self, text: &str, folders: &[String]) -> Result<Matrix, Vec<Problem>> {
        let mut folders = folders.to_vec();
        folders.push(self.name.clone());
        Matrix::parse(&self.append_to(text), &folders)
    }
}

/// A host name as it stands in a table's header; quoted where it is none, so that the parser says why.
fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if bare { name.to_owned() } else { quoted(name) }
}

/// A TOML 1.0 basic string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: &str = "# keep me\n[defaults]\nsystem = \"x86_64-linux\"\nartifacts = [\"system\"]";

    fn draft(name: &str) -> Draft {
        Draft { name: name.to_owned(), description: "serves \"it\" \\ all".to_owned(), ..Draft::default() }
    }

    #[test]
    fn a_row_comes_after_everything_that_is_there() {
        let full = Draft {
            system: Some("aarch64-linux".into()),
            artifacts: Some(vec!["iso".into(), "system".into()]),
            live: Some("minimal".into()),
            tests: Some(vec![]),
            tags: Some(vec!["a".into()]),
            checks: Some(vec!["true".into()]),
            ..draft("web")
        };
        let expected = format!(
            "{DEFAULTS}\n\n[host.web]\ndescription = \"serves \\\"it\\\" \\\\ all\"\nsystem = \"aarch64-linux\"\n\
             artifacts = [\"iso\", \"system\"]\nlive = \"minimal\"\ntests = []\ntags = [\"a\"]\nchecks = [\"true\"]\n"
        );
        assert_eq!(full.append_to(DEFAULTS), expected);
        let matrix = full.check(DEFAULTS, &[]).unwrap();
        assert_eq!(matrix.hosts[0].description, "serves \"it\" \\ all");
        assert_eq!(draft("web").append_to(""), "[host.web]\ndescription = \"serves \\\"it\\\" \\\\ all\"\n");
        assert!(
            draft("web")
                .append_to("a = 1\r\n")
                .ends_with("1\r\n\r\n[host.web]\r\ndescription = \"serves \\\"it\\\" \\\\ all\"\r\n")
        );
    }

    #[test]
    fn only_a_right_row_in_a_right_file_passes() {
        assert!(draft("web").check(DEFAULTS, &[]).is_ok());
        for (name, text) in [("-x", DEFAULTS), ("a.b", DEFAULTS), ("", DEFAULTS), ("web", "host = {}\n"), ("web", "x")]
        {
            assert!(draft(name).check(text, &[]).is_err(), "{name} after {text}");
        }
        let twice = draft("web").append_to(DEFAULTS);
        assert!(draft("web").check(&twice, &["web".into()]).is_err());
    }
}
