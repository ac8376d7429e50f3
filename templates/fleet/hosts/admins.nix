# The fleet's administrators; the one place to add a person or a key.
{ drydock, ... }:
{
  imports = [ drydock.nixosModules.users ];

  site.admins = {
    # Replace this account by your own: keys = [ "ssh-ed25519 AAAA… you@laptop" ];
    admin.keys = [ ];
  };
}
