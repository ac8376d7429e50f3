# What the host is, on its medium and when installed.
{ drydock, ... }:
{
  imports = [
    ../admins.nix
    drydock.nixosModules.openssh
  ];
}
