# Makes a host a builder for other machines: an account that Nix may log into, and nothing more.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.site.remoteBuilder;
in
{
  imports = [ ./openssh.nix ];

  options.site.remoteBuilder.keys = mkOption {
    type = types.listOf types.singleLineStr;
    default = [ ];
    description = "Public ssh keys of the machines (root's key where Nix runs as a daemon) that may build here.";
  };

  config = {
    site.demands = [
      {
        met = cfg.keys != [ ];
        where = "hosts/${config.networking.hostName}/";
        message = "modules/remote-builder.nix is imported, but site.remoteBuilder.keys is empty, so nobody could build here";
      }
    ];
    users.groups.nixremote = { };
    users.users.nixremote = {
      isSystemUser = true;
      group = "nixremote";
      useDefaultShell = true;
      # `restrict` turns off forwarding and terminals; the client needs plain commands only.
      openssh.authorizedKeys.keys = map (key: "restrict ${key}") cfg.keys;
    };
    nix = {
      settings = {
        trusted-users = [ "nixremote" ];
        # A builder fills its disk with other machines' results.
        min-free = lib.mkDefault (10 * 1024 * 1024 * 1024);
        max-free = lib.mkDefault (50 * 1024 * 1024 * 1024);
      };
      gc = {
        automatic = true;
        options = "--delete-older-than 14d";
      };
    };
  };
}
