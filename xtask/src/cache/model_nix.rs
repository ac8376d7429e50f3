//! The Nix code of the synthetic repository: three ways to write the same fleet.

pub const HEAD: &str = r#"{ stamp }:
let
  matrix = builtins.fromTOML (builtins.readFile ./hosts/hosts.toml);
  defaults = matrix.defaults or { };
  isNix = path: builtins.match ".*\\.nix" (baseNameOf path) != null;
  load = v:
    if builtins.isPath v then
      if builtins.readFileType v == "directory" then
        map (name: load (v + "/${name}")) (builtins.attrNames (builtins.readDir v))
      else if isNix v then load (import v) else builtins.readFile v
    else if builtins.isList v then map load v
    else if builtins.isAttrs v then builtins.mapAttrs (_: load) v
    else v;
  job = name: used: derivation {
    inherit name;
    system = "x86_64-linux";
    builder = "/bin/sh";
    args = [ "@N@" (builtins.toJSON (load used)) ];
  };
in
"#;

pub const BODIES: [&str; 3] = [
    r#"{
  hydraJobs = builtins.mapAttrs (name: row: {
    iso = job "${name}-iso" [
      stamp (import ./hosts/${name}) row defaults
      (if builtins.pathExists ./hosts/${name}/live.nix then ./hosts/${name}/live.nix else 0)
    ];
    system = job "${name}-system" [ stamp (./hosts/${name} + "/default.nix") (defaults // row) ];
    tests.system = job "${name}-test" (builtins.readFile ./hosts/${name}/test.py);
  }) matrix.host;
}
"#,
    r#"let
  rows = builtins.mapAttrs (name: row: defaults // row // { inherit name; }) matrix.host;
  hosts = builtins.mapAttrs (_: row: import ./host.nix { inherit row load job stamp; directory = ./hosts + "/${row.name}"; }) rows;
in
{ hydraJobs = hosts; }
"#,
    r#"let
  names = builtins.attrNames matrix.host;
  check = name: row: if names == [ ] then throw "none" else defaults // row // { inherit name names; };
  rows = builtins.mapAttrs check matrix.host;
  machine = row: import ./host.nix { inherit row load job stamp; directory = ./hosts + "/${row.name}"; };
  machines = builtins.mapAttrs (_: machine) rows;
  part = name: row:
    let own = machines.${name}; in
    { iso = job "${name}-iso" [ own.iso.used peer ]; system = job "${name}-system" [ own.system.used peer ]; }
    // { inherit (own) tests; }
    // (if row ? never then { iso = null; } else { });
  peer = 0;
  withPeer = name: row:
    let
      own = machines.${name};
      other = if row ? peer then import (./hosts + "/${row.peer}/default.nix") else 0;
    in
    part name row // { iso = job "${name}-iso-2" [ own.iso.used other ]; system = job "${name}-system-2" [ own.system.used other ]; };
in
{ hydraJobs = builtins.mapAttrs withPeer rows; }
"#,
];

pub const HOST: &str = r#"{ row, load, job, stamp, directory }:
let
  live = directory + "/live.nix";
  common = [ stamp (import (directory + "/default.nix")) row ];
  with' = name: used: job name used // { inherit used; };
in
{
  iso = with' "${row.name}-iso" (common ++ (if builtins.pathExists live then [ live ] else [ ]));
  system = with' "${row.name}-system" common;
  tests.system = job "${row.name}-test" (builtins.readFile (directory + "/test.py"));
}
"#;
