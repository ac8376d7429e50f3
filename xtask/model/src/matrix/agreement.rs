//! Reads the same files by Rust and by Nix: both accept them with the same data, or both reject them.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Map, Value, json};
use toml::de::{DeTable, DeValue};

use super::{Matrix, toml10};
use drydock_nix::process::{Cancel, Captured, Invocation, on_path};

/// The folder of cases; its two folders say what becomes of their files.
fn cases(verdict: &str) -> Vec<Utf8PathBuf> {
    let folder = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/matrix").join(verdict);
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

/// Whole matrices beside a folder `a`; true if they are right.
const MATRICES: [(bool, &str); 25] = [
    (true, "[defaults]\nsystem = 'x86_64-linux'\nartifacts = ['iso']\nlive = 'minimal'\n[host.a]\ndescription = 'd'\n"),
    (true, "[host.a]\ndescription = 'd'\nsystem = 'x86_64-linux'\nartifacts = ['system']\n"),
    (true, "[host.a]\ndescription = 'd'\nsystem = 'riscv64-linux'\nartifacts = ['system']\ntests = ['switch']\n"),
    (
        true,
        "[defaults]\ntests = ['live', 'install', 'system']\nsystem = 'x86_64-linux'\nartifacts = ['system']\n\
            [host.a]\ndescription = 'd'\nlive = 'minimal'\ntags = ['t']\n",
    ),
    (false, "[host.a]\ndescription = 'd'\n"),
    (false, "[host.a]\ndescription = 'd'\nsystem = 'x86_64-linux'\n"),
    (false, "[host.a]\ndescription = 'd'\nartifacts = ['system']\n"),
    (false, "[host.a]\ndescription = 'd'\nsystem = 'x86_64-linux'\nartifacts = ['iso']\n"),
    (false, "[host.a]\ndescription = 'd'\nsystem = 'x86_64-linux'\nartifacts = []\n"),
    (false, "[host.a]\nsystem = 'x86_64-linux'\nartifacts = ['system']\n"),
    (false, "[host.a]\ndescription = ''\nsystem = 'x86_64-linux'\nartifacts = ['system']\n"),
    (false, "[host.a]\ndescription = 'd'\nsystem = 'vax-linux'\nartifacts = ['system']\n"),
    (false, "[host.a]\ndescription = 'd'\nsystem = 'x86_64-linux'\nartifacts = ['disk']\n"),
    (false, "[host.a]\ndescription = 'd'\nsystem = 'x86_64-linux'\nartifacts = ['system']\ntests = ['live']\n"),
    (false, "[host.a]\ndescription = 'd'\nsystem = 'x86_64-linux'\nartifacts = ['system']\ntests = ['sing']\n"),
    (false, "[host.a]\ndescription = 'd'\nsytem = 'x86_64-linux'\nartifacts = ['system']\n"),
    (
        false,
        "[defaults]\ndescription = 'd'\n[host.a]\ndescription = 'd'\nsystem = 'x86_64-linux'\nartifacts = ['system']\n",
    ),
    (
        true,
        "[defaults]\nchecks = ['true']\n[host.a]\ndescription = 'd'\nsystem = 'x86_64-linux'\nartifacts = ['system']\n\
            target = 'ssh://root@[fe80::1%eth0]:22'\n",
    ),
    (
        true,
        "[host.a]\ndescription = 'd'\nsystem = 'x86_64-linux'\nartifacts = ['system']\ntarget = 'web.example:2222'\n\
            checks = ['b', 'a | grep c']\n",
    ),
    (
        false,
        "[host.a]\ndescription = 'd'\nsystem = 'x86_64-linux'\nartifacts = ['system']\ntarget = '-oProxyCommand=x'\n",
    ),
    (false, "[host.a]\ndescription = 'd'\nsystem = 'x86_64-linux'\nartifacts = ['system']\ntarget = 'web:0'\n"),
    (false, "[host.a]\ndescription = 'd'\nsystem = 'x86_64-linux'\nartifacts = ['system']\nchecks = ['']\n"),
    (
        false,
        "[defaults]\ntarget = 'web'\n[host.a]\ndescription = 'd'\nsystem = 'x86_64-linux'\nartifacts = ['system']\n",
    ),
    (false, "[hosts.a]\ndescription = 'd'\n"),
    (false, "[host.c]\ndescription = 'd'\nsystem = 'x86_64-linux'\nartifacts = ['system']\n"),
];

/// Of each host what decides about its jobs, with lists in one order.
fn decisive(hosts: impl IntoIterator<Item = Value>) -> Value {
    let list = |host: &Value, key: &str| {
        let mut words: Vec<String> = serde_json::from_value(host[key].clone()).expect("a list of text");
        words.sort();
        json!(words)
    };
    let host = |host: Value| {
        let artifacts = list(&host, "artifacts");
        // Without an ISO there is nothing that the live profile could be for.
        let live = if artifacts[0] == "iso" { host["live"].clone() } else { Value::Null };
        json!([
            host["name"],
            host["description"],
            host["system"],
            artifacts,
            live,
            list(&host, "tests"),
            list(&host, "tags"),
            host["checks"]
        ])
    };
    hosts.into_iter().map(host).collect()
}

#[test]
fn the_fleet_library_wants_of_a_row_what_rust_wants() {
    let shell = xshell::Shell::new().expect("a working directory");
    let directory = drydock_nix::files::Temporary::new().expect("a temporary folder");
    let library = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../../lib/matrix.nix");
    let folders = ["a".to_owned()];
    let mut hosts = Vec::new();
    for (number, (_, text)) in MATRICES.iter().enumerate() {
        let folder = directory.join(number.to_string());
        shell.create_dir(folder.join("a")).expect("a folder");
        shell.write_file(folder.join("hosts.toml"), text).expect("a file");
        hosts.push(folder);
    }
    let read = format!(
        "map (hosts: let rows = import {library} {{ hosts = /. + hosts; }}; \
         read = builtins.tryEval (builtins.deepSeq rows rows); in \
         if read.success then builtins.attrValues read.value else null) \
         (builtins.fromJSON (builtins.getEnv \"CASES\"))"
    );
    let said = nix(&read, &json!(hosts).to_string());
    assert!(said.end.is_success(), "{}", said.stderr);
    let theirs: Vec<Value> = serde_json::from_str(&said.stdout).expect("Nix prints JSON");
    assert_eq!(theirs.len(), MATRICES.len());
    for ((right, text), theirs) in MATRICES.iter().zip(theirs) {
        let ours = Matrix::parse(text, &folders).ok();
        assert_eq!(ours.is_some(), *right, "Rust:\n{text}");
        assert_eq!(theirs.is_array(), *right, "lib/matrix.nix:\n{text}");
        if let (Some(ours), Value::Array(theirs)) = (ours, theirs) {
            let ours = ours.hosts.iter().map(|host| serde_json::to_value(host).expect("data"));
            assert_eq!(decisive(ours), decisive(theirs), "{text}");
        }
    }
}
