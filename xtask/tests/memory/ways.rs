//! Ways in which a host can depend on its fleet's source, each of which some inference about Nix once missed.
//!
//! A row is a host: its Nix expression, a file that it depends on, and what the file is edited to.

/// What is done to the fleet of a row.
pub enum Edit {
    /// A file gets another content. Relative to the host's folder.
    Write(&'static str, &'static str),
    /// A file appears or disappears.
    Add(&'static str),
    Remove(&'static str),
    Executable(&'static str),
    Link(&'static str, &'static str),
}

use Edit::{Add, Executable, Link, Remove, Write};

/// A name, the text of the host's `value.nix`, and the edit. In scope are `self`, `name` and `dir`, the host's folder.
pub const ROWS: &[(&str, &str, Edit)] = &[
    // Text with `..` that reaches a path through a value.
    (
        "climb-text",
        r#"builtins.readFile (toString ./. + "/../../shared/climb-text.txt")"#,
        Write("../../shared/climb-text.txt", "2"),
    ),
    (
        "climb-interpolated",
        r#"builtins.readFile "${toString ./.}/../../shared/climb-interpolated""#,
        Write("../../shared/climb-interpolated", "2"),
    ),
    (
        "climb-module",
        r#"map (m: import (./mods + "/${m}.nix")) [ "base" "../outside/server" ]"#,
        Write("outside/server.nix", "2"),
    ),
    ("climb-imported", r#"builtins.readFile (./. + "/${import ./which.nix}")"#, Write("that.txt", "2")),
    (
        "climb-get-attr",
        r#"builtins.readFile ((builtins.getAttr "dirOf" builtins) ./value.nix + "/that.txt")"#,
        Write("that.txt", "2"),
    ),
    (
        "climb-match",
        r#"builtins.readFile (dir + "/${builtins.head (builtins.match ".*/(that[.]txt)" (toString ./that.txt))}")"#,
        Write("that.txt", "2"),
    ),
    // In files that are imported by a computed path.
    ("name-added", r#"let name = "a"; in builtins.readFile (./. + "/motd-" + name)"#, Write("motd-a", "2")),
    ("name-interpolated", r#"let name = "a"; in builtins.readFile (./motd + "-${name}")"#, Write("motd-a", "2")),
    ("name-later", r#"let base = ./motd; in builtins.readFile (base + ".txt")"#, Write("motd.txt", "2")),
    (
        "name-from-argument",
        r#"builtins.readFile (dir + "/../../shared/name-from-argument")"#,
        Write("../../shared/name-from-argument", "2"),
    ),
    ("function-renamed", r#"let readDir = builtins.readFile; in readDir ./that.txt"#, Write("that.txt", "2")),
    ("import-any-name", r#"import ./data.txt"#, Write("data.txt", "2")),
    ("import-chain", r#"import ./one.nix"#, Write("two.nix", "2")),
    ("from-json", r#"(builtins.fromJSON (builtins.readFile ./x.json)).a"#, Write("x.json", r#"{"a":2}"#)),
    ("from-toml", r#"(builtins.fromTOML (builtins.readFile ./x.toml)).a"#, Write("x.toml", "a = 2")),
    (
        "folder-of-modules",
        r#"map (n: import (./mods + "/${n}")) (builtins.attrNames (builtins.readDir ./mods))"#,
        Write("mods/base.nix", "2"),
    ),
    // Contents without text.
    ("hash-file", r#"builtins.hashFile "sha256" ./that.txt"#, Write("that.txt", "2")),
    ("copied", r#""${./that.txt}""#, Write("that.txt", "2")),
    ("copied-and-hashed", r#"builtins.hashString "sha256" "${./that.txt}""#, Write("that.txt", "2")),
    (
        "copied-without-context",
        r#"builtins.substring 11 5 (builtins.unsafeDiscardStringContext "${./that.txt}")"#,
        Write("that.txt", "2"),
    ),
    ("folder-copied", r#""${./mods}""#, Write("mods/base.nix", "2")),
    (
        "folder-filtered",
        r#""${builtins.path { path = ./mods; name = "m"; filter = p: t: baseNameOf p == "base.nix"; }}""#,
        Write("mods/base.nix", "2"),
    ),
    (
        "folder-filter-source",
        r#""${builtins.filterSource (p: t: t == "regular") ./mods}""#,
        Write("mods/base.nix", "2"),
    ),
    ("through-a-link", r#"builtins.readFile ./link"#, Write("that.txt", "2")),
    // Names.
    ("exists", r#"if builtins.pathExists ./extra then 1 else 2"#, Add("extra")),
    ("exists-no-more", r#"if builtins.pathExists ./that.txt then 1 else 2"#, Remove("that.txt")),
    ("listed", r#"builtins.attrNames (builtins.readDir ./mods)"#, Add("mods/more.nix")),
    ("kind", r#"builtins.readFileType ./that.txt"#, Link("that.txt", "motd.txt")),
    ("executable", r#""${./that.txt}""#, Executable("that.txt")),
    ("link-turned", r#"builtins.readFile ./link"#, Link("link", "motd.txt")),
    // The text of the source's own path, also changed before it lands in a derivation.
    ("path-text", r#"toString ./value.nix"#, Write("../../README.md", "2")),
    ("path-hashed", r#"builtins.hashString "sha256" (toString ./value.nix)"#, Write("../../README.md", "3")),
    ("path-cut", r#"builtins.substring 11 8 (toString ./value.nix)"#, Write("../../README.md", "4")),
    ("path-cut-short", r#"builtins.substring 12 2 (toString ./value.nix)"#, Write("../../README.md", "5")),
    (
        "path-variable-hashed",
        r#"let p = ./value.nix; in builtins.hashString "md5" (toString p)"#,
        Write("../../README.md", "6"),
    ),
    (
        "path-split",
        r#"builtins.elemAt (builtins.split "[/-]" (toString ./value.nix)) 6"#,
        Write("../../README.md", "7"),
    ),
    ("path-position", r#"builtins.hashString "md5" __curPos.file"#, Write("../../README.md", "8")),
    (
        "path-position-of",
        r#"builtins.hashString "md5" (builtins.unsafeGetAttrPos "a" { a = 1; }).file"#,
        Write("../../README.md", "9"),
    ),
    ("path-xml", r#"builtins.hashString "md5" (builtins.toXML ./value.nix)"#, Write("../../README.md", "10")),
    ("path-base-name", r#"builtins.hashString "md5" (baseNameOf ../..)"#, Write("../../README.md", "11")),
    ("root-copied", r#"builtins.hashString "md5" "${../..}""#, Write("../../README.md", "12")),
    ("path-compared", r#"if toString ./value.nix < "/nix/store/g" then 1 else 2"#, Write("../../README.md", "13")),
    // What `self` tells.
    ("self-path", r#""${self}""#, Write("../../README.md", "14")),
    ("self-path-read", r#"builtins.readFile "${self}/hosts/${name}/that.txt""#, Write("that.txt", "2")),
    ("self-path-hashed", r#"builtins.hashString "md5" self.outPath"#, Write("../../README.md", "15")),
    ("self-hash", r#"self.narHash or "none""#, Write("../../README.md", "16")),
    ("self-hash-cut", r#"builtins.substring 9 1 self.sourceInfo.narHash"#, Write("../../README.md", "17")),
    (
        "self-names",
        r#"toString (builtins.attrNames self) + toString (builtins.attrNames self.sourceInfo)"#,
        Write("../../README.md", "18"),
    ),
    ("self-has-revision", r#"if self ? rev then 1 else 2"#, Write("../../README.md", "23")),
    ("self-revision", r#"self.rev or self.dirtyRev or "none""#, Write("../../README.md", "19")),
    ("self-time", r#"toString self.lastModified + self.lastModifiedDate"#, Write("../../README.md", "20")),
    (
        "self-all",
        r#"builtins.toJSON (builtins.removeAttrs self.sourceInfo [ "outPath" ]) + self._type"#,
        Write("../../README.md", "21"),
    ),
    (
        "self-outputs",
        r#"builtins.toString (builtins.attrNames self.outputs) + builtins.readFile self.lib.file"#,
        Write("../../shared/by-self", "2"),
    ),
    ("nothing-of-it", r#"1"#, Write("../../README.md", "22")),
];

/// What the folder of a host holds, as far as its expression or its edit speak of it.
pub const FILES: &[(&str, &str)] = &[
    ("that.txt", "1"),
    ("motd", "1"),
    ("motd-a", "1"),
    ("motd.txt", "1"),
    ("data.txt", "1"),
    ("one.nix", "import ./two.nix"),
    ("two.nix", "1"),
    ("which.nix", "\"that.txt\""),
    ("mods/base.nix", "1"),
    ("outside/server.nix", "1"),
    ("x.json", r#"{"a":1}"#),
    ("x.toml", "a = 1"),
];
