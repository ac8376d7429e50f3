# @host@: @description@
{
  imports = [
    ../admins.nix
    ../../modules/openssh.nix
  ];
}
