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
  target = config.site.installed;
  carried = lib.optionalString (target != null);
  disks = lib.mapAttrsToList (name: disk: "${name}=${disk.device}") target.disko.devices.disk;
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
      system=${carried target.system.build.toplevel}
      partition=${carried "${target.system.build.destroyFormatMount}/bin/disko-destroy-format-mount"}
      layout=(${carried (lib.escapeShellArgs disks)})
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
  };
}
