//! A fleet's lock and overrides in, the inputs that make every evaluator wait out.

use std::{collections::BTreeMap, fs};

use camino::Utf8Path;
use serde::Deserialize;

use super::Fleet;

/// One warning for each input that is a folder with nixpkgs in it: every evaluating process copies and hashes
/// such a folder anew, which takes 30 to 45 s (measured with Nix 2.26 and 2.34).
pub fn slow(fleet: &Fleet) -> Vec<String> {
    let text = fs::read_to_string(fleet.root.join("flake.lock")).unwrap_or_default();
    let replaced = |name: &str| fleet.overrides.iter().any(|(input, _)| input == name);
    let locked = locked_folders(&text).into_iter().filter(|(name, _)| !replaced(name));
    let overrides = fleet.overrides.iter().filter_map(|(input, flake)| {
        let folder = flake.strip_prefix("path:").unwrap_or(flake).split('?').next()?;
        folder.starts_with('/').then(|| (input.clone(), folder.to_owned()))
    });
    let slow = locked.chain(overrides).filter(|(_, folder)| holds_nixpkgs(Utf8Path::new(folder)));
    slow.map(|(input, folder)| {
        format!(
            "warning: the input {input} is the folder {folder}, which every evaluator copies and hashes again (30 to 45 s)\n  \
             try: a Git reference such as git+file://{folder}, or lock it to a revision"
        )
    })
    .collect()
}

/// The inputs that flake.lock locks to folders outside of the store, by name.
fn locked_folders(lock: &str) -> Vec<(String, String)> {
    #[derive(Deserialize)]
    struct Lock {
        nodes: BTreeMap<String, Node>,
    }
    #[derive(Deserialize)]
    struct Node {
        locked: Option<Locked>,
    }
    #[derive(Deserialize)]
    struct Locked {
        r#type: String,
        path: Option<String>,
    }
    let nodes = serde_json::from_str::<Lock>(lock).map(|lock| lock.nodes).unwrap_or_default();
    let folder = |node: Node| node.locked.filter(|locked| locked.r#type == "path")?.path;
    let folders = nodes.into_iter().filter_map(|(name, node)| Some((name, folder(node)?)));
    folders.filter(|(_, path)| path.starts_with('/') && !path.starts_with("/nix/store/")).collect()
}

fn holds_nixpkgs(folder: &Utf8Path) -> bool {
    !folder.starts_with("/nix/store") && folder.join("pkgs/top-level/all-packages.nix").is_file()
}

#[cfg(test)]
mod tests {
    use camino::Utf8PathBuf;
    use xshell::Shell;

    use super::*;
    use crate::matrix::Matrix;

    #[test]
    fn folders_with_nixpkgs_are_named_once() {
        let shell = Shell::new().unwrap();
        let dir = shell.create_temp_dir().unwrap();
        let root = Utf8PathBuf::from_path_buf(dir.path().canonicalize().unwrap()).unwrap();
        shell.change_dir(&root);
        shell.write_file("big/pkgs/top-level/all-packages.nix", "").unwrap();
        shell.write_file("small/flake.nix", "").unwrap();
        let lock = format!(
            r#"{{"nodes":{{"nixpkgs":{{"locked":{{"type":"path","path":"{root}/big"}}}},"root":{{}},
            "own":{{"locked":{{"type":"path","path":"{root}/small"}}}},"disko":{{"locked":{{"type":"github"}}}}}}}}"#
        );
        shell.write_file("flake.lock", lock).unwrap();
        let check = |overrides: &[(&str, String)], expected: &[&str]| {
            let overrides = overrides.iter().map(|(input, flake)| ((*input).to_owned(), flake.clone())).collect();
            let matrix = Matrix { hosts: Vec::new() };
            let typed = String::new();
            let fleet =
                Fleet { typed, root: root.clone(), flake_ref: String::new(), overrides, matrix, earlier_of: None };
            let found = slow(&fleet);
            assert_eq!(found.len(), expected.len(), "{found:?}");
            assert!(found.iter().zip(expected).all(|(text, name)| text.contains(&format!("input {name} is"))));
        };
        check(&[], &["nixpkgs"]);
        check(&[("nixpkgs", "github:NixOS/nixpkgs".into())], &[]);
        check(&[("nixpkgs", format!("path:{root}/big?narHash=x"))], &["nixpkgs"]);
        check(&[("own", format!("{root}/big"))], &["nixpkgs", "own"]);
    }
}
