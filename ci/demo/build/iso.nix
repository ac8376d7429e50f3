# Makes iso/<host>-<version>-<system>.iso of a live system and the installed system that it can install.
# x86_64 starts by BIOS (isolinux) and UEFI (GRUB), aarch64 by UEFI, each from a cdrom and from a USB disk.
{ toolbox }:
{
  name,
  version,
  live,
  installed ? null,
}:
let
  inherit (toolbox)
    platform
    run
    media
    debian
    ;
  loader = import ./bootloader.nix { inherit toolbox; } {
    title = name;
    kernel = "/boot/vmlinuz";
    initrd = "/boot/initrd";
    params = "@params@ init=${live}/init drydock.root=iso9660";
  };
  boot = import ./boot-image.nix { inherit toolbox; } {
    inherit name;
    system = installed;
  };
in
(run {
  name = "${name}-iso-${version}";
  PATH = "${media}/bin:${run.applets}/bin";
  inherit (loader) grub syslinux efi;
  inherit (platform) bios;
  inherit live;
  installed = if installed == null then "" else installed;
  boot = if installed == null then "" else boot;
  exportReferencesGraph = [
    "live-closure"
    live
  ]
  ++ (
    if installed == null then
      [ ]
    else
      [
        "installed-closure"
        installed
      ]
  );
  fat = "${builtins.path {
    path = ./fat.sh;
    name = "fat.sh";
  }}";
  efiFile = platform.grub.file;
  efiName = platform.efi;
  isolinux = if platform.bios then "${debian.isolinux}" else "";
  modules = if platform.bios then "${debian.syslinux-common}" else "";
  file = "${name}-${version}-${toolbox.system}.iso";
  label = builtins.substring 0 32 "drydock-${name}";
  script = builtins.readFile ./iso.sh;
})
// {
  path = "iso/${name}-${version}-${toolbox.system}.iso";
}
