# Installs the shell programs of guest/ so that each finds busybox by its store path.
{ run }:
let
  program =
    file:
    builtins.path {
      path = ../guest + "/${file}.sh";
      name = file;
    };
in
programs:
run {
  name = "userland";
  inherit (run) busybox;
  files = map program programs;
  # The first line of each file is replaced: what is installed runs the store's own shell.
  script = ''
    mkdir -p $out/bin
    ln -s $busybox/busybox $out/bin/busybox
    ln -s busybox $out/bin/sh
    for file in $files; do
      target=''${file##*/}
      target=$out/bin/''${target#*-}
      { echo "#!$out/bin/sh"; tail -n +2 $file; } > $target
      chmod 755 $target
    done
  '';
}
