# Makes a host's jobs (iso, system, tests) from its row of hosts.toml and its folder.
{
  row,
  toolboxes,
  tester,
  directory,
}:
let
  inherit (row) name;
  toolbox = toolboxes.${row.system};
  has = artifact: builtins.elem artifact row.artifacts;
  optional = file: if builtins.pathExists file then import file else { };
  common = import directory;

  # Services are joined by name, parameters are added up, and the most particular message of the day wins.
  combine = parts: {
    inherit (common) version;
    services = builtins.foldl' (all: part: all // (part.services or { })) { } parts;
    kernelParams = builtins.concatMap (part: part.kernelParams or [ ]) parts;
    motd = builtins.foldl' (found: part: part.motd or found) "" parts;
  };
  toplevel =
    artifact: parts:
    import ./build/toplevel.nix { inherit toolbox; } {
      inherit name artifact;
      configuration = combine parts;
    };

  live = toplevel "iso" [
    (import (./live + "/${row.live}.nix"))
    common
    (optional (directory + "/live.nix"))
  ];
  system = toplevel "system" [
    common
    (optional (directory + "/installed.nix"))
  ];
  iso = import ./build/iso.nix { inherit toolbox; } (
    {
      inherit name live;
      inherit (common) version;
    }
    // (if has "system" then { installed = system; } else { })
  );

  makeTest = import ./build/test.nix {
    inherit tester;
    inherit (toolbox) platform;
  };
  hostTest = directory + "/test.py";
  test =
    kind:
    makeTest {
      name = "${name}-${kind}";
      test =
        if builtins.pathExists (./tests + "/${kind}.py") then
          kind
        else
          throw "hosts/hosts.toml: host ${name}: the embedded fleet has no test \"${kind}\" (there is no tests/${kind}.py)";
      host = {
        inherit name;
        inherit (row) system;
        inherit (common) version;
      };
      iso = if has "iso" then iso else null;
      system = if has "system" then system else null;
      hostTest = if builtins.pathExists hostTest then hostTest else null;
    };
in
(if has "iso" then { inherit iso; } else { })
// (if has "system" then { inherit system; } else { })
// {
  tests = builtins.listToAttrs (
    map (name: {
      inherit name;
      value = test name;
    }) row.tests
  );
}
