# An ssh server that takes keys and no passwords.
{ config, lib, ... }:
{
  imports = [ ./users.nix ];

  services.openssh = {
    enable = true;
    settings = {
      PasswordAuthentication = lib.mkForce false;
      KbdInteractiveAuthentication = lib.mkForce false;
      PermitRootLogin = lib.mkForce "prohibit-password";
    };
    # Host keys are made on the machine itself: in the repository they would be in the world-readable store.
    hostKeys = lib.mkDefault [
      {
        path = "/etc/ssh/ssh_host_ed25519_key";
        type = "ed25519";
      }
    ];
  };

  # A live medium can be used from its console; an installed host without a key may be locked.
  warnings =
    lib.optional
      (!config.site.live && lib.all (admin: admin.keys == [ ]) (lib.attrValues config.site.admins))
      ''
        host "${config.networking.hostName}": ssh is on, but nobody has a key; add yours under site.admins in hosts/admins.nix.
      '';
}
