//! Makes the command lines of everybody who can evaluate or build a fleet.

use std::{env, fs, thread};

use anyhow::{Context as _, Result};
use camino::Utf8PathBuf;

use super::{fleet::Scratch, measure::Way};
use crate::{
    flags::Bench,
    fleet::workspace,
    process::{Invocation, on_path},
};

/// The other tools, by the names of their programs.
const PEERS: &[&str] = &["nix-eval-jobs", "nix-fast-build", "om"];

const FEATURES: [&str; 3] = ["nix", "--extra-experimental-features", "nix-command flakes"];

/// What each of them is told about one fleet.
pub struct Tools {
    root: Utf8PathBuf,
    out: Utf8PathBuf,
    myself: String,
    /// `<host>.<artifact>` of everything that is compared.
    jobs: Vec<String>,
    workers: usize,
    /// Megabytes at which nix-eval-jobs replaces a worker: at least one figure, as the flag has a default.
    pub limits: Vec<u32>,
}

impl Tools {
    pub fn new(scratch: &Scratch, jobs: Vec<String>, flags: &Bench) -> Result<Self> {
        let out = scratch.root.with_extension("out");
        fs::create_dir_all(&out).with_context(|| format!("cannot create {out}"))?;
        let root = workspace().context("the sources of drydock are not here")?;
        let target = env::var("CARGO_TARGET_DIR").map_or_else(|_| root.join("target"), |target| root.join(target));
        let myself = target.join("release/drydock").into_string();
        Ok(Self { root: scratch.root.clone(), out, myself, jobs, workers: workers(flags), limits: flags.limit.clone() })
    }

    pub fn build_all<'a>(&self) -> Way<'a> {
        Way::new("drydock build-all", self.own(&["--out-link", self.out.join("result").as_str()]))
    }

    pub fn evaluate<'a>(&self) -> Way<'a> {
        self.evaluating("drydock build-all --evaluate", &["--evaluate"])
    }

    pub fn evaluate_forgetful<'a>(&self) -> Way<'a> {
        self.evaluating("drydock build-all --evaluate --no-cache", &["--evaluate", "--no-cache"])
    }

    fn evaluating<'a>(&self, name: &str, rest: &[&str]) -> Way<'a> {
        let workers = self.workers.to_string();
        let command = self.own(&[rest, &["--eval-jobs", &workers]].concat());
        Way::new(name, command).expecting(".drv\n", self.jobs.len())
    }

    fn own(&self, rest: &[&str]) -> Invocation {
        let head = [self.myself.as_str(), "build-all", "--fleet", self.root.as_str()];
        self.in_fleet(head.iter().chain(rest).map(|&word| word.to_owned()).collect())
    }

    /// One process that evaluates and builds everything; what it has evaluated is in its cache afterwards.
    pub fn nix_build<'a>(&self) -> Way<'a> {
        Way::new("nix build, all at once", self.nix(&["build", "--no-link"], &self.installables()))
    }

    pub fn nix_build_loop<'a>(&self) -> Way<'a> {
        let each =
            format!("nix --extra-experimental-features 'nix-command flakes' build --no-link \"{}#$job\"", self.root);
        let jobs: Vec<String> = self.jobs.iter().map(|job| format!("hydraJobs.{job}")).collect();
        let script = format!("for job in {}; do {each} || exit 1; done", jobs.join(" "));
        Way::new("nix build, one by one", self.in_fleet(["sh", "-c", &script].map(str::to_owned).to_vec()))
    }

    /// One process that evaluates everything, with its evaluation cache.
    pub fn nix_path_info<'a>(&self) -> Way<'a> {
        let command = self.nix(&["path-info", "--derivation"], &self.installables());
        Way::new("nix path-info, evaluation cache", command).expecting(".drv\n", self.jobs.len())
    }

    /// One process that evaluates everything, however often it has done so before.
    pub fn nix_eval<'a>(&self) -> Way<'a> {
        let apply =
            "builtins.mapAttrs (_: host: builtins.mapAttrs (_: job: job.drvPath) (removeAttrs host [ \"tests\" ]))";
        let words = ["eval", "--json", "--apply", apply];
        let command = self.nix(&words, &[format!("{}#hydraJobs", self.root)]);
        Way::new("nix eval, one process", command).expecting(".drv\"", self.jobs.len())
    }

    pub fn nix_eval_loop<'a>(&self) -> Way<'a> {
        let script = format!(
            "printf '%s\\n' {} | xargs -P{} -I@ nix --extra-experimental-features 'nix-command flakes' eval --raw \
             '{}#hydraJobs.@.drvPath'",
            self.jobs.join(" "),
            self.workers,
            self.root
        );
        let command = self.in_fleet(["sh", "-c", &script].map(str::to_owned).to_vec());
        Way::new(format!("nix eval, xargs -P{}", self.workers), command).expecting(".drv", self.jobs.len())
    }

    /// Evaluates only, whatever is or is not built. `limit`: megabytes at which a worker is replaced.
    pub fn eval_jobs<'a>(&self, limit: u32) -> Option<Way<'a>> {
        let (workers, limit_text) = (self.workers.to_string(), limit.to_string());
        let flake = format!("{}#hydraJobs", self.root);
        let select = "builtins.mapAttrs (_: host: removeAttrs host [ \"tests\" ])";
        let words = ["nix-eval-jobs", "--workers", &workers, "--max-memory-size", &limit_text, "--force-recurse"];
        let argv: Vec<String> =
            [&words[..], &["--select", select, "--flake", &flake]].concat().iter().map(|&w| w.into()).collect();
        on_path("nix-eval-jobs").then(|| {
            let command = self.in_fleet(argv).env("NIX_CONFIG", "extra-experimental-features = nix-command flakes");
            Way::new(Self::eval_jobs_name(limit), command).expecting("\"drvPath\":", self.jobs.len())
        })
    }

    pub fn eval_jobs_name(limit: u32) -> String {
        format!("nix-eval-jobs, {limit} MB")
    }

    pub fn fast_build<'a>(&self, limit: u32) -> Option<Way<'a>> {
        let (workers, limit) = (self.workers.to_string(), limit.to_string());
        let flake = format!("{}#hydraJobs", self.root);
        let argv = [
            "nix-fast-build",
            "--no-nom",
            "--eval-workers",
            &workers,
            "--eval-max-memory-size",
            &limit,
            "--flake",
            &flake,
        ];
        let argv = argv.map(str::to_owned).to_vec();
        let both = on_path("nix-fast-build") && on_path("nix-eval-jobs");
        both.then(|| Way::new("nix-fast-build", self.in_fleet(argv)))
    }

    /// Builds every output of a flake that it knows, which for a synthetic fleet is `packages`.
    pub fn omnix<'a>(&self) -> Option<Way<'a>> {
        let argv = ["om", "ci", "run", "--no-link", self.root.as_str()].map(str::to_owned).to_vec();
        on_path("om").then(|| Way::new("omnix", self.in_fleet(argv)))
    }

    fn installables(&self) -> Vec<String> {
        self.jobs.iter().map(|job| format!("{}#hydraJobs.{job}", self.root)).collect()
    }

    fn nix(&self, words: &[&str], installables: &[String]) -> Invocation {
        let words = FEATURES.iter().chain(words).map(|&word| word.to_owned());
        self.in_fleet(words.chain(installables.iter().cloned()).collect())
    }

    fn in_fleet(&self, argv: Vec<String>) -> Invocation {
        // Everybody uses the user's own caches: with an empty one Nix hashes all of nixpkgs first.
        Invocation::new(argv).dir(&self.root)
    }
}

/// Evaluators at once.
pub fn workers(flags: &Bench) -> usize {
    flags.workers.map_or_else(|| thread::available_parallelism().map_or(1, usize::from), usize::from)
}

/// Those of the other tools that are not on PATH.
pub fn missing() -> Vec<&'static str> {
    PEERS.iter().copied().filter(|peer| !on_path(peer)).collect()
}
