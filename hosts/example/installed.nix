# One disk, systemd-boot, the hardening that suits a server.
{
  imports = [
    ../../modules/disk-single.nix
    ../../modules/hardened.nix
  ];
  system.stateVersion = "26.05";
}
