//! Packs jobs into CI matrix entries of about equal length.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use serde::{Deserialize, Serialize};

use crate::job::{Artifact, HostName, JobId, Target};

/// The most jobs that GitHub runs from one matrix ("Usage limits" in GitHub's documentation).
pub const MOST_ENTRIES: usize = 256;

/// GiB that sources, tools and this program need on any runner.
const BASE_DISK: u64 = 8;

/// One job to place.
#[derive(Clone, Debug, PartialEq)]
pub struct WeighedJob {
    pub id: JobId,
    /// The system whose machine has to run it.
    pub system: String,
    /// Expected seconds.
    pub seconds: f64,
}

impl WeighedJob {
    /// True for what boots a virtual machine.
    fn wants_kvm(&self) -> bool {
        matches!(self.id.target, Target::Test(_))
    }

    /// GiB: an image stands in the store three times on its way (its closure, compressed, as the image).
    fn disk(&self) -> u64 {
        match self.id.target {
            Target::Artifact(Artifact::Iso) => 10,
            Target::Artifact(Artifact::System) => 6,
            Target::Test(_) => 8,
        }
    }
}

/// One entry of a CI matrix: what one runner does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MatrixEntry {
    /// Unique in the matrix, and safe in artifact names, file names and shells: `[a-z0-9._-]`.
    pub name: String,
    pub system: String,
    /// The label of a runner that is natively of this system.
    pub runner: String,
    /// True if a job in it boots a virtual machine, which is slow without KVM.
    pub kvm: bool,
    /// GiB of disk that its jobs are expected to need.
    pub disk: u64,
    /// Expected seconds of all its jobs together, rounded up.
    pub seconds: u64,
    /// Job ids, space-separated; ids have no spaces.
    pub jobs: String,
}

/// The entries: one a job, or packed into so many.
pub fn entries(pieces: &[WeighedJob], shards: Option<usize>) -> Vec<MatrixEntry> {
    shards.map_or_else(|| one_each(pieces), |shards| packed(pieces, shards))
}

/// One entry a job, in the order of the jobs; if these are too many for one matrix, packed.
fn one_each(pieces: &[WeighedJob]) -> Vec<MatrixEntry> {
    match pieces.len() <= MOST_ENTRIES {
        true => pieces.iter().map(|piece| entry(piece.id.to_string(), &piece.system, &[piece])).collect(),
        false => packed(pieces, MOST_ENTRIES),
    }
}

/// At most `shards` entries (one a system at least), each of one system, the longest as short as can be.
fn packed(pieces: &[WeighedJob], shards: usize) -> Vec<MatrixEntry> {
    let mut systems: BTreeMap<&str, Vec<&WeighedJob>> = BTreeMap::new();
    for piece in pieces {
        systems.entry(&piece.system).or_default().push(piece);
    }
    let shares = shares(&systems, shards.min(MOST_ENTRIES));
    let entries = systems.iter().zip(shares).flat_map(|((system, pieces), share)| {
        let bins = balanced(pieces, share);
        let width = bins.len().to_string().len();
        bins.into_iter().enumerate().map(move |(n, bin)| entry(format!("{system}-{:0width$}", n + 1), system, &bin))
    });
    let mut entries: Vec<MatrixEntry> = entries.collect();
    name_after_hosts(&mut entries);
    entries
}

/// An entry that is one host's, and the only one of that host, is called like the host.
fn name_after_hosts(entries: &mut [MatrixEntry]) {
    let hosts = |entry: &MatrixEntry| -> BTreeSet<String> {
        entry.jobs.split(' ').filter_map(|id| Some(id.split_once('.')?.0.to_owned())).collect()
    };
    let mut entries_of: BTreeMap<String, usize> = BTreeMap::new();
    for host in entries.iter().flat_map(hosts) {
        *entries_of.entry(host).or_default() += 1;
    }
    for entry in entries {
        let own = hosts(entry);
        if let Some(host) = own.first().filter(|host| own.len() == 1 && entries_of[*host] == 1) {
            entry.name = format!("host-{host}");
        }
    }
}

/// Packs whole hosts, because a host's tests boot what its other jobs build, and apart that is built twice.
/// Single jobs only where hosts must share shards and whole ones would make the longest shard more than a
/// tenth longer than it has to be.
fn balanced<'a>(pieces: &[&'a WeighedJob], shards: usize) -> Vec<Vec<&'a WeighedJob>> {
    const SLACK: f64 = 1.1;
    let mut hosts: BTreeMap<&HostName, Vec<&WeighedJob>> = BTreeMap::new();
    for piece in pieces {
        hosts.entry(&piece.id.host).or_default().push(piece);
    }
    if hosts.len() <= shards {
        return hosts.into_values().collect();
    }
    let whole = longest_first(hosts.into_values().collect(), shards);
    let length = |bin: &Vec<&WeighedJob>| bin.iter().map(|piece| piece.seconds).sum::<f64>();
    let longest = whole.iter().map(length).fold(0.0, f64::max);
    match longest <= lower_bound(pieces.iter().copied(), shards) * SLACK {
        true => whole,
        false => longest_first(pieces.iter().map(|&piece| vec![piece]).collect(), shards),
    }
}

/// No packing is shorter than this: neither than the mean load nor than the longest job. Seconds.
fn lower_bound<'a>(pieces: impl Iterator<Item = &'a WeighedJob>, shards: usize) -> f64 {
    let (total, longest) =
        pieces.fold((0.0, 0.0), |(total, longest), piece| (total + piece.seconds, piece.seconds.max(longest)));
    (total / shards as f64).max(longest)
}

/// How many shards each system gets: one to begin with, each further one where it shortens most.
fn shares(systems: &BTreeMap<&str, Vec<&WeighedJob>>, shards: usize) -> Vec<usize> {
    let totals: Vec<f64> = systems.values().map(|pieces| pieces.iter().map(|p| p.seconds).sum()).collect();
    let longest = |pieces: &Vec<&WeighedJob>| pieces.iter().map(|p| p.seconds).fold(0.0, f64::max);
    let longest: Vec<f64> = systems.values().map(longest).collect();
    let mut shares = vec![1; systems.len()];
    for _ in systems.len()..shards {
        // A system whose longest job already fills a shard gains nothing from another one.
        let load =
            |i: usize| if totals[i] / shares[i] as f64 <= longest[i] { 0.0 } else { totals[i] / shares[i] as f64 };
        let Some(next) = (0..shares.len()).max_by(|&a, &b| load(a).total_cmp(&load(b))) else { break };
        if load(next) == 0.0 {
            break;
        }
        shares[next] += 1;
    }
    shares
}

/// Graham's longest-processing-time rule: the longest group next, to the shard that is the emptiest. Its
/// result is at most 4/3 of the best possible, and far nearer when groups are many.
fn longest_first(groups: Vec<Vec<&WeighedJob>>, shards: usize) -> Vec<Vec<&WeighedJob>> {
    let length = |group: &Vec<&WeighedJob>| group.iter().map(|piece| milliseconds(piece.seconds)).sum::<u64>();
    let mut sorted: Vec<(u64, Vec<&WeighedJob>)> = groups.into_iter().map(|group| (length(&group), group)).collect();
    sorted.sort_by(|(a, x), (b, y)| b.cmp(a).then_with(|| x[0].id.cmp(&y[0].id)));
    let mut emptiest: BinaryHeap<Reverse<(u64, usize)>> = (0..shards).map(|n| Reverse((0, n))).collect();
    let mut bins: Vec<Vec<&WeighedJob>> = vec![Vec::new(); shards];
    for (length, group) in sorted {
        let Some(Reverse((load, bin))) = emptiest.pop() else { break };
        bins[bin].extend(group);
        emptiest.push(Reverse((load + length, bin)));
    }
    bins.retain(|bin| !bin.is_empty());
    bins
}

fn milliseconds(seconds: f64) -> u64 {
    (seconds * 1000.0).clamp(1.0, 1e15) as u64
}

fn entry(name: String, system: &str, pieces: &[&WeighedJob]) -> MatrixEntry {
    let mut ids: Vec<&JobId> = pieces.iter().map(|piece| &piece.id).collect();
    ids.sort();
    MatrixEntry {
        name,
        system: system.to_owned(),
        runner: runner(system).to_owned(),
        kvm: pieces.iter().any(|piece| piece.wants_kvm()),
        disk: BASE_DISK + pieces.iter().map(|piece| piece.disk()).sum::<u64>(),
        seconds: pieces.iter().map(|piece| piece.seconds).sum::<f64>().ceil() as u64,
        jobs: ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    }
}

/// The hosted runner that runs a system natively. What no hosted runner has goes to x86, by emulation.
fn runner(system: &str) -> &'static str {
    match system {
        "aarch64-linux" => "ubuntu-24.04-arm",
        _ => "ubuntu-24.04",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small generator of repeatable numbers (Marsaglia's xorshift).
    fn random(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    fn fleet(hosts: usize, systems: &[&str]) -> Vec<WeighedJob> {
        let mut state = 0x9E37_79B9_7F4A_7C15;
        let targets = ["iso", "system", "tests.live", "tests.system"];
        let jobs = (0..hosts).flat_map(|h| targets.map(|t| (h, t)));
        jobs.map(|(h, target)| WeighedJob {
            id: JobId::try_from(format!("host-{h}.{target}")).unwrap(),
            system: systems[h % systems.len()].to_owned(),
            seconds: 20.0 + (random(&mut state) % 6000) as f64 / 10.0,
        })
        .collect()
    }

    #[test]
    fn a_thousand_hosts_are_balanced_within_a_tenth_and_in_a_second() {
        let pieces = fleet(1000, &["x86_64-linux"]);
        let started = std::time::Instant::now();
        for shards in [2, 7, 40, 100, 256] {
            let entries = packed(&pieces, shards);
            assert_eq!(entries.len(), shards);
            let longest = entries.iter().map(|e| e.seconds).max().unwrap() as f64;
            let bound = lower_bound(pieces.iter(), shards);
            assert!(longest <= bound * 1.1 + 1.0, "{shards} shards: {longest} s, bound {bound} s");
        }
        assert!(started.elapsed() < std::time::Duration::from_secs(1), "{:?}", started.elapsed());
    }

    #[test]
    fn every_job_is_in_exactly_one_entry_of_its_system() {
        let pieces = fleet(100, &["x86_64-linux", "aarch64-linux", "x86_64-linux"]);
        for entries in [one_each(&pieces), packed(&pieces, 12), packed(&pieces, 1), packed(&pieces, 100_000)] {
            assert!(entries.len() <= MOST_ENTRIES);
            let mut seen = BTreeMap::new();
            for entry in &entries {
                assert_eq!(entry.runner == "ubuntu-24.04-arm", entry.system == "aarch64-linux");
                for id in entry.jobs.split(' ') {
                    assert!(seen.insert(id.to_owned(), entry.system.clone()).is_none(), "{id} twice");
                }
            }
            assert_eq!(seen.len(), pieces.len());
            assert!(pieces.iter().all(|p| seen[&p.id.to_string()] == p.system));
        }
    }

    #[test]
    fn shards_go_where_the_load_is() {
        let mut pieces = fleet(99, &["x86_64-linux"]);
        pieces.extend(
            fleet(1, &["aarch64-linux"]).into_iter().map(|p| WeighedJob { system: "aarch64-linux".into(), ..p }),
        );
        let entries = packed(&pieces, 20);
        let arm = entries.iter().filter(|e| e.system == "aarch64-linux").count();
        assert!((1..=2).contains(&arm) && entries.len() == 20, "{arm} of {}", entries.len());
    }

    #[test]
    fn a_host_stays_together_where_that_costs_little() {
        let entries = packed(&fleet(400, &["x86_64-linux"]), 10);
        let holding = |host: &str| entries.iter().filter(|e| e.jobs.split(' ').any(|id| id.starts_with(host))).count();
        assert!((0..400).all(|n| holding(&format!("host-{n}.")) == 1));
    }

    #[test]
    fn nothing_gives_an_empty_matrix() {
        assert!(one_each(&[]).is_empty() && packed(&[], 5).is_empty());
    }

    #[test]
    fn one_giant_takes_no_more_shards_than_it_can_use() {
        let mut pieces = fleet(2, &["x86_64-linux"]);
        pieces[0].seconds = 1e6;
        assert!(packed(&pieces, 50).len() <= pieces.len());
    }

    #[test]
    fn names_are_safe_and_tests_want_kvm() {
        let name = format!("a{}", "-".repeat(62));
        let pieces: Vec<WeighedJob> = [format!("{name}.iso"), "0.tests.install".to_owned()]
            .map(|id| WeighedJob { id: JobId::try_from(id).unwrap(), system: "x86_64-linux".into(), seconds: 1.0 })
            .into();
        let entries = [one_each(&pieces), packed(&pieces, 2)].concat();
        let safe = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        assert!(entries.iter().all(|e| e.name.chars().all(safe) && !e.name.starts_with('-')));
        assert_eq!(entries.iter().filter(|e| e.kvm).count(), 2);
        let names: Vec<&str> = entries[2..].iter().map(|e| e.name.as_str()).collect();
        assert_eq!(names, ["host-0".to_owned(), format!("host-{name}")]);
    }
}
