# A live medium: its file name, label, compression, serial console, and what it must not carry.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption mkForce types;
  cfg = config.site.image;
  name = config.networking.hostName;
  limit = 32;
  suffix = "-${lib.trivial.release}";
  system = pkgs.stdenv.hostPlatform.system;
in
{
  options.site.image = {
    label = mkOption {
      type = types.str;
      # The host's name is cut, so that every allowed name gives a label that fits.
      default = builtins.substring 0 (limit - builtins.stringLength suffix) name + suffix;
      defaultText = lib.literalMD "host name and release";
      description = "Volume label, at most ${toString limit} bytes; stage 1 finds the medium by it.";
    };
    compression = mkOption {
      type = types.enum [
        "fast"
        "small"
        "none"
      ];
      default = "fast";
      description = "`fast` builds in a fraction of the time, `small` suits a release, `none` a test.";
    };
    nixpkgsSource = mkOption {
      type = types.bool;
      default = false;
      description = "Whether the medium carries the nixpkgs source as a channel; slow to evaluate.";
    };
    serial = mkOption {
      type = types.nullOr types.str;
      default = if pkgs.stdenv.hostPlatform.isAarch64 then "ttyAMA0,115200n8" else "ttyS0,115200n8";
      description = "Serial port that gets the boot messages and a login, beside the screen.";
    };
  };

  config = {
    site.demands = [
      {
        met = builtins.stringLength cfg.label <= limit;
        where = "hosts/${name}/live.nix";
        message = "site.image.label \"${cfg.label}\" is ${toString (builtins.stringLength cfg.label)} bytes long, an ISO 9660 label holds ${toString limit}";
      }
    ];
    # Setting image.fileName instead changes only the announced path, not the file.
    image.baseName = mkForce "${name}-${config.system.nixos.version}-${system}";
    isoImage = {
      volumeID = mkForce cfg.label;
      appendToMenuLabel = lib.mkDefault " ${name}";
      squashfsCompression =
        {
          # docs/fleet.md has what each level costs.
          fast = "zstd -Xcompression-level 3";
          small = "zstd -Xcompression-level 19";
          none = null;
        }
        .${cfg.compression};
    };
    # The screen comes last: it is where /dev/console goes, and with it the boot messages.
    boot.kernelParams = lib.optionals (cfg.serial != null) [
      "console=${cfg.serial}"
      "console=tty0"
    ];
    system.installer.channel.enable = cfg.nixpkgsSource;
    nix.channel.enable = lib.mkIf cfg.nixpkgsSource true;
    installer.cloneConfig = false;
    # One voice per language, as the installer profile has it by an overlay.
    services.speechd.package =
      let
        mbrola-voices = pkgs.mbrola-voices.override { languages = [ "*1" ]; };
        mbrola = pkgs.mbrola.override { inherit mbrola-voices; };
        espeak = pkgs.espeak.override { inherit mbrola; };
      in
      lib.mkDefault (pkgs.speechd.override { inherit espeak mbrola; });
    documentation.enable = mkForce false;
    documentation.nixos.enable = mkForce false;
    networking.wireless.enable = lib.mkDefault false;
  };
}
