# The options of this fleet that are no NixOS options, and the demands that a host must meet before anything is built.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.site;
  unmet = lib.filter (demand: !demand.met) cfg.demands;
  report =
    "host \"${config.networking.hostName}\":"
    + lib.concatMapStrings (demand: "\n  - ${demand.where}: ${demand.message}") unmet;
in
{
  options.site = {
    live = mkOption {
      type = types.bool;
      default = false;
      description = "Whether this is the live medium of the host, not its installed system.";
    };
    installed = mkOption {
      type = types.nullOr types.raw;
      default = null;
      internal = true;
      description = "On the live medium: the configuration of the installed system, or null.";
    };
    revision = mkOption {
      type = types.nullOr types.str;
      default = null;
      internal = true;
      description = "The fleet's source revision; read only where recordRevision is set.";
    };
    recordRevision = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether `nixos-version --configuration-revision` tells the fleet's revision. The host then
        changes with every commit, whatever the commit is about.
      '';
    };
    demands = mkOption {
      internal = true;
      default = [ ];
      type = types.listOf (types.attrsOf types.unspecified);
      description = "What must hold, as { met, where, message }; all unmet ones are told at once.";
    };
  };

  config = {
    # A throw and no plain assertion, so that nixpkgs' own message about the same mistake stays away.
    assertions = lib.mkBefore [
      {
        assertion = unmet == [ ] || throw report;
        message = report;
      }
    ];
    system.configurationRevision = lib.mkIf cfg.recordRevision cfg.revision;
  };
}
