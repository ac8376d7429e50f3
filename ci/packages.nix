# nixpkgs -> the tool of this repository as a package, for `nix run` and for machines without cargo.
{ pkgs, ... }:
let
  inherit (pkgs) lib;
  inherit (lib) fileset;
  root = ../.;
  drydock = pkgs.rustPlatform.buildRustPackage {
    pname = "drydock";
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
    cargoBuildFlags = [ "--package=drydock" ];
    nativeBuildInputs = [ pkgs.installShellFiles ];
    postInstall = lib.optionalString (pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform) ''
      $out/bin/drydock completions man > drydock.1
      installManPage drydock.1
      installShellCompletion --cmd drydock \
        --bash <($out/bin/drydock completions bash) \
        --zsh <($out/bin/drydock completions zsh) \
        --fish <($out/bin/drydock completions fish)
    '';
    meta = {
      description = "Evaluates, builds, boots, tests and ships a NixOS fleet";
      mainProgram = "drydock";
      license = with lib.licenses; [
        mit
        asl20
      ];
    };
  };
in
{
  inherit drydock;
  default = drydock;
}
