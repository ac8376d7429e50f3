//! Texts of a matrix and what becomes of them.

use super::*;

const GOOD: &str = r#"
[defaults]
system = "x86_64-linux"
artifacts = ["iso", "system"]
live = "minimal"
tests = ["live", "system"]

[host.web]
description = "serves"
tags = ["server", "a"]

[host.arm]
description = "boots a board"
system = "aarch64-linux"
artifacts = ["system"]
"#;

fn folders(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Line, column and message of every problem of a text, with what is tried next.
fn problems(text: &str, names: &[&str]) -> Vec<String> {
    let place = |at: usize| {
        let before = &text[..at];
        let line = before.matches('\n').count() + 1;
        (line, before.len() - before.rfind('\n').map_or(0, |newline| newline + 1) + 1)
    };
    let show = |problem: &Problem| {
        let (line, column) = place(problem.span.start);
        format!("{line}:{column} {} | {}", problem.message, problem.help)
    };
    let mut problems = Matrix::parse(text, &folders(names)).expect_err("the text is wrong");
    problems.sort_by_key(|problem| problem.span.start);
    problems.iter().map(show).collect()
}

#[test]
fn defaults_reach_a_row_and_are_replaced_as_a_whole() {
    let matrix = Matrix::parse(GOOD, &folders(&["arm", "web"])).unwrap();
    let [arm, web] = &matrix.hosts[..] else { panic!("{matrix:?}") };
    assert_eq!((arm.name.as_str(), arm.system.as_str()), ("arm", "aarch64-linux"));
    assert_eq!((&arm.artifacts[..], &arm.live), (&[Artifact::System][..], &None));
    assert_eq!(arm.tests, [Test::System], "a default test whose artifact is missing is dropped");
    assert_eq!(web.artifacts, Artifact::ALL);
    assert_eq!(web.live.as_deref(), Some("minimal"));
    assert_eq!((&web.tests[..], &web.tags[..]), (&[Test::System, Test::Live][..], &["a".into(), "server".into()][..]));
}
