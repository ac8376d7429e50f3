# What every host of the fleet has, live or installed.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (config.boot) zfs kernelPackages;
  name = config.networking.hostName;
  usesZfs = config.boot.supportedFilesystems.zfs or false;
in
{
  imports = [ ./site.nix ];

  site.demands = [
    {
      met = config.site.live || config.fileSystems ? "/";
      where = "hosts/${name}/installed.nix";
      message = "no root file system; describe the disks under disko.devices, or set fileSystems.\"/\"";
    }
    {
      met = !usesZfs || !kernelPackages.${zfs.package.kernelModuleAttribute}.meta.broken;
      where = "hosts/${name}/";
      message = "ZFS ${zfs.package.version} does not support Linux ${kernelPackages.kernel.version}; choose an older boot.kernelPackages, or a live profile without ZFS (minimal-new-kernel)";
    }
  ];

  # The nixpkgs source, 180 MB, would otherwise be part of every closure.
  nixpkgs.flake = {
    setFlakeRegistry = false;
    setNixPath = false;
  };
  nix = {
    channel.enable = lib.mkDefault false;
    settings = {
      experimental-features = [
        "nix-command"
        "flakes"
      ];
      # Without it root's remote builds and copies stall on a builder that is gone.
      connect-timeout = lib.mkDefault 10;
    };
  };

  time.timeZone = lib.mkDefault "UTC";
  i18n.defaultLocale = lib.mkDefault "en_US.UTF-8";
  networking.firewall.enable = lib.mkDefault true;
  hardware.enableRedistributableFirmware = lib.mkDefault true;
  boot = {
    tmp.cleanOnBoot = lib.mkDefault true;
    # No generated hardware-configuration.nix names the disk's driver, and NixOS' own list ends with SATA and NVMe.
    initrd.availableKernelModules = [
      "usb_storage"
      "uas"
      "virtio_pci"
      "virtio_blk"
      "virtio_scsi"
    ];
  };
  environment.systemPackages = [ pkgs.vim ];
}
