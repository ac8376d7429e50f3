# Runs from RAM by the boot menu's own "Copy ISO Files to RAM"; then the stick may be pulled.
{ lib, ... }:
{
  imports = [ ../../modules/offline-install ];
  site.image = {
    label = "RESCUE";
    compression = "small";
  };
  # Ten seconds, the installer's choice, are short for a person in front of a broken machine.
  boot.loader.timeout = lib.mkForce 20;
}
