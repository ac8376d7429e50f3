# The installed server: NVMe, systemd-boot from the board's UEFI firmware.
{
  imports = [ ../../modules/disk-single.nix ];
  # The firmware keeps its variables in flash that it does not always let the system write.
  boot.loader.efi.canTouchEfiVariables = false;
  system.stateVersion = "26.05";
}
