//! Runs build-all on a fleet, and compares what it came to with a run that has no cache.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    os::unix::process::ExitStatusExt as _,
    process::{Child, Command},
    time::{Duration, Instant},
};

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use super::fleet::{Fleet, without_git_variables};

/// Where results go, and how long a run usually takes.
pub struct Results {
    links: [Utf8PathBuf; 3],
    pub usual: Duration,
    count: usize,
}

/// One job of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub derivation: Option<(String, String)>,
    /// Stage, message and place.
    pub failure: Option<(Value, Value, Value)>,
    pub evaluated: bool,
}

/// What a run came to.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    signal: Option<i32>,
    pub jobs: BTreeMap<String, Job>,
    pub stderr: String,
    out_link: Utf8PathBuf,
}

impl Results {
    pub fn new(fleet: &Fleet) -> Self {
        // A results folder inside a `path:` flake would be part of it.
        let first = if fleet.git { fleet.root.join("result") } else { fleet.dir.join("result") };
        let links = [first, fleet.dir.join("a"), fleet.dir.join("deep/b")];
        Self { links, usual: Duration::from_millis(1500), count: 0 }
    }

    /// One of the places for results.
    pub fn link(&self, random: &mut super::Random) -> usize {
        random.below(self.links.len())
    }

    pub fn run(&mut self, fleet: &Fleet, link: usize, args: &[&str]) -> Ran {
        let began = Instant::now();
        let ran = self.start(fleet, link, args).wait();
        self.usual = (self.usual * 3 + began.elapsed()) / 4;
        ran
    }

    pub fn start(&mut self, fleet: &Fleet, link: usize, args: &[&str]) -> Running {
        let out_link = self.links[link].clone();
        self.spawn(fleet, &fleet.dir.join("cache"), out_link, args)
    }

    /// The same fleet without any cache, of Drydock or of Nix, into a folder where nothing was before.
    pub fn truth(&mut self, fleet: &Fleet) -> Ran {
        let folder = fleet.dir.join(format!("truth-{}", self.count));
        let cache = folder.join("cache");
        self.spawn(fleet, &cache, folder.join("result"), &["--no-cache"]).wait()
    }

    fn spawn(&mut self, fleet: &Fleet, cache: &Utf8Path, out_link: Utf8PathBuf, args: &[&str]) -> Running {
        self.count += 1;
        let files = ["out", "err"].map(|name| fleet.dir.join(format!("{}.{name}", self.count)));
        let [out, err] = [0, 1].map(|n: usize| File::create(&files[n]).unwrap());
        let mut command = Command::new(env!("CARGO_BIN_EXE_drydock"));
        command.args(["build-all", "--json", "--fleet", &fleet.argument(), "--out-link", out_link.as_str()]);
        command.args(args).current_dir(&fleet.dir).env_remove("CARGO_MANIFEST_DIR").env("CI", "1");
        without_git_variables(&mut command).env("XDG_CACHE_HOME", cache).stdout(out).stderr(err);
        Running { child: command.spawn().unwrap(), files, out_link }
    }

    /// Holds a finished run against one without a cache.
    pub fn compare(&self, fleet: &Fleet, ran: &Ran, link: usize, truth: &Ran) -> Result<(), String> {
        let differ = |what: &str, cached: String, fresh: String| {
            format!("{what}: with the cache\n{cached}\nand without\n{fresh}\n{}\n{}", ran.stderr, truth.stderr)
        };
        if ran.code != truth.code {
            return Err(differ("the exit code", ran.how(), truth.how()));
        }
        if ran.code == Some(2) {
            return Ok(());
        }
        // Nix 2.34 has other words for a file that is not there where it reads a repository by itself.
        let wordless = |failure: &(Value, Value, Value)| (failure.0.clone(), Value::Null, failure.2.clone());
        let plain = |ran: &Ran| -> BTreeMap<String, Job> {
            let plain = |job: &Job| Job {
                failure: job.failure.as_ref().map(wordless),
                evaluated: false,
                derivation: job.derivation.clone(),
            };
            ran.jobs.iter().map(|(name, job)| (name.clone(), plain(job))).collect()
        };
        if plain(ran) != plain(truth) {
            return Err(differ("the jobs", format!("{:#?}", ran.jobs), format!("{:#?}", truth.jobs)));
        }
        let (shown, fresh) = (manifest(&self.links[link])?, manifest(&truth.out_link)?);
        let (rows, _) = fleet.rows();
        for (host, entry) in &shown {
            // A host that fails keeps what it had.
            if !rows.contains_key(host) || fresh.get(host).is_some_and(|fresh| fresh != entry) {
                return Err(differ("the manifest", format!("{shown:#?}"), format!("{fresh:#?}")));
            }
        }
        if let Some(lost) = fresh.keys().find(|host| !shown.contains_key(*host)) {
            return Err(differ("the manifest", format!("no {lost}"), format!("{fresh:#?}")));
        }
        links(&self.links[link], &shown)
    }
}

/// The results by host.
fn manifest(link: &Utf8Path) -> Result<BTreeMap<String, Value>, String> {
    let text = match fs::read_to_string(link.join("manifest.json")) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        text => text.map_err(|error| error.to_string())?,
    };
    let value: Value = serde_json::from_str(&text).map_err(|error| format!("{text}: {error}"))?;
    let entries = value["results"].as_array().ok_or("no results in the manifest")?;
    Ok(entries.iter().map(|entry| (entry["host"].as_str().unwrap().to_owned(), entry.clone())).collect())
}

/// The folder holds what the manifest says and nothing else.
fn links(link: &Utf8Path, manifest: &BTreeMap<String, Value>) -> Result<(), String> {
    let names = link.read_dir_utf8().into_iter().flatten().map(|entry| entry.unwrap().file_name().to_owned());
    let hosts: BTreeSet<String> = names.filter(|name| !name.starts_with('.') && !name.contains('A')).collect();
    let expected: BTreeSet<String> = manifest.keys().cloned().chain(["manifest.json".to_owned()]).collect();
    if !manifest.is_empty() && hosts != expected {
        return Err(format!("{link} holds {hosts:?} and its manifest {expected:?}"));
    }
    for (host, entry) in manifest {
        let target = link.join(host).join("system").read_link_utf8().map_err(|error| format!("{host}: {error}"))?;
        if Some(target.as_str()) != entry["store_path"].as_str() || !target.exists() {
            return Err(format!("{link}/{host}/system points to {target}, the manifest says {entry}"));
        }
    }
    Ok(())
}

/// A run that goes on while the test does.
pub struct Running {
    child: Child,
    files: [Utf8PathBuf; 2],
    out_link: Utf8PathBuf,
}

impl Running {
    /// Sends a signal and waits for the end.
    pub fn signal(self, name: &str) -> Ran {
        // It may have ended by itself.
        let _ = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).output();
        self.wait()
    }

    pub fn wait(mut self) -> Ran {
        let status = self.child.wait().unwrap();
        let [stdout, stderr] = self.files.map(|file| {
            let text = fs::read_to_string(&file).unwrap();
            fs::remove_file(file).unwrap();
            text
        });
        let record: Value = serde_json::from_str(&stdout).unwrap_or_default();
        let jobs = record["jobs"].as_array().into_iter().flatten().map(|job| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let derivation = &job["derivation"];
            let outcome = &job["outcome"];
            let failed = !["present", "built", "fetched"].contains(&outcome["status"].as_str().unwrap());
            let failure = || (outcome["stage"].clone(), outcome["message"].clone(), outcome["position"].clone());
            let job_of = Job {
                derivation: (!derivation.is_null()).then(|| (text(&derivation["drv"]), text(&derivation["out"]))),
                failure: failed.then(failure),
                evaluated: job["evaluate_seconds"].is_number(),
            };
            (text(&job["job"]), job_of)
        });
        let jobs = jobs.collect();
        Ran { code: status.code(), signal: status.signal(), jobs, stderr, out_link: self.out_link }
    }
}

impl Ran {
    /// True if a signal ended it.
    pub fn was_ended(&self) -> bool {
        self.signal.is_some() || self.code == Some(130)
    }

    pub fn how(&self) -> String {
        match (self.code, self.signal) {
            (Some(code), _) => format!("exit code {code}"),
            (None, signal) => format!("signal {signal:?}"),
        }
    }
}
