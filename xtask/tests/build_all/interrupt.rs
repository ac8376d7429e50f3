//! Ctrl-C, SIGTERM and SIGKILL in the middle of a run.

use std::{
    fs,
    os::unix::process::ExitStatusExt as _,
    process::Child,
    time::{Duration, Instant},
};

use super::synthetic::{Fleet, assert_is_kept};

/// Processes whose command line or environment names the fleet, which every builder's does.
pub fn alive(nonce: &str) -> Vec<String> {
    let processes =
        fs::read_dir("/proc").unwrap().flatten().filter(|e| e.file_name().to_string_lossy().parse::<u32>().is_ok());
    let names = |entry: &fs::DirEntry, file: &str| {
        let bytes = fs::read(entry.path().join(file)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', " ")
    };
    let mine = std::process::id().to_string();
    processes
        .filter(|entry| entry.file_name().to_string_lossy() != mine)
        .map(|entry| (names(&entry, "cmdline"), names(&entry, "environ")))
        .filter(|(cmdline, environ)| cmdline.contains(nonce) || environ.contains(nonce))
        .map(|(cmdline, _)| cmdline)
        .collect()
}

fn wait_until(what: &str, limit: Duration, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < limit, "{what} did not happen within {limit:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(child: &Child, name: &str) {
    let status = std::process::Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(status.unwrap().success());
}

#[test]
fn an_interrupted_run_leaves_no_process_and_the_old_results() {
    let polite = (Some(130), None, Duration::from_secs(2));
    for (name, ended) in [("INT", polite), ("TERM", polite), ("KILL", (None, Some(9), Duration::from_secs(5)))] {
        let fleet = Fleet::new(&[("a", "build \"a\" \"echo a > $out\"")]);
        fleet.xtask(&["build-all"]).expect(0, &[]);
        let before = fleet.results();
        let hang = "build \"hang\" \"while :; do :; done\"";
        fleet.write(&[("a", "build \"a\" \"echo new > $out\""), ("b", hang), ("c", hang)]);
        let mut run = fleet.start(&["build-all"]);
        let builder = format!("name=hang-{}", fleet.nonce);
        wait_until("a builder", Duration::from_secs(60), || !alive(&builder).is_empty());
        let asked = Instant::now();
        signal(&run.0, name);
        let status = run.0.wait().unwrap();
        let (code, by, limit) = ended;
        assert_eq!((status.code(), status.signal()), (code, by), "after SIG{name}");
        wait_until("the end of every child", limit.saturating_sub(asked.elapsed()), || alive(&fleet.nonce).is_empty());
        assert_eq!(fleet.results(), before);
        fleet.write(&[("a", "build \"a\" \"echo new > $out\"")]);
        fleet.xtask(&["build-all"]).expect(0, &[]);
        assert_eq!(fs::read_to_string(fleet.path("result/a/system")).unwrap(), "new\n");
    }
}

/// Outside of a folder that Nix reads as it is, Nix links what it builds at once.
#[test]
fn a_first_run_elsewhere_is_interrupted_without_a_trace_and_rooted_when_it_ends() {
    let elsewhere = tempfile::TempDir::new().unwrap();
    let out = elsewhere.path().canonicalize().unwrap().join("out");
    let args = ["build-all", "--out-link", out.to_str().unwrap()];
    let fleet = Fleet::new(&[("a", "build \"hang\" \"while :; do :; done\"")]);
    let mut run = fleet.start(&args);
    let builder = format!("name=hang-{}", fleet.nonce);
    wait_until("a builder", Duration::from_secs(60), || !alive(&builder).is_empty());
    let known = || fleet.xtask(&["why", "a"]).expect(0, &[]).stdout.contains("not evaluated: nothing has changed");
    wait_until("that what was evaluated is remembered during the build", Duration::from_secs(30), known);
    signal(&run.0, "INT");
    assert_eq!(run.0.wait().unwrap().code(), Some(130));
    assert!(!out.exists());
    fleet.write(&[("a", "build \"a\" \"echo a > $out\"")]);
    fleet.xtask(&args).expect(0, &["1 job: 1 built"]);
    let path = fs::read_link(out.join("a/system")).unwrap();
    assert_is_kept(&path, &out.join(".roots"));
}
