# Makes every flake output that exists once per host from a folder of hosts with its hosts.toml.
{
  nixpkgs,
  disko,
  hosts ? ../hosts, # the folder that holds hosts.toml
  specialArgs ? { }, # further arguments for every host's modules
  liveProfiles ? { }, # further names for `live`, each a NixOS module
  config ? { }, # nixpkgs.config, the same for every host
  overlays ? [ ], # nixpkgs overlays, the same for every host
  revision ? null, # what site.recordRevision writes; a host that does not ask never reads it
}:
let
  inherit (nixpkgs) lib;
  rows = import ./matrix.nix { inherit hosts; };
  systems = lib.unique (
    [
      "x86_64-linux"
      "aarch64-linux"
    ]
    ++ lib.mapAttrsToList (_: row: row.system) rows
  );

  # One nixpkgs for all hosts of a system: a quarter less evaluation for a fleet. `legacyPackages` belongs to
  # nixpkgs' own flake, so it is also shared between copies of this fleet that one evaluator reads.
  plain = config == { } && overlays == [ ];
  pkgs = lib.genAttrs lib.systems.flakeExposed (
    system:
    if plain then
      nixpkgs.legacyPackages.${system}
    else
      import nixpkgs {
        localSystem = { inherit system; };
        inherit config overlays;
      }
  );

  machine = import ./machine.nix {
    inherit
      nixpkgs
      disko
      hosts
      pkgs
      specialArgs
      liveProfiles
      revision
      ;
  };
  machines = lib.mapAttrs (_: machine) rows;
  test = import ./tests { inherit lib pkgs; };

  job =
    name: row:
    let
      host = machines.${name};
    in
    lib.optionalAttrs (lib.elem "iso" row.artifacts) { inherit (host) iso; }
    // lib.optionalAttrs (lib.elem "system" row.artifacts) { inherit (host) system; }
    // {
      tests = lib.genAttrs row.tests (test host);
    };
  jobs = lib.mapAttrs job rows;

  # { <host> = { <output name> = value; }; } -> { <system> = { <output name> = value; }; }
  bySystem =
    outputsOf:
    lib.genAttrs systems (
      system:
      lib.concatMapAttrs (name: row: lib.optionalAttrs (row.system == system) (outputsOf name)) rows
    );
in
{
  inherit systems pkgs rows;
  hydraJobs = jobs;
  nixosConfigurations = lib.concatMapAttrs (
    name: row:
    lib.optionalAttrs (lib.elem "system" row.artifacts) { ${name} = machines.${name}.installed; }
    // lib.optionalAttrs (lib.elem "iso" row.artifacts) { "${name}-live" = machines.${name}.live; }
  ) rows;
  packages = bySystem (
    name: lib.optionalAttrs (jobs.${name} ? iso) { "${name}-iso" = jobs.${name}.iso; }
  );
  checks = bySystem (
    name: lib.mapAttrs' (kind: lib.nameValuePair "${name}-${kind}") jobs.${name}.tests
  );
}
