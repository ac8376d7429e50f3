//! Reads the scripts of the workflow files, and which of them call a program of this repository.

use std::fs;

use camino::{Utf8Path, Utf8PathBuf};

/// Every workflow file with its text, those of other engines included.
pub fn files() -> Vec<(Utf8PathBuf, String)> {
    let root = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().find(|dir| dir.join(".github").is_dir()).unwrap();
    let folder = root.join(".github/workflows").read_dir_utf8().unwrap();
    let mut files: Vec<_> = folder.map(|file| file.unwrap().path().to_owned()).collect();
    files.extend([root.join("ci/gitlab-ci.yml"), root.join("ci/forgejo.yml")]);
    files.sort();
    files.into_iter().map(|file| (file.clone(), fs::read_to_string(&file).unwrap())).collect()
}

/// The scripts of one file. A folded one (`>-`) is one line, as for the engine.
pub fn of(text: &str) -> Vec<String> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (n, line) in lines.iter().enumerate() {
        let Some(script) = line.trim_start().trim_start_matches("- ").strip_prefix("run: ") else {
            // GitLab has lists of scripts below `script:`.
            let listed = line.trim_start().strip_prefix("- ").filter(|script| call(script).is_some());
            found.extend(listed.map(str::to_owned));
            continue;
        };
        let more = lines[n + 1..].iter().take_while(|next| indent(next) > indent(line)).map(|next| next.trim());
        let folded = script == ">-";
        found.push(if folded { more.collect::<Vec<_>>().join(" ") } else { script.to_owned() });
    }
    found
}

/// The program that a script calls, `drydock` or `drydock-chores`, and its arguments. What stands in a variable is a path,
/// a number or `true`.
pub fn call(script: &str) -> Option<(&str, Vec<&str>)> {
    let words: Vec<&str> = script.split_whitespace().collect();
    let (program, rest) = match words.as_slice() {
        ["cargo", "xtask", rest @ ..] => ("drydock", rest),
        ["cargo", "chores", rest @ ..] => ("drydock-chores", rest),
        [path, rest @ ..] => (path.rsplit_once('/')?.1, rest),
        [] => return None,
    };
    let arguments = rest.iter().map(|&word| match word {
        "\"$KVM\"" => "true",
        "--no-tests=\"$NO_TESTS\"" => "--no-tests=true",
        variable if variable.contains('$') => "1",
        word => word,
    });
    let arguments = arguments.collect();
    ["drydock", "drydock-chores"].contains(&program).then_some((program, arguments))
}
