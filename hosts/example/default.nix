# The smallest host that is useful: ssh and nothing else.
{
  imports = [
    ../admins.nix
    ../../modules/openssh.nix
  ];
}
