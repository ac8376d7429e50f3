# A medium and what it carries -> the medium, with what two evaluators need to evaluate one half each (ARCHITECTURE.md).
{
  lib,
  live,
  carried,
}:
let
  inherit (live.config.system.build) isoImage;
  inherit (live.config.isoImage) contents storeContents;
  late = entry: entry ? apart;
in
# Lazy, so that `apart.needs` is there without the live system.
lib.lazyDerivation {
  derivation = isoImage;
  passthru = lib.optionalAttrs (carried != null) {
    apart = {
      needs = carried;
      needed = lib.any late (contents ++ storeContents);
      ahead = lib.concatMapStrings toString (
        map (entry: entry.source) (lib.filter (entry: !late entry) contents)
        ++ lib.filter (entry: !late entry) storeContents
      );
      "with" =
        path:
        let
          placed = map (entry: if late entry then entry.apart path else entry);
        in
        isoImage.override {
          contents = placed contents;
          squashfsContents = placed storeContents;
        };
    };
  };
}
