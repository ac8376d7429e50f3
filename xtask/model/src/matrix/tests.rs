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

[host.own]
description = "replaces each default"
live = "graphical"
tests = ["install"]
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
    let matrix = Matrix::parse(GOOD, &folders(&["arm", "own", "web"])).unwrap();
    let [arm, own, web] = &matrix.hosts[..] else { panic!("{matrix:?}") };
    assert_eq!((arm.name.as_str(), arm.system.as_str()), ("arm", "aarch64-linux"));
    assert_eq!((&arm.artifacts[..], &arm.live), (&[Artifact::System][..], &None));
    assert_eq!(arm.tests, [Test::System], "a default test whose artifact is missing is dropped");
    assert_eq!((own.live.as_deref(), &own.tests[..]), (Some("graphical"), &[Test::Install][..]));
    assert_eq!(web.artifacts, Artifact::ALL);
    assert_eq!(web.live.as_deref(), Some("minimal"));
    assert_eq!((&web.tests[..], &web.tags[..]), (&[Test::System, Test::Live][..], &["a".into(), "server".into()][..]));
}

#[test]
fn what_is_wrong_is_shown_where_it_is() {
    // Text, folders, and for each problem: line:column message | help.
    let rows: &[(&str, &[&str], &[&str])] = &[
        ("", &[], &["1:1 there is no host in this file | a row looks like this:"]),
        (
            "# nothing\n",
            &["web"],
            &["1:10 there is no host", "1:10 the folder hosts/web/ has no row `[host.web]` | add the row"],
        ),
        ("[host]\n", &[], &["1:7 there is no host"]),
        ("host = 1\n", &[], &["1:8 `host` is a table, this is an integer"]),
        ("[[host]]\n", &[], &["1:1 `host` is a table, this is a list"]),
        ("host.web = 'x'\n", &["web"], &["1:6 `host.web` is a table, this is text"]),
        (
            "[hosts.web]\n",
            &["web"],
            &["1:2 unknown table or key `hosts` | did you mean `host`?", "1:12 there is no host", "1:12 the folder"],
        ),
        (
            "[web]\n",
            &[],
            &["1:2 unknown table or key `web` | a host's table is called `[host.web]`", "1:6 there is no host"],
        ),
        (
            "[host.web]\n",
            &["web"],
            &[
                "1:7 host `web` has no `description`",
                "1:7 host `web` has no `system`",
                "1:7 host `web` has no `artifacts`",
            ],
        ),
        (
            "[defaults]\ndescription = 'x'\nsystm = 'x'\nspeed = 'x'\n",
            &[],
            &[
                "2:1 unknown key `description` in [defaults] | a description belongs to one host",
                "3:1 unknown key `systm` in [defaults] | did you mean `system`?",
                "4:1 unknown key `speed` in [defaults] | the keys here are system, artifacts, live, tests, tags",
                "4:12 there is no host",
            ],
        ),
    ];
    for (text, names, expected) in rows {
        let found = problems(text, names);
        assert_eq!(found.len(), expected.len(), "{text}: {found:#?}");
        for (found, expected) in found.iter().zip(*expected) {
            assert!(found.starts_with(expected), "{text}\nfound:    {found}\nexpected: {expected}");
        }
    }
}

/// A right row, with one of its lines replaced by `line`.
fn with(line: &str) -> String {
    let key = line.split_once(" =").map_or("", |(key, _)| key);
    let lines = ["description = 'd'", "system = 'x86_64-linux'", "artifacts = ['iso']", "live = 'minimal'"];
    let kept = lines.iter().filter(|other| !other.starts_with(&format!("{key} ")));
    format!("[host.web]\n{line}\n{}\n", kept.copied().collect::<Vec<_>>().join("\n"))
}

#[test]
fn a_wrong_value_says_what_was_probably_meant() {
    let rows: &[(&str, &[&str])] = &[
        ("description = ''", &["2:15 the description is empty"]),
        (r#"description = "a\nb""#, &["2:15 the description is more than one line of text"]),
        ("description = 3", &["2:15 `description` is text in quotes, this is an integer"]),
        ("system = 'x86-64-linux'", &["2:10 unknown system `x86-64-linux` | did you mean \"x86_64-linux\"?"]),
        ("system = 'sparc'", &["2:10 unknown system `sparc` | NixOS hosts can be built for x86_64-linux, "]),
        (
            "artifacts = ['isoo', 'vmdk']",
            &[
                "2:14 unknown artifact `isoo` | did you mean \"iso\"?",
                "2:22 unknown artifact `vmdk` | there are iso, system",
            ],
        ),
        ("artifacts = []", &["2:13 a host without artifacts has nothing to build"]),
        ("artifacts = 'iso'", &["2:13 `artifacts` is a list in brackets, this is text | write artifacts = [\"iso\"]"]),
        ("artifacts = ['iso', 'iso']", &["2:21 \"iso\" stands twice in `artifacts`"]),
        ("tests = ['lve']", &["2:10 unknown test `lve` | did you mean \"live\"?"]),
        (
            "tests = ['install', 'switch']",
            &[
                "2:10 test `install` needs the artifact `system`, which `web` does not have | add \"system\"",
                "2:21 test `switch` needs the artifact `system`",
            ],
        ),
        ("tests = [true]", &["2:10 `tests` is a list of text in quotes, this is true or false"]),
        ("tags = ['Big one']", &["2:9 `Big one` is no name that `tags` can hold"]),
        ("live = '-x'", &["2:8 `-x` is no name that `live` can hold"]),
        ("live = 2026-01-01", &["2:8 a date or time, which Nix cannot read"]),
        ("tag = ['a']", &["2:1 unknown key `tag` in [host.web] | did you mean `tags`?"]),
    ];
    for (line, expected) in rows {
        let found = problems(&with(line), &["web"]);
        assert_eq!(found.len(), expected.len(), "{line}: {found:#?}");
        for (found, expected) in found.iter().zip(*expected) {
            assert!(found.starts_with(expected), "{line}\nfound:    {found}\nexpected: {expected}");
        }
    }
    Matrix::parse(&with("tests = ['live']"), &folders(&["web"])).expect("the row itself is right");
}

#[test]
fn names_that_are_no_host_names_are_refused() {
    let long = "a".repeat(64);
    for name in ["-x", "$(id)", "a\\\"b", "../up", "Web", "web_1", "", &long] {
        let text = with("tags = []").replace("host.web", &format!("host.\"{name}\""));
        let plain = name.replace("\\\"", "\"");
        let found = problems(&text, &[&plain]);
        // The folder of that name is told of as well, at the end of the file.
        assert!(found[0].starts_with("1:7 `") && found[0].contains("cannot be a host name"), "{found:#?}");
    }
}

#[test]
fn rows_and_folders_agree_both_ways() {
    let text = with("tags = []");
    assert!(problems(&text, &[])[0].starts_with("1:7 host `web` has no folder hosts/web/ | create the folder"));
    let renamed = problems(&text, &["wbe"]);
    assert!(renamed[0].contains("there is a folder hosts/wbe/ without a row: is that the one?"), "{renamed:#?}");
    assert!(renamed[1].starts_with("6:17 the folder hosts/wbe/ has no row"), "{renamed:#?}");
    let shared = problems(&text, &["web", "Shared_Files"]);
    assert!(shared[0].contains("hosts/Shared_Files/ cannot be a host: a host name is made of"), "{shared:#?}");
}

#[test]
fn a_syntax_error_does_not_hide_other_errors_nor_invent_any() {
    let text = format!("{}\n[host.arm]\ndescription = \"open\nsystem = 'sparc'\n", with("sistem = 'x'"));
    let found = problems(&text, &["web", "arm"]);
    assert!(found.iter().any(|p| p.starts_with("2:1 unknown key `sistem`")), "{found:#?}");
    assert!(found.iter().any(|p| p.starts_with("9:20 not TOML: invalid basic string")), "{found:#?}");
    assert!(found.iter().any(|p| p.starts_with("10:10 unknown system `sparc`")), "{found:#?}");
    assert_eq!(found.len(), 3, "nothing is called missing: {found:#?}");
}

#[test]
fn a_broken_line_is_told_once() {
    let found = problems(&with("system = x86_64-linux"), &["web"]);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with("2:10 not TOML: string values must be quoted"), "{found:#?}");
    assert!(found[0].ends_with("| put the value in quotes"), "{found:#?}");
    let found = problems(&with("tags = ['a'"), &["web"]);
    let lines: Vec<&str> = found.iter().filter_map(|problem| problem.split(':').next()).collect();
    assert_eq!(lines, ["3", "4", "5", "6"], "one for each line that the open list swallows: {found:#?}");
}

#[test]
fn a_table_twice_is_told_once_with_what_to_do() {
    let found = problems("[host.web]\n[host.web]\n", &["web"]);
    assert_eq!(
        found,
        ["2:7 not TOML: duplicate key | a table or a key stands only once in a file; merge the two or rename one"]
    );
}
