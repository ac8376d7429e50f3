//! The workflow files: every script is one call of this program, and the linters find faults that are planted.

use std::{
    fs,
    process::{Command, Output},
};

use camino::{Utf8Path, Utf8PathBuf};
use tempfile::TempDir;

fn workflows() -> Vec<(Utf8PathBuf, String)> {
    let dir = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../.github/workflows");
    let files = dir.read_dir_utf8().unwrap().map(|entry| entry.unwrap().path().to_owned());
    let mut files: Vec<_> = files.map(|file| (file.clone(), fs::read_to_string(&file).unwrap())).collect();
    files.sort();
    assert!(files.len() >= 3);
    files
}

/// What the linters do not ask for: no logic in YAML, and a time limit for every job.
#[test]
fn every_script_is_one_call_of_xtask_and_every_job_has_a_time_limit() {
    for (file, text) in workflows() {
        let lines: Vec<&str> = text.lines().collect();
        for (n, line) in lines.iter().enumerate().filter(|(_, line)| line.trim_start().starts_with("run:")) {
            let script = if line.ends_with(">-") { lines[n + 1..n + 3].join(" ") } else { (*line).to_owned() };
            assert!(script.trim_start().trim_start_matches("run: ").starts_with("cargo xtask ci "), "{file}: {script}");
            assert!(!script.contains([';', '&', '|']), "{file}: {script}");
        }
        let jobs = text.split_once("\njobs:\n").unwrap().1;
        let count =
            jobs.lines().filter(|l| l.starts_with("  ") && !l[2..].starts_with([' ', '#']) && l.ends_with(':')).count();
        assert!(count > 0);
        assert_eq!(jobs.matches("\n    timeout-minutes: ").count(), count, "{file}");
    }
}

/// What a linter says of the workflow with a fault in it.
fn found_in(program: &str, args: &[&str], from: &str, to: &str) -> String {
    let text = workflows().into_iter().find(|(file, _)| file.ends_with("ci.yml")).unwrap().1;
    assert!(text.contains(from), "the workflow has no `{from}` to plant a fault at");
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join(".github/workflows");
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("ci.yml");
    fs::write(&file, text.replacen(from, to, 1)).unwrap();
    let Output { status, stdout, stderr } = Command::new(program).args(args).arg(&file).output().unwrap();
    assert!(!status.success(), "{program} passes over {to}");
    format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr))
}

#[test]
#[ignore = "needs zizmor and actionlint; `cargo chores check` runs it and says where they are not installed"]
fn with_linters_planted_faults_are_found() {
    let zizmor = ["--offline", "--persona", "pedantic"];
    // The linter, what is replaced by what, and a word of what it says.
    let rows: [(&str, &[&str], &str, &str, &str); 5] = [
        ("zizmor", &zizmor, "--name \"$NAME\"", "--name ${{ matrix.name }}", "template-injection"),
        ("zizmor", &zizmor, "permissions: {}", "permissions: write-all", "excessive-permissions"),
        ("zizmor", &zizmor, "checkout@3d3c42e5aac5ba805825da76410c181273ba90b1", "checkout@v7", "unpinned-uses"),
        ("actionlint", &[], "--name \"$NAME\"", "--name ${{ github.event.pull_request.title }}", "untrusted"),
        ("actionlint", &[], "--name \"$NAME\"", "--name ${{ matrix.nonsense.x", "expression"),
    ];
    for (program, args, from, to, word) in rows {
        let said = found_in(program, args, from, to);
        assert!(said.contains(word), "{program}: {to}: {said}");
    }
}
