//! `cargo xtask deploy`: brings built systems to machines, which go back by themselves unless all is well.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a verb tells people what it changes")]

mod changes;
mod prepare;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{
    answers::{self, Answers},
    deployments::{self, Document, Row},
    diagnostic::{INTERRUPTED, usage},
    flags::{Deploy, SelectionFlags},
    fleet::Fleet,
    matrix::Host,
    process::Cancel,
    run::Run,
    ship::{
        guard::{Change, Ended, Keep, State},
        reboot, turns,
    },
};
use prepare::{Ready, prepare};

pub fn run(flags: &Deploy, cancel: &Cancel) -> Result<u8> {
    let fleet = Fleet::open(&flags.fleet.fleet, &flags.fleet.override_input)?;
    let selection = SelectionFlags { artifact: vec!["system".into()], ..flags.selection() };
    let hosts: Vec<Host> = selection.artifacts()?.hosts(&fleet.matrix)?.into_iter().cloned().collect();
    ensure_apart(&hosts)?;
    let waves = waves(hosts, &flags.wave)?;
    if !flags.yes && !flags.dry_activate && !answers::possible() {
        return Err(usage("there is no terminal to ask at whether machines may be changed\n  try: --yes"));
    }
    let run = Run::begin(fleet, flags.stages.options(), cancel)?;
    let hosts: Vec<&Host> = waves.iter().flatten().collect();
    let (mut rows, ready) = prepare(&run, &hosts, flags)?;
    let dirty = run.source().dirty;
    if cancel.is_set() {
        eprintln!("deploy: interrupted; nothing was changed");
        return Ok(INTERRUPTED);
    }
    for ready in &ready {
        eprint!("{}", changes::text(ready));
    }
    if dirty {
        eprintln!("deploy: the sources have changes that are not committed");
    }
    if !ready.is_empty() && !flags.yes && !flags.dry_activate {
        rows.iter().filter(|row| !row.is_good()).for_each(|row| eprintln!("{}: {}", row.host, row.why));
        let names: Vec<&str> = ready.iter().map(|ready| ready.host.name.as_str()).collect();
        eprint!("{} on {}. Type yes to go on: ", flags.what(), names.join(", "));
        if Answers::from_terminal().next(cancel)?.as_deref() != Some("yes") {
            eprintln!("deploy: nothing was changed");
            return Ok(INTERRUPTED);
        }
    }
    let turn = Turn { flags, run: &run, failed: AtomicUsize::new(rows.iter().filter(|row| !row.is_good()).count()) };
    let mut ready: BTreeMap<&str, Ready<'_>> =
        ready.into_iter().map(|ready| (ready.host.name.as_str(), ready)).collect();
    for wave in &waves {
        let here: Vec<Ready<'_>> = wave.iter().filter_map(|host| ready.remove(host.name.as_str())).collect();
        let stops = (!flags.keep_going && before_failed(&rows, &waves, wave))
            .then_some("a machine of an earlier wave failed\n  try: --keep-going");
        rows.extend(turns::take(
            &here,
            flags.parallel(),
            |ready| turn.hinders(ready, stops),
            |ready| turn.deploy(ready),
        ));
    }
    rows.sort_by(|a, b| a.host.cmp(&b.host));
    eprint!("\n{}", deployments::table(&rows));
    if flags.json {
        let document = Document { version: 1, command: "deploy", fleet: run.source(), hosts: &rows };
        println!("{}", serde_json::to_string_pretty(&document)?);
    }
    Ok(deployments::exit_code(&rows, cancel))
}

/// A machine that two rows lead to would end with the system of either.
fn ensure_apart(hosts: &[Host]) -> Result<()> {
    let mut known: BTreeMap<String, &Host> = BTreeMap::new();
    for host in hosts {
        let target = host.destination().to_string();
        if let Some(other) = known.insert(target.clone(), host) {
            let (a, b) = (&other.name, &host.name);
            return Err(usage(format!("{a} and {b} are both at {target}\n  try: mend `target` in hosts/hosts.toml")));
        }
    }
    Ok(())
}

/// The hosts by waves: each in the first one whose tag it has, `rest` for all others. Errors: a host is in none, or a wave has
/// none, which may be a slip of the fingers that lets all others go first.
fn waves(hosts: Vec<Host>, tags: &[String]) -> Result<Vec<Vec<Host>>> {
    if tags.is_empty() {
        return Ok(vec![hosts]);
    }
    let mut waves = vec![Vec::new(); tags.len()];
    for host in hosts {
        let place = tags.iter().position(|tag| host.tags.contains(tag));
        let place = place.or_else(|| tags.iter().position(|tag| tag == "rest")).ok_or_else(|| {
            usage(format!("{} has none of the tags {}\n  try: a last wave `rest`", host.name, tags.join(", ")))
        })?;
        waves[place].push(host);
    }
    match tags.iter().zip(&waves).find(|(tag, wave)| wave.is_empty() && *tag != "rest") {
        Some((tag, _)) => {
            Err(usage(format!("none of the hosts belongs to the wave {tag}\n  `cargo xtask list` shows their tags")))
        }
        None => Ok(waves),
    }
}

/// True if a machine of a wave before this one is not as it should be.
fn before_failed(rows: &[Row], waves: &[Vec<Host>], wave: &[Host]) -> bool {
    let before = waves.iter().take_while(|other| other.as_slice() != wave).flatten();
    before.filter_map(|host| rows.iter().find(|row| row.host == host.name)).any(|row| !row.is_good())
}

/// What every machine is deployed to with.
struct Turn<'a> {
    flags: &'a Deploy,
    run: &'a Run<'a>,
    /// Machines that are not as they should be.
    failed: AtomicUsize,
}

impl Turn<'_> {
    /// What becomes of a machine that may not be begun with any more.
    fn hinders(&self, ready: &Ready<'_>, stops: Option<&str>) -> Option<Row> {
        let many = self.flags.max_failed.is_some_and(|most| self.failed.load(Ordering::SeqCst) > most);
        let why = match (self.run.cancel.is_set(), stops) {
            (true, _) => "interrupted",
            (_, Some(why)) => why,
            _ if many => "too many machines failed (--max-failed)",
            _ => return None,
        };
        Some(ready.row(Ended::new(State::NotTried, why)))
    }

    fn deploy(&self, ready: &Ready<'_>) -> Row {
        let began = Instant::now();
        let tell = |text: &str| eprintln!("{}: {text}", ready.host.name);
        let ended = match self.copy(ready, &tell) {
            Ok(()) if self.flags.dry_activate => dry_activate(ready, self.run.cancel),
            Ok(()) => self.activate(ready, &tell),
            Err(why) => Ended::new(State::Failed, why),
        };
        let row = Row { seconds: began.elapsed().as_secs_f64(), ..ready.row(ended) };
        tell(&format!("{} after {:.1} s", row.state.word(), row.seconds));
        if !row.is_good() {
            self.failed.fetch_add(1, Ordering::SeqCst);
        }
        row
    }

    /// Copies the system. Errors: why it is not there, in words.
    fn copy(&self, ready: &Ready<'_>, tell: &dyn Fn(&str)) -> Result<(), String> {
        if ready.lacks_nothing() {
            return Ok(());
        }
        tell("copying");
        let store = ready.remote.store(ready.machine.is_root, None);
        let substitute = self.flags.substitute_on_destination;
        deployments::copy(&store, substitute, &ready.system, self.run.cancel)
            .map_err(|why| format!("nothing was changed; its system could not be copied {why}"))
    }

    fn activate(&self, ready: &Ready<'_>, tell: &dyn Fn(&str)) -> Ended {
        let (flags, cancel) = (self.flags, self.run.cancel);
        let id = deployments::id();
        let change = Change {
            remote: &ready.remote,
            id: &id,
            new: &ready.system,
            old: &ready.machine.current,
            boot_id: &ready.machine.boot_id,
            keep: flags.keep(),
            generation: None,
            checks: &ready.host.checks,
            confirm_timeout: Duration::from_secs(flags.confirm_timeout),
        };
        let ended = if ready.is_there {
            Ended::new(State::Confirmed, "")
        } else {
            tell(if change.keep == Keep::Boot { "setting its boot default" } else { "activating" });
            change.carry_out(cancel, tell)
        };
        match ended.state {
            State::Confirmed if flags.reboot => {
                tell("restarting");
                let patience = Duration::from_secs(flags.reboot_timeout);
                reboot::reboot(&ready.remote, &ready.machine, &ready.system, &ready.host.checks, patience, cancel)
            }
            _ => ended,
        }
    }
}

/// Says what an activation would do.
fn dry_activate(ready: &Ready<'_>, cancel: &Cancel) -> Ended {
    match ready.remote.step("dry-activate", &[("new", &ready.system)], &[], Duration::from_secs(120), cancel) {
        Ok(answer) => {
            let lines: Vec<&str> = answer.all("line").collect();
            Ended::new(State::Unchanged, format!("it would do this:\n  | {}", lines.join("\n  | ")))
        }
        Err(error) => Ended::new(State::Failed, format!("{error:#}")),
    }
}
