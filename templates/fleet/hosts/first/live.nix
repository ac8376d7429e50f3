# Only on the medium: it carries the installed system and installs it without a network.
{ drydock, ... }:
{
  imports = [ drydock.nixosModules.offline-install ];
}
