//! Whole fleets in memory, and what the slice of a job needs of them.

use std::{collections::BTreeMap, sync::Arc};

use crate::cache::{
    depends::{Closure, Depends},
    digest::Digest,
    tree::{Contents, Entry, Kind, Tree},
};
use crate::job::JobId;

fn tree(files: &[(&str, &str)]) -> Tree {
    let files: BTreeMap<String, Vec<u8>> =
        files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect();
    let entry = |text: &[u8]| Entry { kind: Kind::File, digest: Digest::of(text) };
    let entries = files.iter().map(|(path, text)| (path.clone(), entry(text))).collect();
    let contents = Contents::Memory(Arc::new(files));
    Tree { entries, flake: String::new(), identity: Digest::of(b""), contents, overlooked: false }
}

fn closure(files: &[(&str, &str)], job: &str) -> Closure {
    let tree = tree(files);
    Depends::on(&tree).closure(&JobId::try_from(job.to_owned()).unwrap())
}

fn check(files: &[(&str, &str)], job: &str, expected: &[&str]) {
    let base = [
        ("README.md", "words"),
        ("hosts/hosts.toml", "[defaults]\n[host.web]\n[host.db]\n"),
        ("hosts/web/default.nix", "{ imports = [ ../../modules/ssh.nix ]; }"),
        ("hosts/web/test.py", "x"),
        ("hosts/db/default.nix", "{ }"),
        ("modules/ssh.nix", "{ x = ./key.pub; }"),
        ("modules/key.pub", "ssh-ed25519 AAAA"),
        ("modules/vpn.nix", "{ }"),
    ];
    let all: Vec<_> =
        base.iter().filter(|(path, _)| !files.iter().any(|(p, _)| p == path)).chain(files).copied().collect();
    let found = closure(&all, job);
    let paths = found.files.keys().filter(|path| all.iter().any(|(p, _)| p == path)).cloned();
    let mut shown: Vec<String> = paths.chain(found.folders.keys().map(|folder| format!("{folder}/"))).collect();
    shown.extend(found.row.then(|| "row".into()));
    shown.extend(found.defaults.then(|| "defaults".into()));
    shown.extend(found.names.then(|| "names".into()));
    shown.extend(found.everything.map(|(why, origin)| format!("everything: {why} {origin}")));
    shown.extend(found.itself.map(|(why, origin)| format!("itself: {why} {origin}")));
    shown.sort();
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    assert_eq!(shown, expected, "{}", files.iter().map(|(p, t)| format!("{p}: {t}\n")).collect::<String>());
}

const DIRECT: (&str, &str) = ("flake.nix", "{ outputs = { nixpkgs, ... }: import ./hosts { inherit nixpkgs; }; }");

#[test]
fn a_row_and_a_folder_each() {
    let hosts = r#"
        { nixpkgs }:
        let
          inherit (nixpkgs) lib;
          matrix = builtins.fromTOML (builtins.readFile ./hosts.toml);
          rows = lib.mapAttrs (name: row: (matrix.defaults or { }) // row // { inherit name; }) matrix.host;
        in
        {
          hydraJobs = lib.mapAttrs (name: row: {
            iso = nixpkgs.lib.nixosSystem { modules = [ (import ./${name}) row ]; };
            tests.live = nixpkgs.test ./${name}/test.py;
          }) rows;
        }"#;
    let files = [DIRECT, ("hosts/default.nix", hosts)];
    let base = ["flake.nix", "hosts/default.nix"];
    let own = ["hosts/web/default.nix", "modules/key.pub", "modules/ssh.nix", "row", "defaults"];
    check(&files, "web.iso", &[&base[..], &own].concat());
    check(&files, "db.iso", &[&base[..], &["hosts/db/default.nix", "row", "defaults"]].concat());
    check(&files, "web.tests.live", &[&base[..], &["hosts/web/test.py"]].concat());
}

#[test]
fn folders_handed_from_file_to_file() {
    let flake = "{ outputs = _: import ./fleet.nix; }";
    let fleet = r#"
        let
          matrix = builtins.fromTOML (builtins.readFile ./hosts/hosts.toml);
          complete = name: row: { tags = [ ]; } // (matrix.defaults or { }) // row // { inherit name; };
          rows = builtins.mapAttrs complete matrix.host;
          hosts = builtins.mapAttrs (name: row: import ./host.nix { inherit row; directory = ./hosts + "/${name}"; }) rows;
        in
        { hydraJobs = hosts; packages = ./README.md; }"#;
    let host = r#"{ row, directory }:
        let common = import (directory + "/default.nix"); in
        { iso = derivation { inherit common; name = row.name; }; system = directory; }"#;
    let files = [("flake.nix", flake), ("fleet.nix", fleet), ("host.nix", host)];
    let mut expected =
        ["fleet.nix", "flake.nix", "host.nix", "hosts/web/default.nix", "modules/key.pub", "modules/ssh.nix"].to_vec();
    check(&files, "web.iso", &expected);
    expected.push("hosts/web/test.py");
    check(&files, "web.system", &expected);
}

#[test]
fn whatever_is_not_followed_counts_whole() {
    let with = |hosts: &'static str| [DIRECT, ("hosts/default.nix", hosts)];
    let all = ["flake.nix", "hosts/db/default.nix", "hosts/default.nix"];
    let web = ["hosts/web/default.nix", "hosts/web/test.py", "modules/key.pub", "modules/ssh.nix"];
    // A name that is not the host's own.
    let other = "_: let m = builtins.fromTOML (builtins.readFile ./hosts.toml); in \
                 { hydraJobs = builtins.mapAttrs (name: row: { iso = ./${row.base}; }) m.host; }";
    let whole = [&all[..], &["hosts/hosts.toml"], &web, &["row"]].concat();
    check(&with(other), "web.iso", &whole);
    // All rows at once.
    let list = "_: let m = builtins.fromTOML (builtins.readFile ./hosts.toml); in \
                { hydraJobs = builtins.mapAttrs (name: row: { iso = toString m.host; }) m.host; }";
    check(&with(list), "web.iso", &["flake.nix", "hosts/default.nix", "hosts/hosts.toml"]);
    // Another host by its name.
    let named = "_: let m = builtins.fromTOML (builtins.readFile ./hosts.toml); h = builtins.mapAttrs (name: row: \
                 { iso = derivation { a = ./${name}; b = h.db; }; }) m.host; in { hydraJobs = h; }";
    let found = closure(&[&with(named)[..], &[("hosts/hosts.toml", "[host.web]\n")]].concat(), "web.iso");
    assert!(found.files.contains_key("hosts/hosts.toml"), "{found:?}");
}

#[test]
fn the_flake_itself() {
    let rows: [(&str, &str); 5] = [
        ("{ outputs = { self, ... }: { hydraJobs.web.iso = self.rev; }; }", "the flake's `self` is used flake.nix:1"),
        (
            "{ outputs = inputs: { hydraJobs.web.iso = inputs; }; }",
            "the inputs, `self` among them, are handed on flake.nix:1",
        ),
        ("{ outputs = inputs: { hydraJobs.web.iso = inputs.nixpkgs; }; }", ""),
        ("{ outputs = inputs: { hydraJobs.web.iso = removeAttrs inputs [ \"self\" ]; }; }", ""),
        ("{ outputs = { self, ... }: { hydraJobs.web.iso = 1; packages = self; }; }", ""),
    ];
    for (flake, why) in rows {
        let expected = if why.is_empty() {
            vec!["flake.nix".to_owned()]
        } else {
            vec!["flake.nix".to_owned(), format!("itself: {why}")]
        };
        check(&[("flake.nix", flake)], "web.iso", &expected.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

#[test]
fn what_other_outputs_read_is_not_needed() {
    let flake = r#"{ outputs = { nixpkgs, ... }@inputs:
        let own = import ./hosts { inherit nixpkgs; };
        in { inherit (own) hydraJobs; devShells = import ./modules/ssh.nix; formatter = inputs; } // { x = ./README.md; }; }"#;
    let hosts =
        "{ nixpkgs }: { hydraJobs.web = { iso = ./web; } // nixpkgs.lib.optionalAttrs true { system = ./db; }; }";
    let files = [("flake.nix", flake), ("hosts/default.nix", hosts)];
    let expected = [
        "flake.nix",
        "hosts/default.nix",
        "hosts/web/default.nix",
        "hosts/web/test.py",
        "modules/key.pub",
        "modules/ssh.nix",
    ];
    check(&files, "web.iso", &expected);
    check(&files, "web.system", &["flake.nix", "hosts/db/default.nix", "hosts/default.nix"]);
}

#[test]
fn recursion_ends() {
    let rows = [
        "let f = n: if n == 0 then [ ] else f (n - 1); in { hydraJobs.web.iso = f 3; }",
        "let x = { a = ./README.md; b = x; } // x.b; in { hydraJobs.web.iso = x.b; }",
        "let f = x: f (x + 1); in { hydraJobs = f 1; }",
        "rec { hydraJobs.web.iso = hydraJobs.web.iso; }",
    ];
    for outputs in rows {
        let flake = format!("{{ outputs = _: {outputs}; }}");
        let found = closure(&[("flake.nix", &flake), ("README.md", "x")], "web.iso");
        assert!(found.files.contains_key("flake.nix"), "{outputs}");
        if outputs.contains("README") {
            assert!(found.has("README.md"), "{outputs}");
        }
    }
}
