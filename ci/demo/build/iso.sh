# Sourced by iso.nix: lays out the medium in tree/ and writes it with xorriso.
. $fat
paths() { grep '^/nix/store/' "$1" | sort -u; }

mkdir -p $out/iso tree/boot/grub tree/.disk tree/nix/store efi/EFI/BOOT
params=$(cat $live/kernel-params)
printf %s "$grub" | sed "s|@params@|$params|" >tree/boot/grub/grub.cfg
echo "$file" >tree/.disk/info

# The closures are the live system's own store; what both systems hold is there once.
cat live-closure installed-closure 2>/dev/null | grep '^/nix/store/' | sort -u | while read -r path; do
  cp -a "$path" tree/nix/store/
done

# The boot loaders know nothing of store paths; hard links cost no second copy, neither here nor on the medium.
ln tree$(readlink -f $live/kernel) tree/boot/vmlinuz
ln tree$(readlink -f $live/initrd) tree/boot/initrd

if [ -n "$installed" ]; then
  mkdir tree/install
  paths installed-closure >tree/install/closure
  printf %s "$installed" >tree/install/system
  cp $boot/* tree/install/
  du -sk $(cat tree/install/closure) | awk '{ sum += $1 } END { print int(sum / 1024) + 1 }' >tree/install/system-mib
fi

ar p $efi data.tar.xz | unxz | tar -x -O "./usr/lib/grub/$efiFile" >efi/EFI/BOOT/$efiName
make_fat tree/boot/efi.img $(($(du -sk efi | cut -f1) / 1024 + 2)) efi

if [ -n "$bios" ]; then
  mkdir tree/isolinux
  ar p $isolinux data.tar.xz | unxz | tar -x -O ./usr/lib/ISOLINUX/isolinux.bin >tree/isolinux/isolinux.bin
  ar p $isolinux data.tar.xz | unxz | tar -x -O ./usr/lib/ISOLINUX/isohdpfx.bin >isohdpfx.bin
  ar p $modules data.tar.xz | unxz | tar -x -O ./usr/lib/syslinux/modules/bios/ldlinux.c32 >tree/isolinux/ldlinux.c32
  printf %s "$syslinux" | sed "s|@params@|$params|" >tree/isolinux/isolinux.cfg
  set -- -isohybrid-mbr isohdpfx.bin -b isolinux/isolinux.bin -c isolinux/boot.cat \
    -no-emul-boot -boot-load-size 4 -boot-info-table -eltorito-alt-boot \
    -e boot/efi.img -no-emul-boot -isohybrid-gpt-basdat
else
  set -- -e boot/efi.img -no-emul-boot -append_partition 2 0xef tree/boot/efi.img
fi

find tree -exec touch -h -d @$SOURCE_DATE_EPOCH {} +
xorriso -as mkisofs -quiet -iso-level 3 -full-iso9660-filenames -R -r -V "$label" --set_all_file_dates 1980010100000000 \
  -o $out/iso/$file "$@" tree
