//! The same files read by Rust and by Nix: both accept them with the same data, or both reject them.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Map, Value, json};
use toml::de::{DeTable, DeValue};

use super::toml10;
use crate::process::{Cancel, Captured, Invocation, on_path};

/// The folder of cases; its two folders say what becomes of their files.
fn cases(verdict: &str) -> Vec<Utf8PathBuf> {
    let folder = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/matrix").join(verdict);
    let entries = folder.read_dir_utf8().expect("the cases are in the repository");
    let mut files: Vec<Utf8PathBuf> = entries.map(|entry| entry.expect("a listing").path().to_owned()).collect();
    files.sort();
    assert!(files.len() >= 15, "only {} cases in {folder}", files.len());
    files
}

/// Evaluates an expression about the environment variable CASES, in which file names need no quoting.
fn nix(expression: &str, cases: &str) -> Captured {
    assert!(
        on_path("nix"),
        "this test compares Rust with Nix and did NOT run: `nix` is not on PATH (`ci/setup` installs it)"
    );
    let flags = ["--extra-experimental-features", "nix-command", "--store", "dummy://", "--impure", "--json"];
    let argv = ["nix", "eval"].into_iter().chain(flags).chain(["--expr", expression]);
    let nix = Invocation::new(argv).env("CASES", cases).timeout(Duration::from_secs(60));
    nix.capture(&Cancel::default()).expect("nix starts")
}

fn rust(file: &Utf8Path) -> Result<Value, String> {
    let bytes = std::fs::read(file).expect("a case is readable");
    let text = toml10::decode(&bytes).map_err(|problem| problem.message)?;
    let parsed = toml10::parse(text);
    match parsed.problems.first() {
        Some(problem) => Err(problem.message.clone()),
        None => Ok(table(&parsed.table)),
    }
}

fn table(table: &DeTable) -> Value {
    let entry = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue>)| {
        let key: &toml::de::DeString = key.get_ref();
        (key.to_string(), data(value.get_ref()))
    };
    Value::Object(table.iter().map(entry).collect::<Map<_, _>>())
}

fn data(value: &DeValue) -> Value {
    match value {
        DeValue::String(text) => json!(text),
        DeValue::Integer(number) => json!(i64::from_str_radix(number.as_str(), number.radix()).expect("64 bits")),
        DeValue::Float(number) => json!(number.as_str().parse::<f64>().expect("a float")),
        DeValue::Boolean(truth) => json!(truth),
        DeValue::Datetime(_) => unreachable!("dates are rejected"),
        DeValue::Array(items) => items.iter().map(|item| data(item.get_ref())).collect(),
        DeValue::Table(inner) => table(inner),
    }
}

#[test]
fn what_both_accept_means_the_same() {
    let files = cases("accepted");
    let read =
        r#"map (file: builtins.fromTOML (builtins.readFile file)) (builtins.fromJSON (builtins.getEnv "CASES"))"#;
    let said = nix(read, &json!(files).to_string());
    assert!(said.end.is_success(), "Nix rejects a file of tests/matrix/accepted:\n{}", said.stderr);
    let theirs: Vec<Value> = serde_json::from_str(&said.stdout).expect("Nix prints JSON");
    assert_eq!(theirs.len(), files.len());
    for (file, theirs) in files.iter().zip(theirs) {
        let ours = rust(file).unwrap_or_else(|message| panic!("Rust rejects {file}: {message}"));
        assert_eq!(ours, theirs, "{file} means something else to Nix");
    }
}

#[test]
fn what_one_rejects_the_other_rejects_too() {
    for file in cases("rejected") {
        assert!(rust(&file).is_err(), "Rust accepts {file}");
        let said = nix(r#"builtins.fromTOML (builtins.readFile (builtins.getEnv "CASES"))"#, file.as_str());
        assert!(!said.end.is_success(), "Nix accepts {file}: {}", said.stdout);
        // Any other failure would say nothing about the file.
        assert!(said.stderr.contains("while parsing TOML"), "{file}: Nix failed otherwise:\n{}", said.stderr);
    }
}
