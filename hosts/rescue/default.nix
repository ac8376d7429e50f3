# A stick for the pocket: repairs machines, over ssh and over the serial line too.
{
  imports = [
    ../admins.nix
    ../../modules/openssh.nix
    ../../modules/rescue-tools.nix
  ];
}
