# Makes an initrd of the kernel's modules and busybox that finds the medium or disk holding the system and starts it.
# It names no host: every host of an architecture shares it, and the kernel's command line says which system to start.
{
  kernel,
  platform,
  run,
}:
let
  wanted = [
    "virtio_pci"
    "virtio_blk"
    "virtio_net"
    "virtio_scsi"
    "xhci-pci"
    "ehci-pci"
    "usb-storage"
    "uas"
    "sd_mod"
    "sr_mod"
    "nvme"
    "isofs"
    "ext4"
    "crc32c_generic"
    "vfat"
    "nls_cp437"
    "nls_ascii"
  ]
  ++ platform.modules;
in
run {
  name = "initrd";
  inherit wanted;
  kernel = kernel.modules;
  inherit (run) busybox;
  init = "${builtins.path {
    path = ../guest/initrd-init.sh;
    name = "initrd-init";
  }}";
  cpio = "${builtins.path {
    path = ./cpio.sh;
    name = "cpio.sh";
  }}";
  script = ''
    version=$(cat $kernel/version)
    modules=$kernel/lib/modules/$version
    mkdir -p root/bin root/modules root/dev root/proc root/sys root/medium root/root $out
    cp $busybox/busybox root/bin/busybox
    ln -s busybox root/bin/sh
    cp $init root/init
    chmod 755 root/init

    # Names are resolved with their dependencies, dependencies first, into the order in which /init inserts them.
    awk -v wanted="$wanted" -f ${
      builtins.path {
        path = ./module-order.awk;
        name = "module-order.awk";
      }
    } \
      $modules/modules.dep $modules/modules.builtin > order
    while read -r path; do
      cp $modules/$path root/modules/
      echo "''${path##*/}" >> root/modules/order
    done < order

    (cd root && find . | sort | sh $cpio) | gzip -n -9 > $out/initrd
  '';
}
