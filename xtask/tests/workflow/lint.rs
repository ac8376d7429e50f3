//! The workflow files: what can be held against them without a linter, and the linters where they are
//! installed, which must find a fault that is planted.

use std::{
    fs,
    io::Write as _,
    process::{Command, Output},
};

use camino::{Utf8Path, Utf8PathBuf};

use crate::repository::workflow;

fn workflows() -> Vec<(Utf8PathBuf, String)> {
    let dir = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../.github/workflows");
    let files = dir.read_dir_utf8().unwrap().map(|entry| entry.unwrap().path().to_owned());
    let mut files: Vec<_> = files.map(|file| (file.clone(), fs::read_to_string(&file).unwrap())).collect();
    files.sort();
    assert!(files.len() >= 3);
    files
}

#[test]
fn actions_are_pinned_with_their_version_beside() {
    for (file, text) in workflows() {
        for line in text.lines().filter_map(|line| line.trim_start_matches([' ', '-']).strip_prefix("uses: ")) {
            let (pin, version) = line.split_once(" # v").unwrap_or_else(|| panic!("{file}: {line}"));
            let hash = pin.split_once('@').unwrap().1;
            assert!(hash.len() == 40 && hash.chars().all(|c| c.is_ascii_hexdigit()), "{file}: {line}");
            assert!(version.split('.').count() == 3, "{file}: {line}");
        }
    }
}

#[test]
fn every_script_is_one_call_of_xtask_without_interpolation() {
    for (file, text) in workflows() {
        let lines: Vec<&str> = text.lines().collect();
        for (n, line) in lines.iter().enumerate().filter(|(_, line)| line.trim_start().starts_with("run:")) {
            let script = if line.ends_with(">-") { lines[n + 1..n + 3].join(" ") } else { (*line).to_owned() };
            assert!(script.trim_start().trim_start_matches("run: ").starts_with("cargo xtask ci "), "{file}: {script}");
            assert!(!script.contains("${{") && !script.contains([';', '&', '|']), "{file}: {script}");
        }
    }
}

#[test]
fn every_job_has_a_time_limit_and_its_own_permissions() {
    for (file, text) in workflows() {
        let jobs = text.split_once("\njobs:\n").unwrap().1;
        let count =
            jobs.lines().filter(|l| l.starts_with("  ") && !l[2..].starts_with([' ', '#']) && l.ends_with(':')).count();
        assert!(count > 0);
        assert_eq!(jobs.matches("\n    timeout-minutes: ").count(), count, "{file}");
        assert_eq!(jobs.matches("\n    permissions:\n").count(), count, "{file}");
        assert!(text.contains("\npermissions: {}\n"), "{file}");
    }
}

/// Runs the linter on a folder of workflows; none if it is not installed, which is said past the capture of
/// the test harness.
#[expect(clippy::explicit_write, reason = "eprintln! would be captured by the test harness")]
fn lint(program: &str, args: &[&str]) -> Option<Output> {
    match Command::new(program).args(args).output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            writeln!(std::io::stderr(), "not run: `{program}` is not installed").unwrap();
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

/// A folder with the workflow `ci.yml`, changed.
fn planted(name: &str, from: &str, to: &str) -> Utf8PathBuf {
    let text = workflow();
    assert!(text.contains(from), "the workflow has no `{from}` to plant a fault at");
    let dir = Utf8PathBuf::from_path_buf(std::env::temp_dir()).unwrap();
    let dir = dir.join(format!("drydock-{name}-{}/.github/workflows", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("ci.yml"), text.replace(from, to)).unwrap();
    dir
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn zizmor_finds_nothing_in_ours_and_the_planted_injection() {
    let own = format!("{}/../.github/workflows", env!("CARGO_MANIFEST_DIR"));
    let Some(clean) = lint("zizmor", &["--offline", "--persona", "pedantic", &own]) else { return };
    assert!(clean.status.success(), "{}", text(&clean));
    let dir = planted("zizmor", "--name \"$NAME\"", "--name ${{ matrix.name }}");
    let found = lint("zizmor", &["--offline", "--persona", "pedantic", dir.as_str()]).unwrap();
    assert!(!found.status.success() && text(&found).contains("template-injection"), "{}", text(&found));
    fs::remove_dir_all(dir.ancestors().nth(2).unwrap()).unwrap();
}

#[test]
fn actionlint_finds_nothing_in_ours_and_the_planted_faults() {
    let files: Vec<String> = workflows().into_iter().map(|(file, _)| file.into_string()).collect();
    let args: Vec<&str> = files.iter().map(String::as_str).collect();
    let Some(clean) = lint("actionlint", &args) else { return };
    assert!(clean.status.success(), "{}", text(&clean));
    for (n, (to, word)) in
        [("--name ${{ github.event.pull_request.title }}", "untrusted"), ("--name ${{ matrix.nonsense.x", "expression")]
            .iter()
            .enumerate()
    {
        let dir = planted(&format!("actionlint-{n}"), "--name \"$NAME\"", to);
        let found = lint("actionlint", &[dir.join("ci.yml").as_str()]).unwrap();
        assert!(!found.status.success() && text(&found).contains(word), "{}", text(&found));
        fs::remove_dir_all(dir.ancestors().nth(2).unwrap()).unwrap();
    }
}
