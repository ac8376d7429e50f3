# The disk of the desktop, and the emulation that builds the fleet's ARM hosts on it.
{
  imports = [
    ../../modules/disk-single.nix
    ../../modules/binfmt.nix
  ];
  site.disk.filesystem = "btrfs";
  system.stateVersion = "26.05";
}
