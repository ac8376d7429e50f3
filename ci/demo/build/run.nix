# Defines `run { name; script; … }`, a derivation whose script has the programs of a static busybox on its PATH.
{ system, busybox }:
let
  # The builder is called through a path that ends in /busybox, because busybox looks at its own name.
  applets = derivation {
    name = "busybox-applets";
    inherit system;
    builder = "${busybox}/busybox";
    args = [
      "sh"
      "-euc"
      "$bb mkdir -p $out/bin; $bb --install -s $out/bin"
    ];
    bb = "${busybox}/busybox";
    allowSubstitutes = false;
  };
  run =
    { script, ... }@arguments:
    derivation (
      {
        inherit system;
        builder = "${busybox}/busybox";
        args = [
          "sh"
          "-euc"
          script
        ];
        PATH = "${applets}/bin";
        # Everything that stamps a time takes this one.
        SOURCE_DATE_EPOCH = "1";
        LC_ALL = "C";
        # No cache has this fleet, so none is asked: without a network each question would cost seconds.
        allowSubstitutes = false;
      }
      // removeAttrs arguments [ "script" ]
    );
in
{
  __functor = _: run;
  inherit applets busybox system;
}
