# What a medium carries of its host's installed system: a file that drydock-install sources, with everything in its closure.
{ pkgs, installed }:
let
  inherit (pkgs) lib;
  inherit (installed.system.build) toplevel destroyFormatMount;
  disks = lib.mapAttrsToList (name: disk: "${name}=${disk.device}") installed.disko.devices.disk;
in
pkgs.writeTextDir "carried" ''
  system=${toplevel}
  partition=${destroyFormatMount}/bin/disko-destroy-format-mount
  layout=(${lib.escapeShellArgs disks})
''
