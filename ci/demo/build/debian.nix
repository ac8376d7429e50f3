# Fetches every Debian file that debian.json pins, by architecture and name.
# `table` is what ci/setup reads: one line a file, so that both sides name the same store paths.
let
  pins = builtins.fromJSON (builtins.readFile ../debian.json);

  # The kernel's ABI is part of its package names; the rest of this fleet must not care which one it is.
  stem =
    name:
    let
      parts = builtins.match "(.*)-[0-9]+[.][0-9.]+-[0-9]+(-.*)" name;
    in
    if parts == null then name else builtins.concatStringsSep "" parts;

  # A version may hold characters that a store path may not.
  storeName =
    pin:
    builtins.replaceStrings [ ":" "~" ] [ "." "-" ]
      "${pin.name}_${pin.version}_${pin.architecture}${if pin ? tree then "" else ".deb"}";

  # A fixed output that nothing here can make: the path depends on name and hash alone, so ci/setup adds
  # the file with `nix-store --add-fixed` and this builder only speaks when that has not been done.
  file =
    pin:
    derivation {
      name = storeName pin;
      system = if pin.architecture == "arm64" then "aarch64-linux" else "x86_64-linux";
      builder = "/bin/sh";
      args = [
        "-c"
        "echo 'The Debian file ${storeName pin} is not in the store: run ci/setup, which fetches it.' >&2; exit 1"
      ];
      outputHash = pin.tree or pin.sha256;
      outputHashAlgo = "sha256";
      outputHashMode = if pin ? tree then "recursive" else "flat";
      preferLocalBuild = true;
      allowSubstitutes = false;
    };

  of =
    architecture:
    builtins.listToAttrs (
      map (pin: {
        name = stem pin.name;
        value = file pin;
      }) (builtins.filter (pin: pin.architecture == architecture || pin.architecture == "all") pins.files)
    );
in
{
  amd64 = of "amd64";
  arm64 = of "arm64";

  table = builtins.concatStringsSep "" (
    map (
      pin:
      builtins.concatStringsSep " " [
        pin.name
        pin.version
        pin.architecture
        pin.suite
        pin.sha256
        (storeName pin)
        (file pin).outPath
        (pin.tree or "-")
      ]
      + "\n"
    ) pins.files
  );
}
