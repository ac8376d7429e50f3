# One disk with GPT: an EFI system partition and a root file system; the loader is systemd-boot.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.site.disk;
in
{
  options.site.disk = {
    device = mkOption {
      type = types.path;
      # drydock-install points this name to the disk that the operator chose.
      default = "/run/drydock/disk/main";
      example = "/dev/disk/by-id/nvme-example";
      description = "The disk to install to; the default is the one that drydock-install asks for.";
    };
    filesystem = mkOption {
      type = types.enum [
        "ext4"
        "xfs"
        "btrfs"
      ];
      default = "ext4";
      description = "Root file system.";
    };
  };

  config = {
    disko.devices.disk.main = {
      inherit (cfg) device;
      content = {
        type = "gpt";
        partitions = {
          ESP = {
            type = "EF00";
            size = "1G";
            content = {
              type = "filesystem";
              format = "vfat";
              mountpoint = "/boot";
              # The random seed on the ESP must not be readable by everybody.
              mountOptions = [ "umask=0077" ];
            };
          };
          root = {
            size = "100%";
            content = {
              type = "filesystem";
              format = cfg.filesystem;
              mountpoint = "/";
            };
          };
        };
      };
    };
    boot.loader = {
      systemd-boot = {
        enable = true;
        configurationLimit = lib.mkDefault 20;
      };
      efi.canTouchEfiVariables = lib.mkDefault true;
    };
  };
}
