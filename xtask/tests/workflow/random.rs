//! Random edits of a copy of the embedded fleet: `affected` against evaluating everything at both revisions
//! with Nix alone. `DRYDOCK_EDITS` says how many; `DRYDOCK_SEED` repeats a run.

use std::{collections::BTreeMap, fs, process::Command};

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

/// Few in the ordinary run; each costs four evaluations of the fleet.
const EDITS: u64 = 8;

#[test]
fn affected_agrees_with_evaluating_everything() {
    let number = |key: &str| std::env::var(key).ok().map(|text| text.parse::<u64>().unwrap());
    let edits = number("DRYDOCK_EDITS").unwrap_or(EDITS);
    let mut random = Random(number("DRYDOCK_SEED").unwrap_or(0x5DEE_CE66_D1CE_4E5B));
    let dir = tempfile::TempDir::new().unwrap();
    let root = Utf8PathBuf::from_path_buf(dir.path().canonicalize().unwrap()).unwrap();
    let demo = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci/demo");
    copy(&demo, &root);
    git(&root, &["init", "--quiet", "--initial-branch=main"]);
    git(&root, &["add", "--all"]);
    git(&root, &["-c", "user.name=n", "-c", "user.email=n@localhost", "commit", "--quiet", "--message=m"]);
    let before = truth(&root);
    assert!(before.len() >= 3 && before.values().all(Option::is_some), "{before:?}");
    let (mut changed, mut unchanged, mut broken) = (0, 0, 0);
    for n in 0..edits {
        git(&root, &["reset", "--quiet", "--hard"]);
        git(&root, &["clean", "--quiet", "-fdx"]);
        let what = random.edit(&root);
        let expected = compare(&before, &truth(&root));
        let (found, document) = affected(&root);
        assert_eq!(found, expected, "edit {n} of {edits}: {what}\n{document}");
        let count = |word: &str| expected.values().filter(|status| *status == word).count();
        changed += count("changed");
        unchanged += count("unchanged");
        broken += count("broken");
    }
    // Without this the edits could all be harmless and the test prove nothing.
    assert!(edits < EDITS || (changed > 0 && unchanged > 0), "{changed} {unchanged}");
    println!("{edits} edits: {changed} hosts changed, {unchanged} unchanged, {broken} broken, all as expected");
}

/// What every job evaluates to, by Nix alone; none for what does not evaluate.
fn truth(root: &Utf8Path) -> BTreeMap<String, Option<String>> {
    const ALL: &str = "jobs: builtins.mapAttrs (_: job: builtins.mapAttrs (name: value: if name == \"tests\" then \
                       builtins.mapAttrs (_: test: test.drvPath) value else value.drvPath) job) jobs";
    let mut jobs = BTreeMap::new();
    let names: Vec<String> = match nix(root, "hydraJobs", "builtins.attrNames") {
        Some(value) => value.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect(),
        None => host_rows(root),
    };
    if let Some(Value::Object(all)) = nix(root, "hydraJobs", ALL) {
        for (host, values) in all {
            flatten(&host, &values, &mut jobs);
        }
        return jobs;
    }
    // Something does not evaluate: each host by itself, and what fails there job by job.
    for host in names {
        let one = format!("job: ({ALL}) {{ x = job; }}");
        match nix(root, &format!("hydraJobs.{host}"), &one) {
            Some(value) => flatten(&host, &value["x"], &mut jobs),
            None => drop(jobs.insert(host, None)),
        }
    }
    jobs
}

fn flatten(host: &str, values: &Value, jobs: &mut BTreeMap<String, Option<String>>) {
    for (name, value) in values.as_object().unwrap() {
        match value {
            Value::Object(tests) => {
                for (test, drv) in tests {
                    jobs.insert(format!("{host}.tests.{test}"), Some(drv.as_str().unwrap().to_owned()));
                }
            }
            drv => drop(jobs.insert(format!("{host}.{name}"), Some(drv.as_str().unwrap().to_owned()))),
        }
    }
}

fn host_rows(root: &Utf8Path) -> Vec<String> {
    let text = fs::read_to_string(root.join("hosts/hosts.toml")).unwrap();
    text.lines().filter_map(|line| Some(line.strip_prefix("[host.")?.strip_suffix(']')?.to_owned())).collect()
}

fn nix(root: &Utf8Path, attribute: &str, function: &str) -> Option<Value> {
    let mut nix = Command::new("nix");
    nix.args(["--extra-experimental-features", "nix-command flakes", "eval", "--json", "--no-update-lock-file"]);
    nix.arg(format!("git+file://{root}#{attribute}")).args(["--apply", function]);
    let output = nix.output().unwrap();
    output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
}

/// The status of each host that the two truths amount to. No edit changes what the matrix asks for, so that
/// a job of the base that does not evaluate now, or is not there any more, is broken; others are not asked for.
fn compare(old: &BTreeMap<String, Option<String>>, new: &BTreeMap<String, Option<String>>) -> BTreeMap<String, String> {
    let mut statuses: BTreeMap<String, String> = BTreeMap::new();
    for (job, before) in old {
        let status = match new.get(job) {
            None | Some(None) => "broken",
            Some(now) if now == before => "unchanged",
            Some(_) => "changed",
        };
        // In the order of the alphabet, as it happens, what is worse comes first.
        let host = statuses.entry(job.split('.').next().unwrap().to_owned()).or_insert_with(|| status.to_owned());
        if status < host.as_str() {
            *host = status.to_owned();
        }
    }
    statuses
}

/// The status of each host by Drydock, and all that it said.
fn affected(root: &Utf8Path) -> (BTreeMap<String, String>, String) {
    let mut xtask = Command::new(env!("CARGO_BIN_EXE_drydock"));
    xtask.args(["affected", "--base", "HEAD", "--json"]).current_dir(root).env_remove("CARGO_MANIFEST_DIR");
    let output = xtask.env("CI", "1").output().unwrap();
    let document: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{:?}: {}", output.status, String::from_utf8_lossy(&output.stderr)));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let statuses =
        document["hosts"].as_array().unwrap().iter().map(|host| (text(&host["host"]), text(&host["status"]))).collect();
    (statuses, format!("{document:#}\n{}", String::from_utf8_lossy(&output.stderr)))
}

/// A small generator of repeatable numbers (Marsaglia's xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }

    /// Changes one thing in the fleet and says what.
    fn edit(&mut self, root: &Utf8Path) -> String {
        let mut files = Vec::new();
        list(root, &mut files);
        files.retain(|file| {
            !file.ends_with("hosts.toml") && !file.ends_with("debian.json") && !file.ends_with("flake.nix")
        });
        let file = files[self.below(files.len())].clone();
        let text = fs::read_to_string(&file).unwrap();
        let marker = self.0;
        match self.below(7) {
            0 => {
                fs::write(root.join("README.md"), format!("{marker}\n")).unwrap();
                git(root, &["add", "README.md"]);
                "a new README.md".into()
            }
            1 => {
                let matrix = root.join("hosts/hosts.toml");
                let text = fs::read_to_string(&matrix).unwrap();
                fs::write(&matrix, format!("{text}\n# {marker}\n")).unwrap();
                "a comment in hosts.toml".into()
            }
            2 => {
                let matrix = root.join("hosts/hosts.toml");
                let text = fs::read_to_string(&matrix).unwrap();
                let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("description")).collect();
                let row = rows[self.below(rows.len())].to_owned();
                fs::write(&matrix, text.replace(&row, &format!("description = \"edit {marker}\""))).unwrap();
                format!("another description than {row}")
            }
            3 => {
                let names = host_rows(root);
                let host = root.join("hosts").join(&names[self.below(names.len())]);
                let mut own = Vec::new();
                list(&host, &mut own);
                let file = own[self.below(own.len())].clone();
                let text = fs::read_to_string(&file).unwrap();
                fs::write(&file, text.replacen('"', &format!("\"e{marker}"), 1)).unwrap();
                format!("a changed text in {file}")
            }
            4 => {
                fs::write(&file, format!("{text}\n# edit {marker}\n")).unwrap();
                format!("a comment at the end of {file}")
            }
            5 => {
                let words: Vec<&str> = text.split('"').collect();
                if words.len() < 3 {
                    fs::write(&file, format!("{text}\n")).unwrap();
                    return format!("a newline at the end of {file}");
                }
                let at = 1 + 2 * self.below((words.len() - 1) / 2);
                let changed: Vec<String> = words
                    .iter()
                    .enumerate()
                    .map(|(n, w)| if n == at { format!("{w}x") } else { (*w).into() })
                    .collect();
                fs::write(&file, changed.join("\"")).unwrap();
                format!("one letter more in text {at} of {file}")
            }
            _ => {
                let cut = self.below(text.len().max(2)) & !1;
                let cut = (0..=cut).rev().find(|&at| text.is_char_boundary(at)).unwrap();
                fs::write(&file, format!("{} {}", &text[..cut], &text[cut..])).unwrap();
                format!("a space at byte {cut} of {file}")
            }
        }
    }
}

fn list(dir: &Utf8Path, files: &mut Vec<Utf8PathBuf>) {
    let mut entries: Vec<_> = dir.read_dir_utf8().unwrap().map(|entry| entry.unwrap().path().to_owned()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() && !path.ends_with(".git") {
            list(&path, files);
        } else if path.is_file() {
            files.push(path);
        }
    }
}

fn copy(from: &Utf8Path, to: &Utf8Path) {
    let mut files = Vec::new();
    list(from, &mut files);
    for file in files.iter().filter(|file| !file.components().any(|part| part.as_str() == "result")) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(file, target).unwrap();
    }
}

fn git(root: &Utf8Path, args: &[&str]) {
    let mut git = Command::new("git");
    git.args(args).current_dir(root).env("GIT_CONFIG_GLOBAL", "/dev/null");
    for key in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        git.env_remove(key);
    }
    assert!(git.status().unwrap().success(), "git {args:?}");
}
