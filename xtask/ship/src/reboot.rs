//! Restarts a machine and waits until it is back with the system that it should start with.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    guard::{Ended, State},
    probe::{Machine, probe},
    process::Cancel,
    remote::Remote,
};

/// Restarts the machine, whose boot default is `new`, waits so long for it, and makes the checks.
pub fn reboot(
    remote: &Remote,
    before: &Machine,
    new: &str,
    checks: &[String],
    patience: Duration,
    cancel: &Cancel,
) -> Ended {
    // The connection may end before the answer comes: whether it restarts is seen by its boot id.
    let mut trouble = match remote.step("reboot", &[], &[], Duration::from_secs(30), cancel) {
        Ok(answer) if answer.get("end") != Some("0") => {
            return Ended::new(State::Failed, "its boot default is the new system, but it does not restart");
        }
        Ok(_) => String::new(),
        Err(error) => format!("{error:#}"),
    };
    let began = Instant::now();
    while began.elapsed() < patience && !cancel.is_set() {
        match probe(remote, &[], cancel) {
            Ok(now) if now.boot_id == before.boot_id => trouble = "it has not restarted".to_owned(),
            Ok(now) if now.booted == new => return judge(remote, before, checks, cancel),
            Ok(now) => {
                return Ended::new(
                    State::RolledBack,
                    format!("it started {} and not the new system, its boot default", now.booted),
                );
            }
            Err(error) => trouble = format!("{error:#}"),
        }
        sleep(Duration::from_secs(1));
    }
    let why = if cancel.is_set() {
        "interrupted".to_owned()
    } else {
        format!("it is not back after {} s: {trouble}", patience.as_secs())
    };
    Ended::new(State::Unknown, format!("{why}\n  its boot default is the new system; its boot menu has the old one"))
}

/// Whether all is well after the restart. There is no way back by itself any more.
fn judge(remote: &Remote, before: &Machine, checks: &[String], cancel: &Cancel) -> Ended {
    let problems: Vec<String> = match remote.step("verify", &[("id", "")], checks, Duration::from_secs(180), cancel) {
        Ok(answer) => {
            let failed =
                answer.all("newly-failed").filter(|unit| !before.failed_units.iter().any(|other| other == unit));
            let units = failed.map(|unit| format!("{unit} failed"));
            units.chain(answer.all("check-failed").map(|check| format!("the check {check}"))).collect()
        }
        Err(error) => vec![format!("{error:#}")],
    };
    match problems.is_empty() {
        true => Ended::new(State::Confirmed, ""),
        false => Ended::new(
            State::Failed,
            format!("it started with the new system, but {}\n  try: `cargo xtask rollback`", problems.join("; ")),
        ),
    }
}
