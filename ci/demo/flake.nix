# The embedded fleet: bootable images and their tests, without inputs, so that it needs neither nixpkgs nor a cache.
{
  description = "Drydock's embedded fleet: real images from Debian's kernel and a busybox userland";

  inputs = { };

  outputs = _: import ./fleet.nix;
}
