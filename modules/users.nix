# The people who may administer a host: their accounts, with ssh keys and without passwords.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.site.admins;
in
{
  options.site.admins = mkOption {
    default = { };
    description = "Accounts with sudo rights, by name. Their keys also open root on a live medium.";
    type = types.attrsOf (
      types.submodule {
        options = {
          keys = mkOption {
            type = types.listOf types.singleLineStr;
            default = [ ];
            description = "Public ssh keys, as in authorized_keys.";
          };
          description = mkOption {
            type = types.singleLineStr;
            default = "";
            description = "Full name.";
          };
        };
      }
    );
  };

  config = {
    users.users =
      lib.mapAttrs (_: admin: {
        isNormalUser = true;
        inherit (admin) description;
        extraGroups = [ "wheel" ];
        openssh.authorizedKeys.keys = admin.keys;
      }) cfg
      // {
        root.openssh.authorizedKeys.keys = lib.mkIf config.site.live (
          lib.concatMap (admin: admin.keys) (lib.attrValues cfg)
        );
      };
    # Accounts have no password, so sudo cannot ask for one.
    security.sudo.wheelNeedsPassword = lib.mkDefault false;
    # `nixos-rebuild --target-host admin@HOST --sudo` copies paths that nobody has signed, and Nix takes them from
    # trusted users only. Who needs no password for sudo gains nothing by it.
    nix.settings.trusted-users = lib.mkIf (!config.security.sudo.wheelNeedsPassword) (lib.attrNames cfg);
  };
}
