# The names that `live` in hosts.toml may have -> the NixOS module a live medium starts from.
nixpkgs:
let
  medium = name: nixpkgs + "/nixos/modules/installer/cd-dvd/${name}.nix";
in
{
  base = medium "installation-cd-base";
  minimal = medium "installation-cd-minimal";
  minimal-new-kernel = medium "installation-cd-minimal-new-kernel-no-zfs";
  graphical = medium "installation-cd-graphical-base";
  gnome = medium "installation-cd-graphical-gnome";
  calamares-gnome = medium "installation-cd-graphical-calamares-gnome";
  calamares-plasma6 = medium "installation-cd-graphical-calamares-plasma6";
}
