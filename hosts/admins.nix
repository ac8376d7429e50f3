# The fleet's administrators; the one place to add a person or a key.
{
  imports = [ ../modules/users.nix ];

  site.admins = {
    # Replace this account by your own: keys = [ "ssh-ed25519 AAAA… you@laptop" ];
    admin.keys = [ ];
  };
}
