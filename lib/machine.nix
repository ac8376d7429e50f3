# Makes a host's live and installed NixOS configurations from its row of the matrix, and what is built from them.
{
  nixpkgs,
  disko,
  hosts,
  pkgs,
  specialArgs,
  liveProfiles,
  revision,
}:
let
  inherit (nixpkgs) lib;
  oldest = "26.05";
  profiles = import ./profiles.nix nixpkgs // liveProfiles;

  optional = path: lib.optional (builtins.pathExists path) path;
in
row:
let
  folder = hosts + "/${row.name}";
  profile =
    profiles.${row.live}
      or (throw "hosts/hosts.toml: host \"${row.name}\": unknown live profile \"${row.live}\"; known are ${lib.concatStringsSep ", " (lib.attrNames profiles)}");
  arguments = {
    inputs = { inherit nixpkgs disko; };
  }
  // specialArgs;

  common = live: [
    ../modules/base.nix
    (folder + "/default.nix")
    {
      networking.hostName = row.name;
      site = {
        inherit live;
        revision = lib.mkDefault revision;
      };
    }
  ];
  installedModules =
    common false ++ [ disko.nixosModules.disko ] ++ optional (folder + "/installed.nix");
  liveModules =
    common true
    ++ [
      profile
      ../modules/live.nix
      {
        # The installer profile's overlay would cost the medium a nixpkgs of its own; live.nix does its work.
        nixpkgs.overlays = lib.mkForce [ ];
        site.installed = if lib.elem "system" row.artifacts then installed.config else null;
      }
    ]
    ++ optional (folder + "/live.nix");

  nixos =
    modules:
    if lib.versionOlder lib.trivial.release oldest then
      throw "host \"${row.name}\": nixpkgs ${lib.trivial.release} is too old for this fleet, the oldest supported release is ${oldest}; point inputs.nixpkgs in flake.nix to nixos-${oldest} or newer"
    else
      nixpkgs.lib.nixosSystem {
        system = null;
        specialArgs = arguments;
        modules = modules ++ [
          nixpkgs.nixosModules.readOnlyPkgs
          { nixpkgs.pkgs = pkgs.${row.system}; }
        ];
      };
  installed = nixos installedModules;
  live = nixos liveModules;
in
{
  inherit
    row
    installed
    live
    folder
    installedModules
    ;
  specialArgs = arguments;
  iso = live.config.system.build.isoImage;
  system = installed.config.system.build.toplevel;
}
