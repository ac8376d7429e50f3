//! Children that end well, badly, late, never, and too big.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::*;

fn sh(script: &str) -> Invocation {
    Invocation::new(["sh", "-c", script])
}

#[test]
fn words_are_quoted_only_where_they_must() {
    let rows = [
        ("a", "a"),
        (".#hydraJobs.a.iso", ".#hydraJobs.a.iso"),
        ("", "''"),
        ("a b", "'a b'"),
        ("it's", r"'it'\''s'"),
        ("path:/x?dir=y", "'path:/x?dir=y'"),
        ("$(id)", "'$(id)'"),
        ("#x", "'#x'"),
    ];
    for (word, expected) in rows {
        assert_eq!(quote(word), expected);
    }
}

#[test]
fn output_and_exit_are_reported() {
    let captured = sh("echo out; echo err >&2; exit 3").capture(&Cancel::default()).unwrap();
    assert_eq!((captured.stdout.as_str(), captured.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!(captured.end, End::Exited(3));
}

#[test]
fn a_deadline_ends_the_whole_group() {
    let started = Instant::now();
    let hang = sh("trap '' TERM; sleep 60 & sleep 60").timeout(Duration::from_millis(100));
    assert_eq!(hang.capture(&Cancel::default()).unwrap().end, End::TimedOut);
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[test]
fn a_grandchild_that_holds_the_pipe_does_not_hold_us() {
    let started = Instant::now();
    let captured = sh("sleep 60 & echo done").capture(&Cancel::default()).unwrap();
    assert_eq!((captured.stdout.as_str(), captured.end), ("done\n", End::Exited(0)));
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[test]
fn a_slow_reader_loses_nothing_of_a_child_that_is_gone() {
    let mut lines = 0;
    let quick = sh("i=0; while [ $i -lt 400 ]; do echo $i; i=$((i + 1)); done");
    quick
        .stream(&Cancel::default(), &mut |_, _| {
            lines += 1;
            std::thread::sleep(Duration::from_millis(2));
        })
        .unwrap();
    assert_eq!(lines, 400);
}

#[test]
fn an_interrupt_ends_a_child_that_ignores_it() {
    let cancel = Cancel::default();
    let other = cancel.clone();
    let waiter = thread::spawn(move || sh("trap '' TERM INT; while :; do sleep 1; done").capture(&other));
    thread::sleep(Duration::from_millis(200));
    let started = Instant::now();
    cancel.set();
    assert_eq!(waiter.join().unwrap().unwrap().end, End::Cancelled);
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn an_endless_line_is_handed_over_in_pieces() {
    let mut longest = 0;
    let big = sh("head -c 1000000 /dev/zero | tr '\\0' x");
    big.stream(&Cancel::default(), &mut |_, line| longest = longest.max(line.len())).unwrap();
    assert!(longest as u64 <= LONGEST_LINE && longest > 0);
}

#[test]
fn a_child_that_outgrows_its_memory_is_ended() {
    let hog = Invocation::new(["tail", "/dev/zero"]).memory(64 << 20);
    let End::OutOfMemory(bytes) = hog.capture(&Cancel::default()).unwrap().end else { panic!("it was not noticed") };
    assert!(bytes > 64 << 20);
}

#[test]
fn a_missing_program_is_named() {
    let error = Invocation::new(["no-such-program"]).capture(&Cancel::default()).unwrap_err();
    assert!(format!("{error:#}").contains("no-such-program"));
}
