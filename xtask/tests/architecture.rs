//! The sources of xtask in, a failure out for each rule of ARCHITECTURE.md that one of them breaks: who
//! imports whom, who starts processes, who prints, how long a file is, how it opens.

use std::{collections::BTreeSet, fs};

use camino::{Utf8Path, Utf8PathBuf};

/// What everybody may import: the words of a run, and how to say what is wrong.
const VOCABULARY: &[&str] = &["job", "diagnostic"];

/// Every module and what else it may import, besides itself. A row imports from rows above it only, so there
/// is no cycle. A new module gets a row here; a new import is a decision about the design.
const MODULES: &[(&str, &[&str])] = &[
    ("job", &[]),
    ("diagnostic", &[]),
    ("files", &[]),
    ("process", &[]),
    ("schedule", &[]),
    ("shard", &[]),
    ("history", &["files"]),
    ("progress", &[]),
    ("timings", &[]),
    ("matrix", &[]),
    ("nix", &["files", "process"]),
    ("git", &["nix", "process"]),
    ("fleet", &["matrix", "nix", "process"]),
    ("eval", &["files", "nix", "process"]),
    ("realise", &["nix", "process", "timings"]),
    ("results", &["nix", "process"]),
    ("memory", &["files", "fleet", "nix", "process"]),
    ("compare", &["fleet", "git", "matrix", "nix", "process"]),
    ("vmtest", &["files", "nix", "process", "realise", "timings"]),
    // A record holds what a VM test said.
    ("report", &["history", "timings", "vmtest"]),
    ("doctor", &["files", "matrix", "nix", "process", "vmtest"]),
    // Flags become types where they are parsed: a choice is declared beside what it chooses.
    ("flags", &["report", "vmtest"]),
    ("plan", &["flags", "matrix"]),
];

/// These put the modules together and may import all of them.
const COMPOSERS: &[&str] = &["cmd", "main"];

/// Where a child process may be started.
const STARTS_PROCESSES: &[&str] = &["process"];

/// Where something may be written to the standard streams.
const PRINTS: &[&str] = &["cmd", "diagnostic", "progress", "report"];

/// Lines of a file, without the unit tests at its end. The aim is 250.
const LONGEST: usize = 400;

/// A source file without comments and unit tests.
struct Source {
    path: Utf8PathBuf,
    module: String,
    first_line: String,
    lines: usize,
    code: String,
}

impl Source {
    fn new(path: &Utf8Path, text: &str) -> Self {
        let first = path.iter().next().expect("a path has a first part");
        let shipped = ["#[cfg(test)]\nmod tests {", "#[cfg(test)]\npub mod tests {"];
        let end = shipped.iter().filter_map(|start| text.find(start)).min().unwrap_or(text.len());
        let kept: Vec<&str> = text[..end].lines().collect();
        let code = kept.iter().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n"));
        Self {
            path: path.to_owned(),
            module: first.trim_end_matches(".rs").to_owned(),
            first_line: text.lines().next().unwrap_or_default().to_owned(),
            lines: kept.len(),
            code: code.collect(),
        }
    }

    /// The modules named after `crate::`, alone or in braces.
    fn imports(&self) -> BTreeSet<&str> {
        let after = self.code.match_indices("crate::").map(|(at, found)| &self.code[at + found.len()..]);
        after.flat_map(|rest| if rest.starts_with('{') { in_braces(rest) } else { vec![word(rest)] }).collect()
    }

    fn starts_processes(&self) -> bool {
        ["Command::new", "cmd!(", "posix_spawn"].iter().any(|sign| self.code.contains(sign))
    }

    fn prints(&self) -> bool {
        // `eprint!` and its kin contain these too.
        let signs = ["print!(", "println!(", "dbg!(", "stdout().lock()", "stderr().lock()", "stdout().write"];
        signs.iter().any(|sign| self.code.contains(sign))
    }
}

/// The first word of each part of `{a::b, c::{d, e}, f}`.
fn in_braces(text: &str) -> Vec<&str> {
    let (mut depth, mut words, mut starts) = (0, Vec::new(), true);
    for (at, character) in text.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 1 => break,
            '}' => depth -= 1,
            ',' if depth == 1 => starts = true,
            c if depth == 1 && starts && !c.is_whitespace() => {
                words.push(word(&text[at..]));
                starts = false;
            }
            _ => {}
        }
    }
    words
}

fn word(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}

/// Every source file that is part of the program; files of unit tests are not.
fn sources() -> Vec<Source> {
    let root = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 20, "the sources are in {root}");
    let texts: Vec<(Utf8PathBuf, String)> = files
        .into_iter()
        .map(|file| (file.strip_prefix(&root).expect("below").to_owned(), fs::read_to_string(&file).expect("text")))
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
        let (path, module) = (&source.path, source.module.as_str());
        let mut broken = |rule: String| found.push(format!("src/{path}: {rule}"));
        let allowed = MODULES.iter().find(|(name, _)| *name == module).map(|(_, allowed)| *allowed);
        if allowed.is_none() && !COMPOSERS.contains(&module) {
            broken(format!("`{module}` has no row in MODULES of xtask/tests/architecture.rs"));
        }
        for import in source.imports() {
            let known = |allowed: &[&str]| import == module || allowed.contains(&import);
            let is_word = VOCABULARY.contains(&import) && !VOCABULARY.contains(&module) && module != "process";
            if allowed.is_some_and(|allowed| !known(allowed) && !is_word) {
                broken(format!("`{module}` may not import `{import}`"));
            }
        }
        if source.starts_processes() && !STARTS_PROCESSES.contains(&module) {
            broken("starts a process; `process::Invocation` does, with deadline and interrupt".to_owned());
        }
        if source.prints() && !PRINTS.contains(&module) {
            broken(format!("prints; only {} do", PRINTS.join(", ")));
        }
        if !source.first_line.starts_with("//! ") {
            broken("does not open with a sentence (`//! …`) that says what it is".to_owned());
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

#[test]
fn the_table_has_no_cycle_and_no_stranger() {
    let modules: BTreeSet<String> = sources().into_iter().map(|source| source.module).collect();
    for (at, (module, imports)) in MODULES.iter().enumerate() {
        assert!(modules.contains(*module), "MODULES has a row for `{module}`, which does not exist");
        for import in *imports {
            let above = MODULES[..at].iter().any(|(other, _)| other == import);
            assert!(above, "`{module}` imports `{import}`, whose row is not above its own");
        }
    }
}

#[test]
fn the_document_says_the_same() {
    let file = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../ARCHITECTURE.md");
    let text = fs::read_to_string(&file).expect("the document is in the repository");
    let rows = text.lines().map(|line| line.split(" | ").collect::<Vec<_>>()).filter(|cells| cells.len() == 3);
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let listed = |cell: &str| {
        let cell = cell.trim_end_matches([' ', '|']);
        if cell == "nothing of ours" { vec![] } else { cell.split(", ").map(str::to_owned).collect() }
    };
    let documented: Vec<(String, Vec<String>)> = rows
        .flat_map(|cells| quoted(cells[0]).into_iter().map(move |name| (name, cells[2])))
        .filter(|(name, _)| MODULES.iter().any(|(module, _)| module == name))
        .map(|(name, imports)| (name, listed(imports)))
        .collect();
    for (module, imports) in MODULES {
        let row = documented.iter().find(|(name, _)| name == module);
        let (_, said) = row.unwrap_or_else(|| panic!("{file} has no row for `{module}`"));
        assert_eq!(said, imports, "{file} says otherwise about what `{module}` may import");
    }
}

#[test]
fn every_rule_finds_who_breaks_it() {
    let long = format!("//! Long.\n{}", "fn f() {}\n".repeat(LONGEST));
    // The file, its text, and what is said of it.
    let rows: &[(&str, &str, &str)] = &[
        ("job.rs", "//! A.\nuse crate::nix::Nix;\n", "`job` may not import `nix`"),
        ("job.rs", "//! A.\nuse crate::{\n    job::X,\n    nix::{Nix, y::Z},\n    eval,\n};\n", "import `nix`"),
        ("plan.rs", "//! A.\nfn f() { crate::process::quote(\"\"); }\n", "`plan` may not import `process`"),
        ("nix/argv.rs", "//! A.\nfn f() { std::process::Command::new(\"x\"); }\n", "starts a process"),
        ("matrix/mod.rs", "//! A.\nfn f() { eprintln!(\"x\"); }\n", "prints"),
        ("matrix/mod.rs", "//! A.\nfn f() { std::io::stdout().lock(); }\n", "prints"),
        ("job.rs", "use std::fmt;\n", "does not open with a sentence"),
        ("job.rs", &long, "401 lines"),
        ("helpers.rs", "//! A.\n", "`helpers` has no row"),
    ];
    for (path, text, expected) in rows {
        let found = violations(&[Source::new(Utf8Path::new(path), text)]);
        assert!(found.iter().any(|violation| violation.contains(expected)), "{text}\n{found:?}");
    }
    let innocent = "//! A.\n// crate::nix and println!( in a comment.\nfn f() {}\n\n#[cfg(test)]\nmod tests {\n    use crate::nix;\n}\n";
    assert_eq!(violations(&[Source::new(Utf8Path::new("job.rs"), innocent)]), Vec::<String>::new());
}
