# Makes the FAT partition that starts an installed system: syslinux for BIOS, GRUB for UEFI, kernel and initrd.
# It is made here, once and reproducibly, so that installing is copying and needs no boot loader's installer.
{ toolbox }:
{ name, system }:
let
  inherit (toolbox)
    platform
    run
    media
    debian
    ;
  loader = import ./bootloader.nix { inherit toolbox; } {
    title = name;
    kernel = "/vmlinuz";
    initrd = "/initrd";
    params = "@params@ init=${system}/init drydock.root=ext4";
  };
in
run {
  name = "${name}-boot";
  PATH = "${media}/bin:${run.applets}/bin";
  inherit (loader) grub syslinux efi;
  inherit (platform) bios;
  toplevel = system;
  fat = "${builtins.path {
    path = ./fat.sh;
    name = "fat.sh";
  }}";
  efiFile = platform.grub.file;
  efiName = platform.efi;
  mbr = if platform.bios then "${debian.syslinux}" else "";
  script = ''
    . $fat
    mkdir -p $out tree/EFI/BOOT tree/boot/grub tree/.disk
    cp $toplevel/kernel tree/vmlinuz
    cp $toplevel/initrd tree/initrd
    params=$(cat $toplevel/kernel-params)
    ar p $efi data.tar.xz | unxz | tar -x -O "./usr/lib/grub/$efiFile" > tree/EFI/BOOT/$efiName
    printf %s "$grub" | sed "s|@params@|$params|" > tree/boot/grub/grub.cfg
    echo drydock > tree/.disk/info
    [ -z "$bios" ] || printf %s "$syslinux" | sed "s|@params@|$params|" > tree/syslinux.cfg

    # A quarter more than the files, so that the file system's own tables fit.
    mib=$(($(du -sk tree | cut -f1) / 1024 * 5 / 4 + 4))
    make_fat $out/boot.img $mib tree
    echo $mib > $out/boot-mib
    if [ -n "$bios" ]; then
      syslinux --install $out/boot.img
      ar p $mbr data.tar.xz | unxz | tar -x -O ./usr/lib/SYSLINUX/mbr.bin > $out/mbr.bin
    fi
  '';
}
