# nixpkgs and the fleet -> checks beside the hosts' own VM tests: what must be true of every host's configuration.
{ pkgs, fleet, ... }:
let
  inherit (pkgs) lib;
  rows = lib.attrValues fleet.rows;
  of = suffix: row: fleet.nixosConfigurations.${row.name + suffix}.config;
  lives = map (of "-live") (lib.filter (row: lib.elem "iso" row.artifacts) rows);
  installeds = map (of "") (lib.filter (row: lib.elem "system" row.artifacts) rows);
  name = config: config.networking.hostName;
  tool =
    config:
    lib.any (package: lib.getName package == "drydock-install") config.environment.systemPackages;

  statements =
    lib.concatMap (config: [
      {
        says = "${name config}: the medium says that it is live";
        holds = config.site.live;
      }
      {
        says = "${name config}: the medium mounts no disk of the installed system";
        holds =
          !(lib.any (lib.hasPrefix "/dev/disk/by-partlabel/") (
            map (fs: toString fs.device) (lib.attrValues config.fileSystems)
          ));
      }
      {
        says = "${name config}: the medium knows no disko layout";
        holds = !(config ? disko);
      }
      {
        says = "${name config}: the medium has drydock-install";
        holds = tool config;
      }
      {
        says = "${name config}: the medium carries no channel";
        holds = config.site.image.nixpkgsSource || !config.system.installer.channel.enable;
      }
    ]) lives
    ++ lib.concatMap (config: [
      {
        says = "${name config}: the installed system says that it is not live";
        holds = !config.site.live;
      }
      {
        says = "${name config}: the installed system is no ISO";
        holds = !(config ? isoImage) && !(config.site ? image);
      }
      {
        says = "${name config}: the installed system has neither drydock-install nor the medium's account";
        holds = !(tool config) && !(config.users.users ? nixos);
      }
      {
        says = "${name config}: the initrd has drivers for SATA, NVMe, USB and virtual disks";
        holds =
          lib.subtractLists config.boot.initrd.availableKernelModules [
            "ahci"
            "nvme"
            "sd_mod"
            "usb_storage"
            "virtio_blk"
            "virtio_scsi"
          ] == [ ];
      }
      {
        says = "${name config}: no empty password in the installed system";
        holds = lib.all (user: user.initialHashedPassword != "" && user.hashedPassword != "") (
          lib.attrValues config.users.users
        );
      }
    ]) installeds;
  wrong = map (statement: statement.says) (lib.filter (statement: !statement.holds) statements);
in
{
  # Evaluated, not built: a statement that does not hold fails `nix flake check` at once.
  live-and-installed-apart =
    if wrong != [ ] then
      throw "these do not hold:\n  - ${lib.concatStringsSep "\n  - " wrong}"
    else
      pkgs.writeText "live-and-installed-apart" (
        lib.concatMapStrings (statement: statement.says + "\n") statements
      );
}
