//! `cargo xtask install`: installs a host by ssh on a machine that runs a live medium, after asking, and sees that it starts.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a verb tells people what it erases")]

mod layout;

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::{
    answers::{self, Answers},
    deployments::{self, Document, Row},
    diagnostic::{INTERRUPTED, bytes, usage},
    files::Temporary,
    flags::Install,
    fleet::Fleet,
    job::{Artifact, Job, JobId, Target},
    matrix::Host,
    plan,
    process::Cancel,
    run::Run,
    ship::{
        extra,
        guard::{Ended, State},
        install::Installation,
        live::{self, Place, Wishes},
        remote::Remote,
    },
};
use layout::Layout;

/// What is installed, and where.
struct Ready {
    remote: Remote,
    place: Place,
    system: String,
    partition: String,
    /// Bytes of the system and all that it needs.
    size: u64,
    /// Bytes of that which the medium does not carry.
    lacks: u64,
    keys: String,
}

pub fn run(flags: &Install, cancel: &Cancel) -> Result<u8> {
    let fleet = Fleet::open(&flags.fleet.fleet, &flags.fleet.override_input)?;
    let host = plan::host(&fleet.matrix, &flags.host)?.clone();
    if !host.artifacts.contains(&Artifact::System) {
        return Err(usage(format!("{} has no installed system: \"system\" is not among its artifacts", host.name)));
    }
    if !flags.yes && !answers::possible() {
        return Err(usage(
            "there is no terminal to ask at whether disks may be erased\n  try: --yes with --erase DISK",
        ));
    }
    let files = flags.extra_files.as_deref().map(extra::script).transpose()?;
    let run = Run::begin(fleet, flags.stages.options(), cancel)?;
    let mut began = Instant::now();
    let row = |ended| Row { target: flags.to.to_string(), ..Row::new(&host, ended) };
    let row = match prepare(&run, &host, flags)? {
        Err(why) => row(Ended::new(State::Failed, why)),
        Ok(ready) => {
            show(&host, flags, &ready);
            if run.source().dirty {
                eprintln!("  its sources have uncommitted changes");
            }
            if !may_erase(&host, flags, &ready.place, cancel)? {
                eprintln!("install: nothing was changed");
                return Ok(INTERRUPTED);
            }
            began = Instant::now();
            let ended = install(&host, flags, &ready, files.as_deref(), cancel);
            Row { new: Some(ready.system), ..row(ended) }
        }
    };
    let rows = [Row { seconds: began.elapsed().as_secs_f64(), ..row }];
    eprint!("\n{}", deployments::table(&rows));
    if flags.json {
        let document = Document { version: 1, command: "install", fleet: run.source(), hosts: &rows };
        println!("{}", serde_json::to_string_pretty(&document)?);
    }
    Ok(deployments::exit_code(&rows, cancel))
}

/// Builds, and looks at the machine. `Err` is why it is no place for the system, in words. Errors: wrong use; Nix cannot be
/// started or asked.
fn prepare(run: &Run<'_>, host: &Host, flags: &Install) -> Result<Result<Ready, String>> {
    let layout = Layout::of(run, host)?;
    let disks = layout.disks(&flags.disk)?;
    let keys = layout.keys.join("\n");
    if keys.is_empty() && !flags.no_reboot {
        return Err(usage(format!(
            "{} has no ssh server, so it will not be seen when it has started\n  try: --no-reboot",
            host.name
        )));
    }
    let id = JobId { host: host.name.clone(), target: Target::Artifact(Artifact::System) };
    let jobs = run.realise(&[Job { id, system: host.system.clone() }])?.jobs;
    let system = match jobs.first().map(deployments::built) {
        Some(Ok(derivation)) => derivation.out.to_string(),
        Some(Err(why)) => return Ok(Err(why)),
        None => return Ok(Err("it was not built".into())),
    };
    let partition = layout.partition(run)?;
    let closure = deployments::closure(&[&system], run.cancel)?;
    let size = deployments::sizes(&closure, run.cancel)?;
    let wishes = Wishes { system: host.system.to_string(), firmware: layout.firmware, disks, size };
    let remote = Remote::new(flags.to.clone());
    Ok(match live::look(&remote, &wishes, &closure, run.cancel) {
        Err(error) => Err(format!("nothing was changed; {error:#}")),
        Ok(place) => {
            let lacks = deployments::sizes(&place.lacks, run.cancel)?;
            Ok(Ready { remote, place, system, partition, size, lacks, keys })
        }
    })
}

fn show(host: &Host, flags: &Install, ready: &Ready) {
    let place = &ready.place;
    let memory = bytes(place.memory);
    eprintln!("\n{} ({}) is {}, {memory} of memory, {}", host.name, flags.to, place.machine, place.firmware);
    eprintln!("  and gets {} ({}), of which its medium lacks {}", ready.system, bytes(ready.size), bytes(ready.lacks));
    for disk in &place.disks {
        eprintln!("  erased for \"{}\": {}", disk.name, disk.device.describe());
        eprintln!("      {}", disk.stable_name());
        let contents = disk.device.contents();
        contents.iter().for_each(|line| eprintln!("      {line}"));
        if contents.is_empty() {
            eprintln!("      nothing that is known is on it");
        }
    }
}

/// True if a person, or --yes, agrees to what is erased. Errors: exit code 2 where --erase names other disks.
fn may_erase(host: &Host, flags: &Install, place: &Place, cancel: &Cancel) -> Result<bool> {
    if !flags.yes {
        let places: Vec<&str> = place.disks.iter().map(|disk| disk.device.path.as_str()).collect();
        eprint!("Everything on {} will be lost. Type {} to go on: ", places.join(" and "), host.name);
        return Ok(Answers::from_terminal().next(cancel)?.as_deref() == Some(host.name.as_str()));
    }
    let wrong = |words: String| {
        let names: Vec<String> = place.disks.iter().map(|disk| format!("--erase {}", disk.stable_name())).collect();
        Err(usage(format!("{words}; nothing was changed\n  try: {}", names.join(" "))))
    };
    if let Some(disk) = place.disks.iter().find(|disk| !flags.erase.iter().any(|name| disk.is_named(name))) {
        return wrong(format!("--yes erases only what --erase names, and {} is not", disk.device.path));
    }
    if let Some(name) = flags.erase.iter().find(|name| !place.disks.iter().any(|disk| disk.is_named(name))) {
        return wrong(format!("--erase {name}: that is no disk of the layout"));
    }
    Ok(true)
}

fn install(host: &Host, flags: &Install, ready: &Ready, files: Option<&str>, cancel: &Cancel) -> Ended {
    let tell = |text: &str| eprintln!("{}: {text}", host.name);
    let id = deployments::id();
    let Ready { remote, place, system, partition, keys, lacks, .. } = ready;
    let work = Installation { remote, place, id: &id, host: host.name.as_str(), system, partition, keys, files };
    // Into the store of the medium, which lies in memory: the program that partitions, and the system where little is lacking.
    let to_medium = remote.store(place.is_root, None);
    let program = partition.trim_end_matches("/bin/disko-destroy-format-mount");
    if let Err(why) = deployments::copy(&to_medium, false, program, cancel) {
        return Ended::new(State::Failed, format!("nothing was changed; disko's program could not be copied {why}"));
    }
    let copy = || {
        let store = if *lacks < place.free / 4 { to_medium.clone() } else { remote.store(place.is_root, Some("/mnt")) };
        if *lacks == 0 {
            return Ok(());
        }
        tell("copying");
        deployments::copy(&store, false, system, cancel).map_err(|why| format!("the system could not be copied {why}"))
    };
    let keys = match work.carry_out(&copy, cancel, &tell) {
        Ok(keys) => keys,
        Err(ended) => return ended,
    };
    // The machine had another key while it ran the medium, and ssh will say so.
    eprintln!("{}: its host keys from now on, for known_hosts:", host.name);
    keys.iter().for_each(|key| eprintln!("    {key}"));
    if flags.no_reboot {
        return Ended::new(State::Installed, "it was not restarted");
    }
    match candidates(host, flags, &keys) {
        Ok((_folder, candidates)) => {
            work.restart(&candidates, Duration::from_secs(flags.reboot_timeout), cancel, &tell)
        }
        Err(error) => Ended::new(State::Installed, format!("it was not restarted: {error:#}")),
    }
}

/// Where the installed system may answer, each by its new host keys alone: where the medium did, and at its own address.
fn candidates(host: &Host, flags: &Install, keys: &[String]) -> Result<(Temporary, Vec<Remote>)> {
    let folder = Temporary::new()?;
    let (file, name) = (folder.join("known_hosts"), format!("drydock-{}", host.name));
    let lines: String = keys.iter().map(|key| format!("{name} {key}\n")).collect();
    std::fs::write(&file, lines)?;
    let own = Some(host.destination()).filter(|own| *own != flags.to);
    let all = std::iter::once(flags.to.clone()).chain(own);
    let all = all.map(|destination| Remote::known(destination, &file, &name)).collect();
    Ok((folder, all))
}
