# Writes the file that drydock-install sources; its closure is what a medium carries of its host's installed system.
{ pkgs, installed }:
let
  inherit (pkgs) lib;
  inherit (installed.system.build) toplevel destroyFormatMount;
  disks = lib.mapAttrsToList (name: disk: "${name}=${disk.device}") installed.disko.devices.disk;
in
pkgs.writeText "drydock-carried" ''
  system=${toplevel}
  partition=${destroyFormatMount}/bin/disko-destroy-format-mount
  layout=(${lib.escapeShellArgs disks})
''
