//! Says to a person what went wrong, where, and what to try.

use std::{fmt, io::IsTerminal as _, ops::Range, sync::OnceLock};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// Exit code: every job that ran is done.
pub const DONE: u8 = 0;
/// Exit code: at least one job failed.
pub const FAILED: u8 = 1;
/// Exit code: the run was interrupted; what was finished is kept.
pub const INTERRUPTED: u8 = 130;

/// How this program was called: by Cargo's alias `cargo xtask`, or by its name.
pub fn called() -> &'static str {
    static CALLED: OnceLock<&str> = OnceLock::new();
    // Cargo tells every program that it runs where it lies itself.
    CALLED.get_or_init(|| if std::env::var_os("CARGO").is_some() { "cargo xtask" } else { "drydock" })
}

/// A text for a person, in which the program has the name that it was called by.
pub fn as_called(text: &str) -> String {
    text.replace("cargo xtask", called())
}

/// `1 job`, `2 jobs`, `2 entries`, `2 days`.
pub fn counted(count: usize, noun: &str) -> String {
    let plural = match noun.strip_suffix('y').filter(|stem| !stem.ends_with(['a', 'e', 'o', 'u'])) {
        _ if count == 1 => noun.to_owned(),
        Some(stem) => format!("{stem}ies"),
        None => format!("{noun}s"),
    };
    format!("{count} {plural}")
}

/// A size for people: binary units, one decimal.
pub fn bytes(size: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = size as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{size} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// An error that ends the program with an exit code of its own; anything else that fails is a failed job
/// or a defect and exits with 1.
#[derive(Debug)]
pub struct Stop {
    pub code: u8,
    text: String,
    /// True if the text already says `error:` for each of its parts.
    rendered: bool,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Stop {}

/// Wrong use or a wrong configuration: exit code 2.
pub fn usage(text: impl Into<String>) -> anyhow::Error {
    Stop { code: 2, text: text.into(), rendered: false }.into()
}

/// The machine lacks something that the work needs: exit code 3.
pub fn lacking(text: impl Into<String>) -> anyhow::Error {
    Stop { code: 3, text: text.into(), rendered: false }.into()
}

/// Everything that is wrong with a configuration file, shown at once: exit code 2. `path` is how the
/// person would name the file from where they are.
pub fn misconfigured(path: &str, source: &str, problems: &[Problem]) -> anyhow::Error {
    let styled = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    Stop { code: 2, text: render(path, source, problems, styled), rendered: true }.into()
}

/// The exit code that an error asks for.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    error.downcast_ref::<Stop>().map_or(1, |stop| stop.code)
}

/// Prints an error and its causes for a person.
#[expect(clippy::print_stderr, reason = "this is where errors are printed")]
pub fn print_error(error: &anyhow::Error) {
    match error.downcast_ref::<Stop>() {
        Some(stop) if stop.rendered => eprintln!("{}", as_called(&format!("{error:#}"))),
        _ => eprintln!("error: {}", as_called(&format!("{error:#}"))),
    }
}

/// Prints something that a person should know and that stops nothing.
#[expect(clippy::print_stderr, reason = "this is where warnings are printed")]
pub fn warn(text: &str) {
    eprintln!("warning: {}", as_called(text));
}

/// One thing that is wrong with a text, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Bytes of the text.
    pub span: Range<usize>,
    /// What is wrong, in one line.
    pub message: String,
    /// What to try; may be empty.
    pub help: String,
}

impl Problem {
    pub fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), help: String::new() }
    }

    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }
}

/// The problems as text, in the order of the file: each with `path:line:column` and carets under its span.
pub fn render(path: &str, source: &str, problems: &[Problem], styled: bool) -> String {
    let renderer = if styled { Renderer::styled() } else { Renderer::plain() };
    let mut sorted: Vec<&Problem> = problems.iter().collect();
    sorted.sort_by_key(|problem| (problem.span.start, problem.span.end));
    sorted.dedup();
    let mut texts: Vec<String> = sorted.iter().map(|p| renderer.render(&[group(path, source, p)])).collect();
    if texts.len() > 1 {
        texts.push(format!("error: {} errors in {path}", texts.len()));
    }
    texts.join("\n\n")
}

fn group<'a>(path: &'a str, source: &'a str, problem: &'a Problem) -> Group<'a> {
    let snippet = Snippet::source(source).path(path).annotation(AnnotationKind::Primary.span(problem.span.clone()));
    let group = Level::ERROR.primary_title(&problem.message).element(snippet);
    match problem.help.is_empty() {
        true => group,
        false => group.element(Level::HELP.message(&problem.help)),
    }
}

/// The known word that a mistyped one most likely means, if any is near enough to be worth proposing.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |other: &str| strsim::damerau_levenshtein(&word.to_lowercase(), &other.to_lowercase());
    let candidates = known.into_iter().map(|other| (distance(other), other));
    let enough = 1 + word.chars().count() / 3;
    candidates.filter(|(d, _)| *d <= enough).min_by_key(|(d, _)| *d).map(|(_, other)| other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_shows_line_column_and_carets() {
        let source = "[defaults]\nsistem = \"x\"\n";
        let text = render("hosts/hosts.toml", source, &[Problem::new(11..17, "unknown key").help("try system")], false);
        assert!(text.contains("hosts/hosts.toml:2:1"), "{text}");
        assert!(text.contains("sistem = \"x\"") && text.contains("^^^^^^") && text.contains("try system"), "{text}");
    }

    #[test]
    fn problems_come_in_the_order_of_the_file_with_their_number() {
        let problems = [Problem::new(2..3, "second"), Problem::new(0..1, "first"), Problem::new(0..1, "first")];
        let text = render("f", "a b", &problems, false);
        assert!(text.find("first") < text.find("second") && text.ends_with("error: 2 errors in f"), "{text}");
    }

    #[test]
    fn the_nearest_word_is_near() {
        let rows = [("isso", Some("iso")), ("sytem", Some("system")), ("ISO", Some("iso")), ("vmdk", None), ("", None)];
        for (word, expected) in rows {
            assert_eq!(nearest(word, ["iso", "system"]), expected, "{word}");
        }
    }

    #[test]
    fn stops_carry_their_exit_code() {
        assert_eq!(exit_code(&usage("a")), 2);
        assert_eq!(exit_code(&lacking("a").context("while trying")), 3);
        assert_eq!(exit_code(&anyhow::anyhow!("a")), 1);
    }

    #[test]
    fn sizes_are_for_people() {
        for (size, expected) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")] {
            assert_eq!(bytes(size), expected);
        }
    }
}
