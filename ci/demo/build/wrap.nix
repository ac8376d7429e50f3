# Wraps programs of Debian packages so that they run from the store.
# The programs keep the interpreter path that Debian linked in, which no sandbox has, so each is started through
# the packaged dynamic loader; that needs no patching tool and works for both architectures.
{
  platform,
  run,
  unpack,
}:
{
  name,
  packages,
  programs,
  environment ? { },
  arguments ? _: "",
}:
let
  tree = unpack {
    name = "${name}-files";
    inherit packages;
  };
in
run {
  inherit name tree programs;
  inherit (platform) loader triplet;
  fixed = arguments tree;
  exports = builtins.concatStringsSep "" (
    map (key: "export ${key}=${environment.${key} tree}\n") (builtins.attrNames environment)
  );
  script = ''
    mkdir -p $out/bin
    for program in $programs; do
      printf '%s\n' "#!${run.applets}/bin/sh" "$exports" \
        "exec $tree/lib/$triplet/$loader --library-path $tree/lib/$triplet:$tree/usr/lib/$triplet --argv0 $program $tree/usr/bin/$program $fixed \"\$@\"" \
        > $out/bin/$program
      chmod 755 $out/bin/$program
      test -e $tree/usr/bin/$program
    done
    ln -s $tree $out/tree
  '';
}
