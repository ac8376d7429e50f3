# Tools to look into, repair and save a machine that no longer starts.
{ lib, pkgs, ... }:
let
  inherit (pkgs.stdenv.hostPlatform) isx86;
in
{
  environment.systemPackages =
    with pkgs;
    [
      # Disks and file systems.
      ddrescue
      testdisk
      gptfdisk
      parted
      cryptsetup
      lvm2
      mdadm
      nvme-cli
      smartmontools
      hdparm
      btrfs-progs
      xfsprogs
      dosfstools
      ntfs3g
      # Copying what can be saved.
      rsync
      borgbackup
      rclone
      # Network.
      ethtool
      iperf3
      mtr
      nmap
      tcpdump
      wireguard-tools
      # Firmware and hardware.
      efibootmgr
      dmidecode
      fwupd
      lshw
      pciutils
      usbutils
      lm_sensors
      memtester
      stress-ng
      # At work.
      tmux
      htop
      ripgrep
      jq
      strace
    ]
    ++ lib.optionals isx86 [ flashrom ];
}
