# SolidRun HoneyComb LX2K, a 16-core ARM board on a desk.
{
  imports = [
    ../admins.nix
    ../../modules/openssh.nix
    ../../modules/honeycomb-lx2k.nix
  ];
}
