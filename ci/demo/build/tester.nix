# What runs the tests: QEMU with firmware for every architecture, and Python for the driver. Always x86_64 programs.
{ toolbox }:
let
  inherit (toolbox)
    debian
    wrap
    unpack
    run
    media
    ;
  packages = names: map (name: debian.${name}) names;
  # What the packaged QEMU is linked with.
  libraries = [
    "libaio1"
    "libblkid1"
    "libbpf1"
    "libc6"
    "libcapstone4"
    "libdaxctl1"
    "libelf1"
    "libfdt1"
    "libffi8"
    "libfuse3-3"
    "libglib2.0-0"
    "libgmp10"
    "libgnutls30"
    "libhogweed6"
    "libibverbs1"
    "libidn2-0"
    "libjpeg62-turbo"
    "libkmod2"
    "liblzma5"
    "libmount1"
    "libndctl6"
    "libnettle8"
    "libnl-3-200"
    "libnl-route-3-200"
    "libnuma1"
    "libp11-kit0"
    "libpcre2-8-0"
    "libpixman-1-0"
    "libpmem1"
    "libpng16-16"
    "librdmacm1"
    "libsasl2-2"
    "libseccomp2"
    "libselinux1"
    "libslirp0"
    "libssl3"
    "libtasn1-6"
    "libudev1"
    "libunistring2"
    "liburing2"
    "libuuid1"
    "libvdeplug2"
    "libzstd1"
    "zlib1g"
  ];
in
{
  inherit run media;

  qemu = wrap {
    name = "qemu";
    packages = packages (
      libraries
      ++ [
        "qemu-system-arm"
        "qemu-system-common"
        "qemu-system-data"
        "qemu-system-x86"
        "seabios"
      ]
    );
    programs = [
      "qemu-system-aarch64"
      "qemu-system-x86_64"
    ];
    # QEMU looks for these beside its own program, which to the kernel is the dynamic loader.
    environment.QEMU_MODULE_DIR = tree: "${tree}/usr/lib/${toolbox.platform.triplet}/qemu";
    arguments = tree: "-L ${tree}/usr/share/seabios -L ${tree}/usr/share/qemu";
  };

  python = wrap {
    name = "python";
    packages = packages [
      "libc6"
      "libexpat1"
      "libffi8"
      "libpython3.11-minimal"
      "libpython3.11-stdlib"
      "libssl3"
      "python3.11-minimal"
      "zlib1g"
    ];
    programs = [ "python3.11" ];
    environment.PYTHONHOME = tree: "${tree}/usr";
  };

  firmware = unpack {
    name = "firmware";
    packages = packages [
      "ovmf"
      "qemu-efi-aarch64"
    ];
  };
}
