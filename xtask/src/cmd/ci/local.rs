//! `cargo xtask ci --local`: the workflow and the checked-out commit in, every job run here out.
#![expect(clippy::print_stderr, reason = "a verb prints its report")]

use std::{fs, os::unix::fs::PermissionsExt as _};

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Map, Value, json};

use crate::{
    cmd::{DONE, FAILED, INTERRUPTED},
    diagnostic::usage,
    flags::LocalFlags,
    fleet,
    git::Repository,
    process::{Cancel, quote},
    workflow::{
        run::{self, JobResult, Surroundings},
        yaml,
    },
};

/// Jobs that are not run here: this one is `cargo xtask ci` itself.
const LEFT_OUT: [&str; 1] = ["check"];

pub fn run(flags: &LocalFlags, cancel: &Cancel) -> Result<u8> {
    let root = fleet::workspace().ok_or_else(|| usage("the workflow is the repository's; run this inside a clone"))?;
    let repository = Repository::around(&root, cancel)?;
    let commit = repository.commit("HEAD", cancel)?;
    if fleet::revision(&root, cancel).1 {
        eprintln!("warning: the clones hold the last commit; your uncommitted changes are not in them");
    }
    let base = flags.base.as_deref().map(|base| repository.commit(base, cancel)).transpose()?;
    let file = root.join(&flags.workflow);
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
    let workflow = yaml::parse(&text).with_context(|| format!("cannot read {file}"))?;
    let scratch = Scratch::new(flags.keep.as_deref())?;
    let around = Surroundings {
        contexts: contexts(flags, &commit, base.as_deref()),
        root: &scratch.dir,
        repository: &repository.toplevel,
        commit: &commit,
        env: environment(&scratch.dir)?,
        left_out: &LEFT_OUT,
    };
    let results = run::run(&workflow, &around, cancel, &mut |job, line| eprintln!("[{job}] {line}"))?;
    if cancel.is_set() {
        return Ok(INTERRUPTED);
    }
    tell(&results, &scratch);
    let open = results.get("gate").is_some_and(|gate| gate.result == "success");
    Ok(if open { DONE } else { FAILED })
}

/// What GitHub would tell the jobs of the event: a pull request, or a run by hand.
fn contexts(flags: &LocalFlags, commit: &str, base: Option<&str>) -> Map<String, Value> {
    let event = base.map_or_else(
        || json!({}),
        // As from a fork, so that nothing that needs a token is attempted.
        |sha| json!({ "pull_request": { "number": 1, "base": { "sha": sha }, "head": { "repo": { "full_name": "fork/repository" } } } }),
    );
    let contexts = json!({
        "github": {
            "event_name": if base.is_some() { "pull_request" } else { "workflow_dispatch" },
            "event": event,
            "ref": if base.is_some() { "refs/pull/1/merge" } else { "refs/heads/local" },
            "repository": "owner/repository",
            "sha": commit,
            "run_id": 1,
            "workflow": "CI",
            "token": "",
        },
        "vars": { "DRYDOCK_FLEET": flags.fleet, "DRYDOCK_NO_TESTS": flags.no_tests.to_string() },
        "runner": { "os": "Linux", "arch": "X64" },
    });
    match contexts {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// What every step sees: caches of its own, and a `cargo` whose `xtask` is this very program, because
/// compiling it anew for each clone would test the compiler.
fn environment(scratch: &Utf8Path) -> Result<Vec<(String, String)>> {
    let own = std::env::current_exe().context("cannot tell the path of this program")?;
    let own = own.to_str().context("the path of this program is not UTF-8")?;
    let bin = scratch.join("bin");
    fs::create_dir_all(&bin).with_context(|| format!("cannot create {bin}"))?;
    let shim = format!(
        "#!/bin/sh\n# Stands for `cargo xtask` in the clones.\n[ \"$1\" = xtask ] || {{ echo \"only cargo xtask runs here\" >&2; exit 2; }}\nshift\n\
         CARGO_MANIFEST_DIR=$(git rev-parse --show-toplevel)/xtask exec {} \"$@\"\n",
        quote(own)
    );
    let file = bin.join("cargo");
    fs::write(&file, shim).with_context(|| format!("cannot write {file}"))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).with_context(|| format!("cannot write {file}"))?;
    let path = std::env::var("PATH").unwrap_or_default();
    let pairs = [
        ("PATH", format!("{bin}:{path}")),
        ("CI", "true".to_owned()),
        ("GITHUB_ACTIONS", "true".to_owned()),
        ("RUNNER_ENVIRONMENT", "self-hosted".to_owned()),
        ("XDG_CACHE_HOME", scratch.join("cache").into_string()),
    ];
    Ok(pairs.map(|(key, value)| (key.to_owned(), value)).into())
}

fn tell(results: &std::collections::BTreeMap<String, JobResult>, scratch: &Scratch) {
    eprintln!("\nstep summary:\n{}", fs::read_to_string(scratch.dir.join("summary.md")).unwrap_or_default());
    for (job, result) in results {
        eprintln!("{job:10} {}", result.result);
    }
    for job in LEFT_OUT {
        eprintln!("{job:10} not run: it is `cargo xtask ci` itself");
    }
    if scratch.kept {
        eprintln!("kept in {}", scratch.dir);
    }
}

/// A folder that is removed at the end, or the one that is to be kept.
struct Scratch {
    dir: Utf8PathBuf,
    kept: bool,
}

impl Scratch {
    fn new(keep: Option<&Utf8Path>) -> Result<Self> {
        let dir = match keep {
            Some(dir) => dir.to_owned(),
            None => {
                let temporary = Utf8PathBuf::from_path_buf(std::env::temp_dir()).unwrap_or_else(|_| "/tmp".into());
                temporary.join(format!("drydock-local-{}", std::process::id()))
            }
        };
        if keep.is_some() && dir.read_dir_utf8().is_ok_and(|mut list| list.next().is_some()) {
            return Err(usage(format!("{dir} is not empty; --keep wants a new folder")));
        }
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {dir}"))?;
        let dir = dir.canonicalize_utf8().with_context(|| format!("cannot find {dir}"))?;
        Ok(Self { dir, kept: keep.is_some() })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.kept {
            // What is left behind lies in the folder for temporary files.
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}
