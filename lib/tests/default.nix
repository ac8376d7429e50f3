# A host and the name of a test -> the VM test as a derivation; the harness is here, the tests are data in kinds.nix.
{ lib, pkgs }:
let
  kinds = import ./kinds.nix { inherit lib; };
in
host: kind:
let
  inherit (host) row;
  hostPkgs = pkgs.${row.system};
  x86 = hostPkgs.stdenv.hostPlatform.isx86;
  qemu = import (hostPkgs.path + "/nixos/lib/qemu-common.nix") {
    inherit lib;
    inherit (hostPkgs) stdenv;
  };
  test = {
    nodes = { };
    given = { };
  }
  // kinds.${kind} { inherit host lib; };

  # What the Python side needs to know; only what this test boots, so that nothing else rebuilds it.
  given = {
    inherit (row) name;
    qemu = qemu.qemuBinary hostPkgs.qemu_test;
    qemu_img = "${hostPkgs.qemu_test}/bin/qemu-img";
    firmware = hostPkgs.OVMF.firmware;
    variables = hostPkgs.OVMF.variables;
    optical = if x86 then "ide-cd" else "virtio-scsi-pci -device scsi-cd";
    usb = if x86 then "usb-ehci" else "qemu-xhci";
    # ARM's machine has no screen of its own. This one needs no driver, so it also shows firmware and boot loader.
    screen = if x86 then "" else "-device ramfb";
    firmwares =
      if x86 then
        [
          "bios"
          "uefi"
        ]
      else
        [ "uefi" ];
    media = [
      "cdrom"
      "usb"
    ];
    iso = "";
    disks = [ ];
  }
  // test.given;

  hostTest = host.folder + "/test.py";
in
hostPkgs.testers.runNixOSTest {
  name = "${row.name}-${kind}";
  inherit (test) nodes;
  node.specialArgs = host.specialArgs;
  testScript = import ./script.nix (
    {
      inherit given;
      inherit (test) script;
    }
    // lib.optionalAttrs (builtins.pathExists hostTest) { inherit hostTest; }
  );
  # KVM is used where it works; where it does not, the same test runs emulated and slower.
  requiredFeatures.kvm = false;
  globalTimeout = 3 * 60 * 60;
}
