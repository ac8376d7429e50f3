# One architecture's means of building: its Debian files, a builder, and the packaged tools and kernel.
{ system, platform }:
let
  debian = (import ./debian.nix).${platform.debian};
  run = import ./run.nix {
    inherit system;
    busybox = debian.busybox-static;
  };
  unpack = import ./unpack.nix { inherit run; };
  wrap = import ./wrap.nix { inherit platform run unpack; };
in
rec {
  inherit
    system
    platform
    debian
    run
    unpack
    wrap
    ;

  media = wrap {
    name = "media-tools";
    packages = map (name: debian.${name}) (
      [
        "libacl1"
        "libburn4"
        "libbz2-1.0"
        "libc6"
        "libisoburn1"
        "libisofs6"
        "libjte2"
        "libreadline8"
        "libtinfo6"
        "mtools"
        "xorriso"
        "zlib1g"
      ]
      ++ (if platform.bios then [ "syslinux" ] else [ ])
    );
    # mtools converts names through the C library's tables.
    environment.GCONV_PATH = tree: "${tree}/usr/lib/${platform.triplet}/gconv";
    programs = [
      "mcopy"
      "mformat"
      "mmd"
      "mattrib"
      "xorriso"
    ]
    ++ (if platform.bios then [ "syslinux" ] else [ ]);
  };

  kernel = import ./kernel.nix { inherit debian platform run; };
  initrd = import ./initrd.nix { inherit kernel platform run; };
  userland = import ./userland.nix { inherit run; };
}
