# Installs the newest state of the host from a flake URI every night.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.site.autoUpgrade;
  name = config.networking.hostName;
in
{
  options.site.autoUpgrade = {
    flake = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "github:owner/fleet";
      description = "Flake to upgrade from; the host's own name is added as the attribute.";
    };
    reboot = mkOption {
      type = types.bool;
      default = false;
      description = "Whether to restart between 02:00 and 05:00 when kernel or initrd changed.";
    };
  };

  # A live medium has no place to keep an upgrade.
  config = lib.mkIf (!config.site.live) {
    site.demands = [
      {
        met = cfg.flake != null;
        where = "hosts/${name}/";
        message = "modules/auto-upgrade.nix is imported, but site.autoUpgrade.flake is not set";
      }
    ];
    system.autoUpgrade = lib.mkIf (cfg.flake != null) {
      enable = true;
      flake = "${cfg.flake}#${name}";
      # A lock file that the host changed itself would be a state that nobody reviewed.
      flags = [ "--no-write-lock-file" ];
      dates = "02:00";
      randomizedDelaySec = "45min";
      allowReboot = cfg.reboot;
      rebootWindow = {
        lower = "02:00";
        upper = "05:00";
      };
    };
  };
}
