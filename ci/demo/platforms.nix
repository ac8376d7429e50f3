# What differs between architectures: Debian's names, the serial console, the boot files.
{
  x86_64-linux = {
    debian = "amd64";
    triplet = "x86_64-linux-gnu";
    loader = "ld-linux-x86-64.so.2";
    console = "ttyS0,115200";
    grub = {
      package = "grub-efi-amd64-bin";
      file = "x86_64-efi/monolithic/gcdx64.efi";
    };
    efi = "BOOTX64.EFI";
    bios = true;
    qemu = "qemu-system-x86_64";
    firmware = {
      code = "usr/share/OVMF/OVMF_CODE_4M.fd";
      variables = "usr/share/OVMF/OVMF_VARS_4M.fd";
    };
    # The kernel of Debian's installer comes in small parts; only these are downloaded.
    kernel = map (part: "${part}-amd64-di") [
      "kernel-image"
      "ata-modules"
      "cdrom-core-modules"
      "crc-modules"
      "ext4-modules"
      "fat-modules"
      "isofs-modules"
      "nic-modules"
      "nic-shared-modules"
      "pata-modules"
      "sata-modules"
      "scsi-core-modules"
      "scsi-modules"
      "usb-modules"
      "usb-storage-modules"
    ];
    kernelParts = [ ];
    modules = [
      "ata_piix"
      "ahci"
      "e1000"
      "uhci-hcd"
    ];
  };
  aarch64-linux = {
    debian = "arm64";
    triplet = "aarch64-linux-gnu";
    loader = "ld-linux-aarch64.so.1";
    console = "ttyAMA0,115200";
    grub = {
      package = "grub-efi-arm64-bin";
      file = "arm64-efi/monolithic/gcdaa64.efi";
    };
    efi = "BOOTAA64.EFI";
    bios = false;
    qemu = "qemu-system-aarch64";
    firmware = {
      code = "usr/share/AAVMF/AAVMF_CODE.fd";
      variables = "usr/share/AAVMF/AAVMF_VARS.fd";
    };
    # One package of 360 MB unpacked: these parts of it are taken.
    # busybox's tar takes folders and whole names, so VERSION stands for the kernel's.
    kernel = [ "linux-image-arm64" ];
    kernelParts = [
      "./boot/vmlinuz-VERSION"
      "./lib/modules/VERSION/modules.builtin"
      "./lib/modules/VERSION/modules.order"
    ]
    ++ map (part: "./lib/modules/VERSION/kernel/${part}") [
      "arch"
      "block"
      "crypto"
      "drivers/ata"
      "drivers/block"
      "drivers/cdrom"
      "drivers/nvme"
      "drivers/scsi"
      "drivers/usb"
      "drivers/virtio"
      "drivers/net/net_failover.ko"
      "drivers/net/virtio_net.ko"
      "fs/ext4"
      "fs/fat"
      "fs/isofs"
      "fs/jbd2"
      "fs/mbcache.ko"
      "fs/nls"
      "lib"
      "net/core"
    ];
    modules = [ ];
  };
}
