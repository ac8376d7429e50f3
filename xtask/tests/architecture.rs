//! Holds the sources against the rules of ARCHITECTURE.md that Cargo cannot hold: who starts processes, who prints, that
//! verbs keep to themselves, how long a file is and how it opens; and the document against the imports that Cargo allows.

use std::{collections::BTreeMap, fs};

use camino::{Utf8Path, Utf8PathBuf};

/// The rooms and their folders below xtask/, the program last.
const ROOMS: [(&str, &str); 8] = [
    ("model", "model/src"),
    ("nix", "nix/src"),
    ("memory", "memory/src"),
    ("pipeline", "pipeline/src"),
    ("report", "report/src"),
    ("ship", "ship/src"),
    ("the program", "src"),
    ("chores", "chores/src"),
];

/// Where a child process may be started, below xtask/.
const STARTS_PROCESSES: &[&str] = &["nix/src/process/"];

/// Where something may be written to the standard streams.
const PRINTS: &[&str] =
    &["src/cmd/", "chores/src/", "src/main.rs", "model/src/diagnostic.rs", "pipeline/src/progress.rs", "report/src/"];

/// Lines of a file, without the unit tests at its end. The aim is 250.
const LONGEST: usize = 400;

/// A source file without comments and unit tests.
struct Source {
    path: Utf8PathBuf,
    first_line: String,
    lines: usize,
    code: String,
}

impl Source {
    fn new(path: &Utf8Path, text: &str) -> Self {
        let shipped = ["#[cfg(test)]\nmod tests {", "#[cfg(test)]\npub mod tests {"];
        let end = shipped.iter().filter_map(|start| text.find(start)).min().unwrap_or(text.len());
        let kept: Vec<&str> = text[..end].lines().collect();
        let code = kept.iter().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n"));
        Self {
            path: path.to_owned(),
            first_line: text.lines().next().unwrap_or_default().to_owned(),
            lines: kept.len(),
            code: code.collect(),
        }
    }

    fn starts_processes(&self) -> bool {
        ["Command::new", "cmd!(", "posix_spawn"].iter().any(|sign| self.code.contains(sign))
    }

    /// Another verb that a verb imports. The steps of `ci` are one verb.
    fn imported_verb(&self) -> Option<&str> {
        let rest = self.path.as_str().strip_prefix("src/cmd/")?;
        let top = !rest.contains('/');
        let own = rest.split(['/', '.']).next()?;
        let word = |text: &'_ str| text.split(|c: char| !c.is_ascii_lowercase() && c != '_').next().map(str::len);
        let named = self.code.match_indices("cmd::").map(|(at, sign)| &self.code[at + sign.len()..]);
        // At the top `super` is where the verbs are.
        let beside = self.code.match_indices("super::").map(|(at, sign)| &self.code[at + sign.len()..]);
        let others = named.chain(beside.filter(|_| top && own != "mod"));
        let verbs = others.filter_map(|text| text.get(..word(text)?)).filter(|verb| *verb != own);
        verbs.filter(|_| own != "mod").find(|verb| xtask().join(format!("src/cmd/{verb}.rs")).exists() || *verb == "ci")
    }

    fn prints(&self) -> bool {
        // `eprint!` and its kin contain these too.
        let signs = ["print!(", "println!(", "dbg!(", "stdout().lock()", "stderr().lock()", "stdout().write"];
        signs.iter().any(|sign| self.code.contains(sign))
    }
}

fn xtask() -> &'static Utf8Path {
    Utf8Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every source file that is part of the program; files of unit tests are not.
fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    ROOMS.iter().for_each(|(_, folder)| collect(&xtask().join(folder), &mut files));
    assert!(files.len() > 80, "the sources are in {}", xtask());
    let texts: Vec<(Utf8PathBuf, String)> = files
        .into_iter()
        .map(|file| (file.strip_prefix(xtask()).expect("below").to_owned(), fs::read_to_string(&file).expect("text")))
        .collect();
    let declared = |name: &str| format!("#[cfg(test)]\nmod {name};");
    let is_test = |path: &Utf8Path| {
        let name = path.file_stem().unwrap_or_default();
        name.ends_with("_test") || texts.iter().any(|(_, text)| text.contains(&declared(name)))
    };
    texts.iter().filter(|(path, _)| !is_test(path)).map(|(path, text)| Source::new(path, text)).collect()
}

fn collect(dir: &Utf8Path, files: &mut Vec<Utf8PathBuf>) {
    for entry in dir.read_dir_utf8().expect("a folder of sources") {
        let entry = entry.expect("an entry");
        match entry.file_type().expect("its type").is_dir() {
            true => collect(entry.path(), files),
            false if entry.path().extension() == Some("rs") => files.push(entry.path().to_owned()),
            false => {}
        }
    }
    files.sort();
}

/// Everything that breaks a rule, one line each.
fn violations(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        let path = &source.path;
        let within = |places: &[&str]| places.iter().any(|place| path.as_str().starts_with(place));
        let mut broken = |rule: String| found.push(format!("xtask/{path}: {rule}"));
        if source.starts_processes() && !within(STARTS_PROCESSES) {
            broken("starts a process; `process::Invocation` does, with deadline and interrupt".to_owned());
        }
        if source.prints() && !within(PRINTS) {
            broken(format!("prints; only {} do", PRINTS.join(", ")));
        }
        if !source.first_line.starts_with("//! ") {
            broken("does not open with a sentence (`//! …`) that says what it is".to_owned());
        }
        if let Some(other) = source.imported_verb() {
            broken(format!("is a verb and imports the verb {other}; what both need belongs into the pipeline"));
        }
        if source.lines > LONGEST {
            broken(format!("has {} lines without its tests, more than {LONGEST}", source.lines));
        }
    }
    found
}

#[test]
fn the_sources_keep_the_rules() {
    let found = violations(&sources());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The rooms that a manifest lets a room import.
fn allowed(folder: &str) -> Vec<String> {
    let manifest = xtask().join(folder.trim_end_matches("src")).join("Cargo.toml");
    let text = fs::read_to_string(&manifest).expect("a room has a manifest");
    let manifest: BTreeMap<String, toml::Value> = toml::from_str(&text).expect("Cargo reads it");
    let dependencies = manifest["dependencies"].as_table().expect("a table");
    dependencies.keys().filter_map(|name| name.strip_prefix("drydock-").map(str::to_owned)).collect()
}

#[test]
fn the_document_says_who_may_import_whom() {
    let file = xtask().join("../ARCHITECTURE.md");
    let text = fs::read_to_string(&file).expect("the document is in the repository");
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(" | ").collect()).collect();
    for (room, folder) in ROOMS {
        let row = rows.iter().find(|cells| cells.len() == 3 && cells[0].trim_matches(['|', ' ', '`']) == room);
        let row = row.unwrap_or_else(|| panic!("{file} has no row for {room}"));
        let said = row[2].trim_end_matches([' ', '|']);
        let allowed = allowed(folder);
        let expected = if allowed.is_empty() { "nothing of ours".to_owned() } else { allowed.join(", ") };
        assert_eq!(said, expected, "{file} says otherwise about what {room} imports");
    }
}

#[test]
fn every_rule_finds_who_breaks_it() {
    let long = format!("//! Long.\n{}", "fn f() {}\n".repeat(LONGEST));
    // The file, its text, and what is said of it.
    let rows: &[(&str, &str, &str)] = &[
        ("nix/src/nix/argv.rs", "//! A.\nfn f() { std::process::Command::new(\"x\"); }\n", "starts a process"),
        ("src/cmd/boot.rs", "//! A.\nfn f() { xshell::cmd!(sh, \"x\"); }\n", "starts a process"),
        ("model/src/matrix/mod.rs", "//! A.\nfn f() { eprintln!(\"x\"); }\n", "prints"),
        ("pipeline/src/eval/mod.rs", "//! A.\nfn f() { std::io::stdout().lock(); }\n", "prints"),
        ("src/cmd/affected.rs", "//! A.\nuse super::diff;\n", "imports the verb diff"),
        ("src/cmd/ci/entry.rs", "//! A.\nuse crate::cmd::boot;\n", "imports the verb boot"),
        ("model/src/job.rs", "use std::fmt;\n", "does not open with a sentence"),
        ("model/src/job.rs", &long, "401 lines"),
    ];
    for (path, text, expected) in rows {
        let found = violations(&[Source::new(Utf8Path::new(path), text)]);
        assert!(found.iter().any(|violation| violation.contains(expected)), "{text}\n{found:?}");
    }
    let innocent = "//! A.\n// println!( in a comment.\nfn f() {}\n\n#[cfg(test)]\nmod tests {\n    fn f() { println!(\"\"); }\n}\n";
    assert_eq!(violations(&[Source::new(Utf8Path::new("model/src/job.rs"), innocent)]), Vec::<String>::new());
}
