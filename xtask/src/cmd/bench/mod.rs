//! `cargo xtask bench`: this program and others doing the same things, alternating, in one run.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a verb prints its report")]

mod fleet;
mod report;

use std::{env, fs, time::Duration};

use anyhow::{Context as _, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};

use super::{DONE, INTERRUPTED};
use crate::{
    flags::Bench,
    fleet::Fleet,
    nix::Nix,
    process::{Cancel, End, Invocation, on_path},
};
use fleet::Scratch;
use report::{Comparison, Series};

/// The longest that one measurement may take.
const PATIENCE: Duration = Duration::from_secs(1800);

/// One way to do something: what is done before, which is not measured, and the command that is.
struct Way<'a> {
    name: &'static str,
    before: Box<dyn Fn(usize) -> Result<()> + 'a>,
    command: Invocation,
}

pub fn run(flags: &Bench, cancel: &Cancel) -> Result<u8> {
    let nix = Nix::find(cancel)?;
    let base =
        Utf8PathBuf::from_path_buf(env::temp_dir()).ok().context("the folder for temporary files is not UTF-8")?;
    let base = base.join(format!("drydock-bench-{}", std::process::id()));
    let measured = measure(flags, &base, cancel);
    // Best effort: a folder that stays behind is no reason to hide what was measured.
    let _ = fs::remove_dir_all(&base);
    let comparisons = measured?;
    if cancel.is_set() {
        return Ok(INTERRUPTED);
    }
    println!("{}\n\n{}", machine(&nix), report::markdown(&comparisons));
    if let Some(path) = &flags.svg {
        fs::write(path, report::svg(&comparisons)).with_context(|| format!("cannot write {path}"))?;
    }
    Ok(DONE)
}

/// The machine and the versions, without which numbers mean nothing.
fn machine(nix: &Nix) -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1)).unwrap_or("unknown");
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("unknown").to_owned();
    let build = if cfg!(debug_assertions) { "development" } else { "release" };
    format!("{cores} cores ({model}), load {load}, Nix {}, a {build} build of xtask", nix.version)
}

fn measure(flags: &Bench, base: &Utf8Path, cancel: &Cancel) -> Result<Vec<Comparison>> {
    let mut all = Vec::new();
    if let Some(fleet) = &flags.real {
        all.extend(real(flags, fleet, base, cancel)?);
        return Ok(all);
    }
    for hosts in &flags.hosts {
        let hosts = usize::from(*hosts);
        let scratch = Scratch::synthetic(base.join(hosts.to_string()), hosts, cancel)?;
        all.extend(synthetic(flags, &scratch, hosts, cancel)?);
    }
    Ok(all)
}

fn synthetic(flags: &Bench, scratch: &Scratch, hosts: usize, cancel: &Cancel) -> Result<Vec<Comparison>> {
    let tools = Tools::of(scratch, &flags.out(scratch))?;
    let names: Vec<String> = (0..hosts).map(|number| format!("h{number:04}")).collect();
    let fresh = |tool: &'static str| {
        move |round: usize| {
            scratch.edit_all(&format!("{tool}-{round}-{}", std::process::id()))?;
            scratch.commit(&Cancel::default())
        }
    };
    let mut all = Vec::new();
    let mut first: Vec<Way<'_>> =
        vec![Way { name: "xtask build-all", before: Box::new(fresh("xtask")), command: tools.build_all() }];
    first.push(Way {
        name: "nix build, all at once",
        before: Box::new(fresh("nix")),
        command: tools.nix_build(&names),
    });
    if hosts <= 32 {
        first.push(Way {
            name: "nix build, one by one",
            before: Box::new(fresh("loop")),
            command: tools.nix_loop(&names),
        });
    }
    if let Some(command) = tools.fast_build() {
        first.push(Way { name: "nix-fast-build", before: Box::new(fresh("fast")), command });
    }
    all.push(compare(&format!("first build, {hosts} trivial hosts"), flags.rounds, first, cancel)?);
    let still = || Box::new(|_: usize| Ok(()));
    for (title, dirty) in [("nothing changed, clean", false), ("nothing changed, dirty", true)] {
        if dirty {
            scratch.edit_readme(0)?;
        }
        // Both have seen this state once before they are measured.
        tools.build_all().timeout(PATIENCE).read(cancel)?;
        tools.nix_build(&names).timeout(PATIENCE).read(cancel)?;
        let mut ways: Vec<Way<'_>> = vec![
            Way { name: "xtask build-all", before: still(), command: tools.build_all() },
            Way { name: "nix build, all at once", before: still(), command: tools.nix_build(&names) },
        ];
        if let Some(command) = tools.eval_jobs().filter(|_| hosts <= 100) {
            ways.push(Way { name: "nix-eval-jobs", before: still(), command });
        }
        all.push(compare(&format!("{title}, {hosts} hosts"), flags.rounds, ways, cancel)?);
    }
    let edit = || Box::new(|round: usize| scratch.edit_host(round * 100 + std::process::id() as usize));
    let ways: Vec<Way<'_>> = vec![
        Way { name: "xtask build-all", before: edit(), command: tools.build_all() },
        Way {
            name: "nix build, all at once",
            before: Box::new(|round| scratch.edit_host(round + 7)),
            command: tools.nix_build(&names),
        },
    ];
    all.push(compare(&format!("one of {hosts} hosts edited, dirty"), flags.rounds, ways, cancel)?);
    Ok(all)
}

/// A fleet on real nixpkgs is evaluated only: building it takes a binary cache.
fn real(flags: &Bench, from: &Utf8Path, base: &Utf8Path, cancel: &Cancel) -> Result<Vec<Comparison>> {
    let from = from.canonicalize_utf8().with_context(|| format!("--real {from}"))?;
    let scratch = Scratch::copy(base.join("real"), &from, cancel)?;
    let fleet = Fleet::open(scratch.root.as_str(), &[])?;
    let jobs: Vec<String> = fleet
        .matrix
        .hosts
        .iter()
        .flat_map(|host| host.artifacts.iter().map(move |artifact| format!("{}.{}", host.name, artifact.as_str())))
        .collect();
    let Some(host) = fleet.matrix.hosts.first().map(|host| host.name.to_string()) else { bail!("{from} has no hosts") };
    let tools = Tools::of(&scratch, &flags.out(&scratch))?;
    let still = || Box::new(|_: usize| Ok(()));
    let mut all = Vec::new();
    let ways = |before: &dyn Fn() -> Box<dyn Fn(usize) -> Result<()>>, cold: bool| {
        let mut ways: Vec<Way<'_>> =
            vec![Way { name: "xtask build-all --evaluate", before: before(), command: tools.evaluate(cold) }];
        match tools.eval_jobs() {
            Some(command) => ways.push(Way { name: "nix-eval-jobs", before: before(), command }),
            None => {
                ways.push(Way { name: "nix eval, two at a time", before: before(), command: tools.eval_loop(&jobs) })
            }
        }
        ways
    };
    let nothing = || -> Box<dyn Fn(usize) -> Result<()>> { still() };
    all.push(compare(&format!("cold, {} jobs", jobs.len()), flags.rounds, ways(&nothing, true), cancel)?);
    tools.evaluate(false).timeout(PATIENCE).read(cancel)?;
    all.push(compare("nothing changed", flags.rounds, ways(&nothing, false), cancel)?);
    let root = scratch.root.clone();
    let readme = || -> Box<dyn Fn(usize) -> Result<()>> {
        let scratch = Scratch { root: root.clone() };
        Box::new(move |round| scratch.edit_readme(round))
    };
    all.push(compare("README edited", flags.rounds, ways(&readme, false), cancel)?);
    let one = || -> Box<dyn Fn(usize) -> Result<()>> {
        let (scratch, host) = (Scratch { root: root.clone() }, host.clone());
        Box::new(move |round| scratch.comment_host(&host, round))
    };
    let title = format!("one of {} hosts edited", fleet.matrix.hosts.len());
    all.push(compare(&title, flags.rounds, ways(&one, false), cancel)?);
    Ok(all)
}

/// Runs the ways in turn, round after round, so that what else the machine does hits all alike.
fn compare(title: &str, rounds: u8, ways: Vec<Way<'_>>, cancel: &Cancel) -> Result<Comparison> {
    let mut series: Vec<Series> =
        ways.iter().map(|way| Series { name: way.name.to_owned(), seconds: Vec::new() }).collect();
    for round in 1..=usize::from(rounds) {
        for (way, series) in ways.iter().zip(&mut series) {
            (way.before)(round)?;
            let captured = way.command.clone().timeout(PATIENCE).capture(cancel)?;
            match captured.end {
                End::Cancelled => return Ok(Comparison { title: title.to_owned(), series: Vec::new() }),
                end if !end.is_success() => {
                    bail!("{title}: `{}` failed ({end}):\n{}", way.command.display(), captured.stderr.trim())
                }
                _ => series.seconds.push(captured.elapsed.as_secs_f64()),
            }
        }
        eprintln!("{title}: round {round} of {rounds}");
    }
    Ok(Comparison { title: title.to_owned(), series })
}

/// The command lines of everybody.
struct Tools {
    root: Utf8PathBuf,
    out: Utf8PathBuf,
    myself: String,
}

impl Tools {
    fn of(scratch: &Scratch, out: &Utf8Path) -> Result<Self> {
        fs::create_dir_all(out).with_context(|| format!("cannot create {out}"))?;
        let myself = env::current_exe().context("cannot tell this program's own file")?;
        let myself = myself.to_str().context("this program's path is not UTF-8")?.to_owned();
        Ok(Self { root: scratch.root.clone(), out: out.to_owned(), myself })
    }

    fn in_fleet(&self, argv: Vec<String>) -> Invocation {
        // Everybody uses the user's own caches: with an empty one Nix hashes all of nixpkgs first.
        Invocation::new(argv).dir(&self.root)
    }

    fn own(&self, rest: &[&str]) -> Invocation {
        let head = [self.myself.as_str(), "build-all", "--fleet", self.root.as_str()];
        self.in_fleet(head.iter().chain(rest).map(|&s| s.to_owned()).collect())
    }

    fn build_all(&self) -> Invocation {
        self.own(&["--out-link", self.out.join("result").as_str()])
    }

    fn evaluate(&self, cold: bool) -> Invocation {
        self.own(if cold { &["--evaluate", "--no-cache"] } else { &["--evaluate"] })
    }

    fn nix(&self, rest: impl Iterator<Item = String>) -> Invocation {
        let head = ["nix", "--extra-experimental-features", "nix-command flakes"].map(str::to_owned);
        self.in_fleet(head.into_iter().chain(rest).collect())
    }

    fn nix_build(&self, hosts: &[String]) -> Invocation {
        let installables = hosts.iter().map(|host| format!("{}#hydraJobs.{host}.system", self.root));
        self.nix(["build", "--no-link"].map(str::to_owned).into_iter().chain(installables))
    }

    fn nix_loop(&self, hosts: &[String]) -> Invocation {
        let script = format!(
            "for h in {}; do nix --extra-experimental-features 'nix-command flakes' build --no-link {}#hydraJobs.$h.system || exit 1; done",
            hosts.join(" "),
            self.root
        );
        self.in_fleet(vec!["sh".into(), "-c".into(), script])
    }

    fn eval_loop(&self, jobs: &[String]) -> Invocation {
        let script = format!(
            "printf '%s\\n' {} | xargs -P2 -I@ nix --extra-experimental-features 'nix-command flakes' eval --raw {}#hydraJobs.@.drvPath",
            jobs.join(" "),
            self.root
        );
        self.in_fleet(vec!["sh".into(), "-c".into(), script])
    }

    fn eval_jobs(&self) -> Option<Invocation> {
        let flake = format!("{}#hydraJobs", self.root);
        let argv = ["nix-eval-jobs", "--workers", "2", "--force-recurse", "--flake", &flake].map(str::to_owned);
        on_path("nix-eval-jobs").then(|| self.in_fleet(argv.to_vec()))
    }

    fn fast_build(&self) -> Option<Invocation> {
        let flake = format!("{}#hydraJobs", self.root);
        let argv = ["nix-fast-build", "--no-link", "--no-nom", "--skip-cached", "--flake", &flake].map(str::to_owned);
        on_path("nix-fast-build").then(|| self.in_fleet(argv.to_vec()))
    }
}

impl Bench {
    fn out(&self, scratch: &Scratch) -> Utf8PathBuf {
        scratch.root.with_extension("out")
    }
}
