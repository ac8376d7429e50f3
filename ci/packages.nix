# nixpkgs -> the tool of this repository as a package, for `nix run` and for machines without cargo.
{ pkgs, ... }:
let
  inherit (pkgs.lib) fileset;
  root = ../.;
  xtask = pkgs.rustPlatform.buildRustPackage {
    pname = "xtask";
    inherit ((fromTOML (builtins.readFile ../Cargo.toml)).workspace.package) version;
    # Only what cargo reads: an edit of a host or of a document builds nothing again.
    src = fileset.toSource {
      inherit root;
      fileset = fileset.unions [
        ../Cargo.toml
        ../Cargo.lock
        ../.cargo
        ../xtask
      ];
    };
    cargoLock.lockFile = ../Cargo.lock;
    # The end-to-end tests drive a real Nix, which a Nix build has not.
    doCheck = false;
    meta = {
      description = "Evaluates, builds, boots, tests and ships a NixOS fleet";
      mainProgram = "xtask";
      license = with pkgs.lib.licenses; [
        mit
        asl20
      ];
    };
  };
in
{
  inherit xtask;
  default = xtask;
}
