# The embedded fleet: hosts/hosts.toml in, bootable images and their tests out; no inputs, so it needs neither nixpkgs nor a cache.
{
  description = "Drydock's embedded fleet: real images from Debian's kernel and a busybox userland";

  inputs = { };

  outputs = _: import ./fleet.nix;
}
