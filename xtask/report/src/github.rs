//! What a GitHub runner reads from a program: workflow commands on stdout, outputs and summaries in files.

use std::{collections::BTreeSet, fs::OpenOptions, io::Write as _};

use anyhow::{Context as _, Result, bail};
use camino::Utf8Path;

use crate::{record::Record, shard::MatrixEntry};

/// The most bytes of a step summary that GitHub shows, with room for what other steps write.
pub const SUMMARY_LIMIT: usize = 1_000_000;

/// The most characters of a comment's body, with room to spare.
pub const COMMENT_LIMIT: usize = 60_000;

/// By this a comment of ours is known again; it is not shown.
pub const MARKER: &str = "<!-- drydock: which hosts this changes -->";

/// The most bytes of a job's outputs: 1 MB counted as UTF-16, and other outputs want room too.
const OUTPUT_LIMIT: usize = 900_000;

/// One `::error` line for each failure, at its file and line where Nix says so. `prefix` is what stands
/// before the fleet's files in the repository, such as `ci/demo/`.
pub fn annotations(record: &Record, prefix: &str) -> Vec<String> {
    let slash = if prefix.is_empty() || prefix.ends_with('/') { "" } else { "/" };
    let failures = record.jobs.iter().filter_map(|job| Some((&job.job, job.outcome.failure()?)));
    failures
        .map(|(id, failure)| {
            let mut properties = Vec::new();
            if let Some(position) = &failure.position {
                properties.push(format!("file={}", property(&format!("{prefix}{slash}{}", position.file))));
                properties.push(format!("line={}", position.line));
                properties.extend(position.column.map(|column| format!("col={column}")));
            }
            properties.push(format!("title={}", property(&format!("{id} failed to {}", failure.stage.as_str()))));
            format!("::error {}::{}", properties.join(","), data(&failure.message))
        })
        .collect()
}

/// Escapes the message of a workflow command (`escapeData` in actions/toolkit, packages/core).
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes a property of a workflow command (`escapeProperty` there).
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// Sets an output of the step: one line, in the file that `GITHUB_OUTPUT` names.
pub fn set_output(file: &Utf8Path, name: &str, value: &str) -> Result<()> {
    if value.contains(['\n', '\r']) {
        bail!("the output `{name}` has several lines, which would set other outputs too");
    }
    let size = value.encode_utf16().count() * 2;
    if size > OUTPUT_LIMIT {
        bail!("the output `{name}` has {size} bytes, more than GitHub takes\n  try: fewer entries with --shards");
    }
    append(file, &format!("{name}={value}\n"))
}

/// Appends to the file that GitHub named in the environment.
pub fn append(file: &Utf8Path, text: &str) -> Result<()> {
    let mut open = OpenOptions::new();
    let opened = open.create(true).append(true).open(file);
    opened.and_then(|mut file| file.write_all(text.as_bytes())).with_context(|| format!("cannot append to {file}"))
}

/// Entries in the form of `jobs.<id>.strategy.matrix`, on one line.
pub fn matrix(entries: &[MatrixEntry]) -> String {
    serde_json::json!({ "include": entries }).to_string()
}

/// Labels of the runners that cannot run a program of the system `own`, as a list in JSON on one line.
pub fn other_runners(entries: &[MatrixEntry], own: &str) -> String {
    let others = entries.iter().filter(|entry| entry.system != own).map(|entry| entry.runner.as_str());
    serde_json::json!(others.collect::<BTreeSet<_>>()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use drydock_model::samples::record as sample;

    #[test]
    fn annotations_name_file_and_line_and_are_one_line_each() {
        assert_eq!(annotations(&sample(), "ci/demo"), annotations(&sample(), "ci/demo/"));
        let lines = annotations(&sample(), "ci/demo/");
        assert_eq!(
            lines[0],
            "::error file=ci/demo/hosts/b/default.nix,line=3,col=7,title=b.iso failed to evaluate::b is broken"
        );
        assert_eq!(lines[1], "::error title=c.system failed to build::builder failed with exit code 3");
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn nothing_in_a_message_starts_another_command() {
        assert_eq!(data("a\n::set-env name=x::y\r100%"), "a%0A::set-env name=x::y%0D100%25");
        assert_eq!(property("a,line=3::x"), "a%2Cline=3%3A%3Ax");
    }

    #[test]
    fn the_program_is_compiled_where_an_entry_needs_another() {
        let entry = |system: &str, runner: &str| MatrixEntry {
            name: "n".into(),
            system: system.into(),
            runner: runner.into(),
            kvm: false,
            disk: 0,
            seconds: 0,
            jobs: "a.iso".into(),
        };
        let (own, arm) = (entry("x86_64-linux", "ubuntu"), entry("aarch64-linux", "ubuntu-arm"));
        let rows = [(vec![], "[]"), (vec![own.clone()], "[]"), (vec![arm.clone(), own, arm], r#"["ubuntu-arm"]"#)];
        for (entries, expected) in rows {
            assert_eq!(other_runners(&entries, "x86_64-linux"), expected);
        }
    }

    #[test]
    fn an_output_cannot_smuggle_another_and_has_a_limit() {
        let dir = crate::files::Temporary::new().unwrap();
        let file = &dir.join("output");
        set_output(file, "any", "true").unwrap();
        set_output(file, "matrix", r#"{"include":[]}"#).unwrap();
        assert!(set_output(file, "x", "1\ny=2").is_err());
        assert!(set_output(file, "x", &"a".repeat(OUTPUT_LIMIT)).is_err());
        assert_eq!(std::fs::read_to_string(file).unwrap(), "any=true\nmatrix={\"include\":[]}\n");
    }
}
