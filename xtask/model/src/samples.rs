//! Gives values for the tests of the crates above, and takes what they wrote.

use std::fs;

use crate::{
    job::{Failure, Job, JobId, Outcome, Position, Stage},
    record::{FleetRecord, Image, JobRecord, Record, StageSeconds, VERSION},
    timings::{Span, What},
};

/// Leaves what a test wrote for programs to ci/tests/check-schema.
pub fn keep(name: &str, json: &str) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/xtask/records");
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(format!("{folder}/{name}.json"), json));
    written.expect("the folder for what is built can be written");
}

/// A failure of which everything is known.
pub fn failure() -> Failure {
    Failure {
        stage: Stage::Evaluate,
        message: "no such thing".into(),
        position: Some(Position { file: "hosts/c/default.nix".into(), line: 3, column: Some(5) }),
        drv: Some("/nix/store/x-c.drv".into()),
        log_tail: vec!["the last line".into()],
        reproduce: "nix eval".into(),
    }
}

/// A span without a machine.
pub fn span(what: What, name: &str, start: f64, end: f64) -> Span {
    Span {
        what,
        name: name.into(),
        key: format!("/s/{name}.drv"),
        within: None,
        start,
        end,
        ok: true,
        memory: None,
        machine: String::new(),
    }
}

/// A run in which every kind of outcome occurs.
pub fn record() -> Record {
    let shared = Failure {
        stage: Stage::Build,
        message: "builder failed with exit code 3".into(),
        position: None,
        drv: Some("/nix/store/x-shared.drv".into()),
        log_tail: vec!["hi".into(), "bad <&> \"".into()],
        reproduce: "nix build '/nix/store/x-shared.drv^*'".into(),
    };
    let thrown = Failure {
        stage: Stage::Evaluate,
        message: "b is broken".into(),
        position: Some(Position { file: "hosts/b/default.nix".into(), line: 3, column: Some(7) }),
        drv: None,
        log_tail: vec![],
        reproduce: "nix eval x".into(),
    };
    let mut iso = job("a.iso", Outcome::Built);
    iso.build_seconds = Some(12.04);
    iso.image = Some(Image { file: "a.iso".into(), size: 3 << 20, sha256: "0".repeat(64) });
    Record {
        version: VERSION,
        command: "build-all".into(),
        fleet: FleetRecord { root: "/f".into(), flake: "path:/f".into(), revision: None, dirty: false },
        nix: "2.26".into(),
        began: Some(1_769_860_800),
        seconds: StageSeconds { evaluate: 1.0, build: 12.04, verify: 0.1, total: 13.0 },
        jobs: vec![
            iso,
            job("b.iso", Outcome::Failed(thrown)),
            job("c.system", Outcome::Failed(shared.clone())),
            job("d.system", Outcome::Failed(shared)),
            job("e.system", Outcome::NotRun { reason: "interrupted".into() }),
        ],
        not_pushed: vec![],
        spans: vec![span(What::Build, "a-iso", 0.5, 12.54)],
    }
}

/// The record of a job of the given outcome.
pub fn job(id: &str, outcome: Outcome) -> JobRecord {
    let id = JobId::try_from(id.to_owned()).expect("the caller names a job");
    JobRecord::new(&Job { id, system: "x86_64-linux".parse().expect("it is a system") }, outcome)
}
