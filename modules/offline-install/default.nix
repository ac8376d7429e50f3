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
  inherit (config.site) carried;
  # Where it is on the running medium.
  file = "/iso/drydock/carried";
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
      carried=${file}
    ''
    + builtins.readFile ./drydock-install.sh;
  };
  # What becomes of the image with `entry` of the carried file, and how it is made of the same file under its path
  # alone: the path is in the image and nowhere in the live system, so that two evaluators can share the work
  # (hosts/apart.nix).
  apart = entry: entry carried.outPath // { apart = entry; };
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
    isoImage = lib.mkIf (carried != null) {
      storeContents = [
        (apart (path: {
          outPath = path;
        }))
      ];
      contents = [
        (apart (path: {
          source = "${path}/carried";
          target = "/drydock/carried";
        }))
      ];
    };
    # Nothing in the live system refers to what it carries: without a root the collector would hide it.
    systemd.services.drydock-carried = lib.mkIf (carried != null) {
      description = "Keep the carried system";
      wantedBy = [ "multi-user.target" ];
      unitConfig.RequiresMountsFor = "/iso /nix/store";
      serviceConfig.Type = "oneshot";
      script = ''
        source ${file}
        mkdir -p /nix/var/nix/gcroots/drydock
        ln -sfn "$system" "$partition" /nix/var/nix/gcroots/drydock/
      '';
    };
  };
}
