# Only on the installed system: its disk and boot loader.
{
  imports = [ ../../modules/disk-single.nix ];
  system.stateVersion = "26.05";
}
