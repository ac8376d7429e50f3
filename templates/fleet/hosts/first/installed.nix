# Only on the installed system: its disk and boot loader.
{ drydock, ... }:
{
  imports = [ drydock.nixosModules.disk-single ];
  system.stateVersion = "26.05";
}
