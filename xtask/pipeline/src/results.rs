//! Writes `result/`: links that keep outputs alive, SHA256SUMS and manifest.json, exchanged as a whole so that at every
//! moment either the old or the new results are there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::ErrorKind,
    os::unix::fs::symlink,
    sync::atomic::{AtomicUsize, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use serde::{Deserialize, Serialize};

use crate::{
    diagnostic::usage,
    job::{Artifact, HostName, System},
    nix::argv,
    process::{Cancel, Invocation},
};

const MANIFEST: &str = "manifest.json";
const SUMS: &str = "SHA256SUMS";
const ROOTS: &str = ".roots";

/// What manifest.json says; docs/record.md documents it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this form.
    pub drydock: u32,
    /// Sorted by host and artifact.
    pub results: Vec<PublishedArtifact>,
}

/// One built artifact.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PublishedArtifact {
    pub host: HostName,
    pub artifact: Artifact,
    pub system: System,
    pub store_path: Utf8PathBuf,
    pub drv: Utf8PathBuf,
    /// Bytes of the output itself.
    pub size: u64,
    /// Bytes of the output and everything it refers to.
    pub closure_size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageFile>,
    /// The commit whose sources it was built from, and whether tracked files differed from it.
    pub revision: Option<String>,
    pub dirty: bool,
}

/// The image inside an ISO output.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ImageFile {
    /// Relative to the results folder, as in SHA256SUMS.
    pub path: Utf8PathBuf,
    /// Bytes.
    pub size: u64,
    pub sha256: String,
}

/// A results folder that is ours to write.
#[derive(Debug)]
pub struct Results {
    dir: Utf8PathBuf,
    /// Whether the folder was there before the run.
    existed: bool,
}

impl Results {
    /// Takes a folder that does not exist yet or holds earlier results; anything else is somebody's and an
    /// error with exit code 2 before anything is built.
    pub fn claim(dir: &Utf8Path) -> Result<Self> {
        let dir = camino::absolute_utf8(dir).map_err(|error| {
            usage(format!("--out-link `{dir}`: {error}\n  Name a folder for the results, such as `result`."))
        })?;
        let results = Self { dir, existed: false };
        let dir = &results.dir;
        let try_other = "try: another folder with --out-link DIR, or move it away";
        let existed = match fs::symlink_metadata(dir) {
            Ok(meta) if meta.is_symlink() => {
                return Err(usage(format!(
                    "{dir} is a symbolic link, perhaps left by `nix build`; results are a folder\n  {try_other}"
                )));
            }
            Ok(meta) if !meta.is_dir() => {
                return Err(usage(format!("{dir} is a file; results are a folder\n  {try_other}")));
            }
            Ok(_) => {
                let strangers = results.strangers()?;
                if let Some(first) = strangers.first() {
                    let more =
                        if strangers.len() > 1 { format!(" and {} more", strangers.len() - 1) } else { String::new() };
                    return Err(usage(format!(
                        "{dir} holds something that is not a result: {first}{more}; it is left alone\n  {try_other}"
                    )));
                }
                true
            }
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => return Err(usage(format!("results cannot be written to {dir}: {error}\n  {try_other}"))),
        };
        let parent = results.parent();
        if let Err(error) = fs::create_dir_all(&parent) {
            return Err(usage(format!("results cannot be written to {parent}: {error}\n  {try_other}")));
        }
        if let Err(error) = rustix::fs::access(parent.as_std_path(), rustix::fs::Access::WRITE_OK) {
            return Err(usage(format!(
                "results cannot be written to {parent}: {error}\n  try: another folder with --out-link DIR"
            )));
        }
        Ok(Self { existed, ..results })
    }

    /// Where links may be put that keep alive what is built, before it is published. What is not published the
    /// next run takes away.
    pub fn roots_folder(&self) -> Utf8PathBuf {
        self.dir.join(ROOTS)
    }

    /// After a run that publishes nothing: takes away what it made for roots that never came.
    pub fn leave(&self) {
        // A folder that is not empty stays.
        let emptied = fs::remove_dir(self.roots_folder()).is_ok();
        if emptied && !self.existed {
            let _ = fs::remove_dir(&self.dir);
        }
    }

    /// What the last run left, or nothing.
    pub fn manifest(&self) -> Manifest {
        manifest_in(&self.dir)
    }

    /// Publishes entries over those of earlier runs, except that a host that the fleet no longer has, or
    /// whose output is gone, is dropped. Hosts that were not built now keep what they had.
    pub fn publish(&self, built: Vec<PublishedArtifact>, hosts: &BTreeSet<HostName>, cancel: &Cancel) -> Result<()> {
        let parent = File::open(self.parent()).with_context(|| format!("cannot open {}", self.parent()))?;
        // Two runs at once write one after the other; a lock on the folder above leaves no file behind.
        parent.lock().with_context(|| format!("cannot lock {}", self.parent()))?;
        let before = self.manifest();
        let mut entries: BTreeMap<(HostName, Artifact), PublishedArtifact> = before
            .results
            .iter()
            .filter(|entry| hosts.contains(&entry.host) && entry.store_path.exists())
            .map(|entry| ((entry.host.clone(), entry.artifact), entry.clone()))
            .collect();
        entries.extend(built.into_iter().map(|entry| ((entry.host.clone(), entry.artifact), entry)));
        let manifest = Manifest { drydock: 1, results: entries.into_values().collect() };
        if manifest == before && self.is_whole(&manifest) {
            return Ok(());
        }
        self.keep_alive(&manifest, cancel)?;
        let staging = self.stage(&manifest)?;
        self.exchange(&staging)
    }

    fn parent(&self) -> Utf8PathBuf {
        self.dir.parent().map_or_else(|| "/".into(), Utf8Path::to_owned)
    }

    /// Entries of the folder that no manifest of ours explains.
    fn strangers(&self) -> Result<Vec<String>> {
        let hosts: BTreeSet<String> = self.manifest().results.iter().map(|e| e.host.to_string()).collect();
        let entries = self.dir.read_dir_utf8().with_context(|| format!("cannot read {}", self.dir))?;
        let mut strangers = Vec::new();
        for entry in entries {
            let name = entry?.file_name().to_owned();
            if ![MANIFEST, SUMS, ROOTS].contains(&name.as_str()) && !hosts.contains(&name) {
                strangers.push(name);
            }
        }
        strangers.sort();
        Ok(strangers)
    }

    fn is_whole(&self, manifest: &Manifest) -> bool {
        let links = manifest.results.iter().all(|entry| {
            let link = fs::read_link(self.dir.join(entry.host.as_str()).join(entry.artifact.as_str()));
            link.is_ok_and(|target| target == target_of(entry).as_std_path())
        });
        let rooted = self.roots();
        links
            && self.dir.join(SUMS).exists()
            && manifest.results.iter().all(|e| rooted.values().any(|r| *r == e.store_path))
    }

    /// The links below `.roots` and the store paths they keep alive.
    fn roots(&self) -> BTreeMap<String, Utf8PathBuf> {
        let entries = self.dir.join(ROOTS).read_dir_utf8().into_iter().flatten().flatten();
        let targets = entries.filter_map(|e| Some((e.file_name().to_owned(), e.path().read_link_utf8().ok()?)));
        targets.collect()
    }

    /// Has Nix register a garbage collector root for each path that has none yet. The roots' names inside
    /// the folder stay the same when the folder is exchanged, and Nix finds a root by its name.
    fn keep_alive(&self, manifest: &Manifest, cancel: &Cancel) -> Result<()> {
        let rooted: BTreeSet<Utf8PathBuf> = self.roots().into_values().collect();
        let fresh: BTreeSet<&str> = manifest
            .results
            .iter()
            .filter(|e| !rooted.contains(&e.store_path))
            .map(|e| e.store_path.as_str())
            .collect();
        if fresh.is_empty() {
            return Ok(());
        }
        make_roots(&self.roots_folder())?;
        let name = new_root(&self.roots_folder());
        let fresh: Vec<&str> = fresh.into_iter().collect();
        Invocation::new(argv::add_roots(name.as_str(), &fresh))
            .read(cancel)
            .context("cannot keep the results alive")?;
        Ok(())
    }

    /// Writes the complete new folder beside the old one.
    fn stage(&self, manifest: &Manifest) -> Result<Utf8PathBuf> {
        let name = self.dir.file_name().unwrap_or("result");
        let staging = self.parent().join(format!(".{name}.new"));
        // Under the lock, a staging folder can only be what a killed run left.
        if staging.exists() {
            fs::remove_dir_all(&staging).with_context(|| format!("cannot remove {staging}"))?;
        }
        let written = self.write_into(&staging, manifest);
        if written.is_err() {
            let _ = fs::remove_dir_all(&staging);
        }
        written
            .with_context(|| format!("cannot write the results to {staging}; those of the last run are untouched"))?;
        Ok(staging)
    }

    fn write_into(&self, staging: &Utf8Path, manifest: &Manifest) -> Result<()> {
        fs::create_dir_all(staging.join(ROOTS))?;
        let wanted: BTreeSet<&Utf8Path> = manifest.results.iter().map(|e| e.store_path.as_path()).collect();
        for (name, target) in self.roots().into_iter().filter(|(_, target)| wanted.contains(target.as_path())) {
            symlink(&target, staging.join(ROOTS).join(name))?;
        }
        let mut sums = String::new();
        for entry in &manifest.results {
            let host = staging.join(entry.host.as_str());
            fs::create_dir_all(&host)?;
            symlink(target_of(entry), host.join(entry.artifact.as_str()))?;
            if let Some(image) = &entry.image {
                sums.push_str(&format!("{}  {}\n", image.sha256, image.path));
            }
        }
        fs::write(staging.join(SUMS), sums)?;
        let json = serde_json::to_string_pretty(manifest)?;
        fs::write(staging.join(MANIFEST), json + "\n")?;
        Ok(())
    }

    fn exchange(&self, staging: &Utf8Path) -> Result<()> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        let (new, dir) = (staging.as_std_path(), self.dir.as_std_path());
        if self.dir.exists() {
            renameat_with(CWD, new, CWD, dir, RenameFlags::EXCHANGE)
                .with_context(|| format!("cannot replace {}", self.dir))?;
            fs::remove_dir_all(staging).with_context(|| format!("cannot remove {staging}, the previous results"))?;
        } else {
            fs::rename(new, dir).with_context(|| format!("cannot create {}", self.dir))?;
        }
        Ok(())
    }
}

/// What the last run left in a results folder, or nothing.
pub fn manifest_in(dir: &Utf8Path) -> Manifest {
    let text = fs::read_to_string(dir.join(MANIFEST)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or(Manifest { drydock: 1, results: vec![] })
}

/// The name of a new link in a folder of roots.
pub fn new_root(folder: &Utf8Path) -> Utf8PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    folder.join(format!("{:x}-{:x}", now.as_nanos(), COUNT.fetch_add(1, Ordering::Relaxed)))
}

/// Makes a folder of roots if need be, which links in it want.
pub fn make_roots(folder: &Utf8Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {folder}"))
}

/// What a result's link points to: an ISO's folder of images, or the system itself.
fn target_of(entry: &PublishedArtifact) -> Utf8PathBuf {
    match entry.artifact {
        Artifact::Iso => entry.store_path.join("iso"),
        Artifact::System => entry.store_path.clone(),
    }
}

/// Looks at an output that Nix calls valid. An ISO must hold exactly one image that is not empty.
pub fn inspect(out: &Utf8Path, artifact: Artifact) -> Result<Option<(Utf8PathBuf, u64)>> {
    let remedy = format!("its files are damaged; repair it with `nix-store --realise --repair {out}`");
    if !out.exists() {
        bail!("{out} is registered as valid, but it is not there\n  try: {remedy}");
    }
    if artifact != Artifact::Iso {
        return Ok(None);
    }
    let folder = out.join("iso");
    let entries =
        folder.read_dir_utf8().with_context(|| format!("an ISO output has a folder `iso`, and {out} has none"))?;
    let mut images: Vec<Utf8PathBuf> =
        entries.flatten().map(|e| e.into_path()).filter(|p| p.extension() == Some("iso")).collect();
    images.sort();
    let [image] = images.as_slice() else {
        bail!("{folder} must hold exactly one `.iso` file, it holds {}", images.len());
    };
    let size = fs::metadata(image).with_context(|| format!("cannot look at {image}"))?.len();
    if size == 0 {
        bail!("{image} is empty\n  try: {remedy}");
    }
    Ok(Some((image.clone(), size)))
}

/// SHA-256 of files, in hexadecimal; several are read at once.
pub fn sha256(files: &[Utf8PathBuf], cancel: &Cancel) -> Result<BTreeMap<Utf8PathBuf, String>> {
    let one = |file: &Utf8PathBuf| -> Result<(Utf8PathBuf, String)> {
        let ask = Invocation::new(argv::sha256(&[file.as_str()]));
        let text = ask.read(cancel)?;
        let sum = sum(&text).with_context(|| format!("`{}` printed no SHA-256 but {text:?}", ask.display()))?;
        Ok((file.clone(), sum.to_owned()))
    };
    files.into_par_iter().map(one).collect()
}

/// A SHA-256 in hexadecimal that is all there is in a text.
fn sum(text: &str) -> Option<&str> {
    let text = text.trim();
    (text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_sum_is_none() {
        let whole = "a".repeat(64);
        let rows = [(format!("{whole}\n"), true), (whole[1..].to_owned(), false), (String::new(), false)];
        for (text, expected) in rows {
            assert_eq!(sum(&text).is_some(), expected, "{text}");
        }
        assert!(sum(&whole.replace('a', "z")).is_none());
    }

    #[test]
    fn a_run_that_publishes_nothing_takes_away_what_it_made_and_no_more() {
        let base = crate::files::Temporary::new().unwrap();
        let [made, found] = ["made", "found"].map(|name| base.join(name));
        fs::create_dir_all(&found).unwrap();
        for dir in [&made, &found] {
            let results = Results::claim(dir).unwrap();
            make_roots(&results.roots_folder()).unwrap();
            results.leave();
        }
        let left = (made.exists(), found.exists(), found.read_dir().unwrap().count());
        assert_eq!(left, (false, true, 0));
    }
}
