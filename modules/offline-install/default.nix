# On a live medium: the host's installed system inside the image, and drydock-install to put it on a disk without a network.
{
  config,
  inputs,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.site.offlineInstall;
  inherit (config.site) installed;
  install = pkgs.writeShellApplication {
    name = "drydock-install";
    runtimeInputs = with pkgs; [
      coreutils
      gawk
      jq
      util-linux
      nixos-install
      config.nix.package
    ];
    text = ''
      host=${config.networking.hostName}
      carried=/etc/drydock/carried
    ''
    + builtins.readFile ./drydock-install.sh;
  };
in
{
  options.site.offlineInstall.inputs = mkOption {
    type = types.bool;
    default = false;
    description = ''
      Whether the medium also carries the sources of nixpkgs and disko, with which
      `drydock-install --flake` evaluates without a network (180 MB).
    '';
  };

  config = lib.mkIf config.site.live {
    environment.systemPackages = [ install ];
    # Their store paths become part of the live system, and so of its image.
    system.extraDependencies = lib.optionals cfg.inputs [
      inputs.nixpkgs.outPath
      inputs.disko.outPath
    ];
    # A part of the live system, so that the image holds its closure and the garbage collector keeps it.
    environment.etc."drydock/carried" = lib.mkIf (installed != null) {
      source = import ./carried.nix { inherit pkgs installed; };
    };
  };
}
