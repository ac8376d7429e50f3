# Lets a host build and run programs of other architectures by emulation.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  own = pkgs.stdenv.hostPlatform.system;
  cfg = config.site.emulate;
in
{
  options.site.emulate = mkOption {
    type = types.listOf types.str;
    default = lib.remove own [
      "x86_64-linux"
      "aarch64-linux"
    ];
    defaultText = lib.literalMD "x86_64-linux and aarch64-linux without the own system";
    description = "Systems whose programs run under QEMU's user emulation; also announced to Nix.";
  };

  config = {
    site.demands = [
      {
        met = !lib.elem own cfg;
        where = "hosts/${config.networking.hostName}/";
        message = "site.emulate lists ${own}, which this host is itself; remove it";
      }
    ];
    boot.binfmt = {
      emulatedSystems = lib.remove own cfg;
      # Static emulators work inside Nix's sandbox without naming their libraries to it.
      preferStaticEmulators = true;
    };
  };
}
