//! What reads the texts of others, each reader as one function for cargo-fuzz: whatever the bytes are, none may panic,
//! and what they give must hold. `seeds` has something to begin with, and what once was wrong; the test reads all of it.
//!
//! RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir xtask/fuzz --features libfuzzer matrix CORPUS xtask/fuzz/seeds/matrix

#![allow(clippy::unwrap_used, reason = "a panic is what these are made for")]

use drydock_model::{
    destination::Destination,
    diagnostic::render,
    job::{HostName, JobId},
    matrix::{Matrix, decode},
    record::Record,
};
use drydock_nix::nix::{Settings, Version, drv, event, remote, reply};
use drydock_pipeline::{
    compare::{derivation::Graph, name, nixos, packages, snapshot::Running},
    vmtest::log::{TestLog, file_name},
};
use drydock_report::{history::History, junit, markdown, page, records, table, trace};
use drydock_ship::{device, judge, remote::Answer};

/// hosts.toml: whatever it holds, it is a matrix or has problems that can be shown.
pub fn matrix(data: &[u8]) {
    let folders = ["a".to_owned(), "b".to_owned()];
    let text = match decode(data) {
        Ok(text) => text,
        Err(problem) => {
            render("hosts.toml", &String::from_utf8_lossy(data), &[problem], true);
            return;
        }
    };
    match Matrix::parse(text, &folders) {
        Ok(matrix) => {
            let hosts = matrix.hosts.iter();
            let jobs: usize = hosts.map(|host| host.jobs().len() + host.destination().address().len()).sum();
            assert!(jobs > 0 || matrix.hosts.is_empty(), "{text}");
        }
        Err(problems) => {
            assert!(!problems.is_empty(), "{text}");
            assert!(!render("hosts.toml", text, &problems, false).is_empty());
        }
    }
}

/// What Nix and machines say, line by line and whole. The first byte chooses the reader.
pub fn replies(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    let text = &String::from_utf8_lossy(rest);
    match choice % 8 {
        0 => text.lines().for_each(|line| {
            let _ = event::parse(line);
        }),
        1 => {
            let shown = event::plain(text);
            assert!(!shown.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{shown:?}");
            event::blamed(text);
            event::drv_paths(text).for_each(|path| assert!(path.ends_with(".drv"), "{path}"));
        }
        2 => drop(reply::path_info(text)),
        3 => drop(reply::dry_run(text)),
        4 => {
            if let Ok(settings) = Settings::parse(text) {
                let builders = remote::lines(settings.get("builders"));
                settings.builder_of("aarch64-linux", &builders);
            }
            Version::parse(text);
        }
        5 => {
            if let Ok(destination) = text.parse::<Destination>() {
                let address = destination.for_ssh();
                assert!(!address.starts_with('-') && !address.contains(char::is_whitespace), "{address}");
            }
            drop(Running::parse(text));
        }
        6 => {
            drop((HostName::try_from(text.to_string()), JobId::try_from(text.to_string())));
            name::split(text);
            name::of_path(text);
            name::without_hashes(text);
        }
        _ => drop(Answer::parse(text)),
    }
}

/// `.drv` files, and `nix derivation show` with all that is read out of it.
pub fn derivations(data: &[u8]) {
    drv::inputs(data);
    drv::demands_kvm(data);
    let Ok(graph) = Graph::parse(&String::from_utf8_lossy(data)) else { return };
    nixos::facts(&graph);
    packages::environment(&graph);
    let names: Vec<&str> = graph.nodes.values().map(|node| node.name.as_str()).collect();
    graph.nodes.keys().for_each(|root| {
        let below = packages::below(&graph, root);
        packages::changes(below.into_iter(), names.iter().copied());
    });
}

/// The record of a run, in everything that is made of one.
pub fn record(data: &[u8]) {
    let Ok(record) = serde_json::from_slice::<Record>(data) else { return };
    table::render(&record, table::Paint { colour: false });
    let records = [record];
    trace::render(&records::spans(records.iter()));
    junit::render(&records);
    assert!(markdown::render(&records, "", &History::default(), 1000).len() <= 1000);
    let page = page::render(&records, &History::default(), None, &[], &|_| None);
    assert!(!page.contains("<script") && !page.contains("NaN"), "{page}");
    let again = serde_json::to_string(&records[0]).unwrap();
    assert_eq!(serde_json::to_string(&serde_json::from_str::<Record>(&again).unwrap()).unwrap(), again);
}

/// The least size of a device, in bytes.
const LEAST: u64 = 1 << 20;

/// What `lsblk` says: nothing that is in use, cannot be written or is too small is ever offered.
pub fn devices(data: &[u8]) {
    let Ok(table) = device::parse(&String::from_utf8_lossy(data)) else { return };
    let (offered, refused) = judge::sort(&table, LEAST);
    assert!(refused.iter().all(|(_, reason)| !reason.is_empty()));
    for device in offered {
        device.describe();
        device.contents();
        assert!(device.size >= LEAST && device.kind == "disk", "{device:?}");
        assert!(device.tree().iter().all(|part| part.mounts.is_empty()), "{device:?}");
    }
}

/// The log of a test driver, of which every console is a stranger.
pub fn testlog(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut log = TestLog::default();
    for line in text.lines() {
        log.take(line);
    }
    log.current();
    log.failed();
    for shot in &log.screenshots {
        log.survived(shot);
        assert_eq!(file_name(&shot.name), shot.name);
        assert!(!shot.name.contains('/') && !shot.name.starts_with('.'), "{}", shot.name);
    }
    assert!(log.subtests.len() <= text.lines().count());
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    #[test]
    fn every_seed_and_every_beginning_of_one_is_read() {
        for folder in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds")).unwrap() {
            let folder = folder.unwrap().path();
            let target = match folder.file_name().and_then(|name| name.to_str()) {
                Some("matrix") => super::matrix,
                Some("replies") => super::replies,
                Some("derivations") => super::derivations,
                Some("record") => super::record,
                Some("devices") => super::devices,
                Some("testlog") => super::testlog,
                other => panic!("no target is called {other:?}"),
            };
            let files: Vec<_> =
                fs::read_dir(&folder).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
            assert!(!files.is_empty(), "{folder:?}");
            files.iter().for_each(|file| (0..=file.len()).for_each(|end| target(&file[..end])));
        }
    }
}
