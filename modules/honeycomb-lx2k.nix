# SolidRun HoneyComb LX2K (NXP LX2160A): console, fan, boot devices, and what its older firmware needs.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.site.honeycomb;
in
{
  options.site.honeycomb = {
    oldFirmware = lib.mkEnableOption ''
      the kernel parameters that firmware from before July 2021 needs: it lacks the final IORT RMR
      tables, so the SMMU has to let unknown streams pass'';
    # Off by default: on any other machine the address is something else, and writing there may hang it.
    earlyConsole = lib.mkEnableOption "kernel messages on the serial line before its driver is up";
  };

  config = {
    site.demands = [
      {
        met = pkgs.stdenv.hostPlatform.isAarch64;
        where = "hosts/hosts.toml, host \"${config.networking.hostName}\"";
        message = "the HoneyComb LX2K is an aarch64-linux machine; set system = \"aarch64-linux\"";
      }
    ];
    boot = {
      # The fan controller; without it the fan runs at full speed.
      kernelModules = [ "amc6821" ];
      initrd.availableKernelModules = [
        "nvme"
        "xhci_pci"
        "xhci_plat_hcd"
        "ahci"
        "usb_storage"
      ];
      kernelParams =
        lib.optional cfg.earlyConsole "earlycon=pl011,mmio32,0x21c0000"
        ++ lib.optionals (!config.site.live) [
          "console=ttyAMA0,115200n8"
          "console=tty0"
        ]
        ++ lib.optionals cfg.oldFirmware [
          "arm-smmu.disable_bypass=0"
          "iommu.passthrough=1"
        ];
    };
    # restool makes network interfaces of the DPAA2 ports: ls-addni dpmac.7
    environment.systemPackages = [ pkgs.restool ];
  };
}
