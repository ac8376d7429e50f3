//! Holds the workflow files against the programs that they call, and has the linters find faults that are planted.

use std::{
    collections::BTreeSet,
    fs,
    process::{Command, Output},
};

use camino::Utf8PathBuf;
use tempfile::TempDir;

use crate::{repository::Repository, scripts};

fn workflows() -> Vec<(Utf8PathBuf, String)> {
    let mut files = scripts::files();
    files.retain(|(file, _)| file.as_str().contains("/.github/workflows/"));
    assert!(files.len() >= 3);
    files
}

/// The jobs of a workflow, with their text.
fn jobs(text: &str) -> Vec<(&str, &str)> {
    let body = text.split_once("\njobs:").unwrap().1;
    let starts = |line: &str| line.starts_with("  ") && !line[2..].starts_with([' ', '#']) && line.ends_with(':');
    let heads: Vec<&str> = body.lines().filter(|line| starts(line)).collect();
    let at = |head: &str| body.find(&format!("\n{head}\n")).unwrap();
    let ends = heads.iter().skip(1).map(|next| at(next)).chain([body.len()]);
    heads.iter().zip(ends).map(|(head, end)| (head.trim().trim_end_matches(':'), &body[at(head)..end])).collect()
}

/// What the linters do not ask for: no logic in YAML, and a time limit for every job.
#[test]
fn every_script_is_one_call_and_every_job_has_a_time_limit() {
    for (file, text) in workflows() {
        assert_eq!(text.matches("run: ").count(), scripts::of(&text).len(), "{file}");
        for script in scripts::of(&text) {
            let prepares = ["cargo build --locked --package ", "chmod +x drydock-ci/program/"];
            let prepares = prepares.iter().any(|start| script.starts_with(start));
            assert!(scripts::call(&script).is_some() || prepares, "{file}: {script}");
            assert!(!script.contains([';', '&', '|']), "{file}: {script}");
        }
        for (job, text) in jobs(&text) {
            assert_eq!(text.matches("\n    timeout-minutes: ").count(), 1, "{file}: {job}");
        }
    }
}

/// One job an architecture compiles; the others download the program, which an artifact has lost the permission to execute.
#[test]
fn jobs_that_do_not_compile_take_the_program_from_one_that_does() {
    const ARTIFACT: &str = "name: program-${{ runner.arch }}\n";
    let step = |text: &str, action: &str| {
        text.split("\n      - ").find(|step| step.contains(action) && step.contains(ARTIFACT)).map(str::to_owned)
    };
    let mut compiling = Vec::new();
    for (file, text) in workflows() {
        let all = jobs(&text);
        let uploads = |job: &str| {
            let (_, text) = all.iter().find(|(name, _)| *name == job).unwrap();
            step(text, "actions/upload-artifact@").is_some()
        };
        for (job, text) in &all {
            let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("{file}: {job} has no `{part}`"));
            let scripts = scripts::of(text);
            if text.contains("run: cargo ") {
                compiling.push(format!("{} {job}", file.file_name().unwrap()));
            }
            for script in &scripts {
                let path = script.split(' ').next().unwrap();
                if let Some(program) = path.strip_prefix("target/debug/") {
                    let build = scripts.iter().find(|script| script.starts_with("cargo build")).unwrap();
                    assert!(build.split(' ').any(|word| word == program), "{file}: {job} does not compile {program}");
                    assert!(at("run: cargo build") < at(path), "{file}: {job} calls {program} before it is compiled");
                }
                if path.starts_with("drydock-ci/program/") {
                    let download = step(text, "actions/download-artifact@").unwrap();
                    assert!(download.contains("path: drydock-ci/program"), "{file}: {job}: {download}");
                    let downloaded = at(&download);
                    let made_executable = at("run: chmod +x ");
                    let chmod = scripts.iter().find(|script| script.starts_with("chmod")).unwrap();
                    assert!(chmod.split(' ').any(|word| word == path), "{file}: {job}: {path} is not executable");
                    assert!(downloaded < made_executable && made_executable < at(&format!("run: {path}")));
                    let needs = text.lines().find_map(|line| line.trim().strip_prefix("needs: [")).unwrap();
                    let needs: Vec<&str> = needs.trim_end_matches(']').split(", ").collect();
                    // On one runner it is one program, on those of a matrix it may be any.
                    let uploaders: Vec<&str> = all.iter().map(|(name, _)| *name).filter(|name| uploads(name)).collect();
                    let mut waited_for = uploaders.iter().map(|name| needs.contains(name));
                    let of_a_matrix = text.contains("runs-on: ${{ matrix.");
                    let waits = if of_a_matrix { waited_for.all(|waits| waits) } else { waited_for.any(|waits| waits) };
                    assert!(
                        waits && !uploaders.is_empty(),
                        "{file}: {job} waits for {needs:?} and not for {uploaders:?}"
                    );
                }
            }
        }
    }
    assert_eq!(compiling, ["ci.yml check", "ci.yml plan", "ci.yml program", "release.yml build", "update.yml update"]);
}

/// The outputs that jobs ask `plan` for are those that it sets.
#[test]
fn plan_sets_the_outputs_that_the_workflow_reads() {
    let repository = Repository::new(&["a"]);
    let file = repository.root.join("outputs");
    let (code, _, stderr) = repository.xtask_with(&[("GITHUB_OUTPUT", file.as_str())], &["ci", "plan"]);
    assert_eq!(code, Some(0), "{stderr}");
    let set = fs::read_to_string(file).unwrap();
    let set: BTreeSet<&str> = set.lines().map(|line| line.split_once('=').unwrap().0).collect();
    let (_, text) = workflows().into_iter().find(|(file, _)| file.ends_with("ci.yml")).unwrap();
    let word = |rest: &str| rest.split(|c: char| !c.is_ascii_lowercase() && c != '_').next().unwrap().to_owned();
    for prefix in ["steps.plan.outputs.", "needs.plan.outputs."] {
        let read: BTreeSet<String> = text.split(prefix).skip(1).map(word).collect();
        assert_eq!(read, set.iter().map(|name| (*name).to_owned()).collect(), "{prefix}");
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
