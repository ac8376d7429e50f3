# A desktop: the same Plasma on the medium, to try it, and on the disk.
{
  imports = [
    ../admins.nix
    ../../modules/openssh.nix
    ../../modules/desktop-plasma.nix
  ];
}
