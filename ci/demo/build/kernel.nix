# Takes `image` and `modules` (all that may go into an initrd, with their dependencies) from Debian's kernel packages.
# They are two derivations so that a system which names its kernel does not carry every driver along.
{
  debian,
  platform,
  run,
}:
rec {
  modules = run {
    name = "kernel-modules";
    packages = map (name: "${debian.${name}}") platform.kernel;
    parts = platform.kernelParts;
    script = ''
      mkdir $out
      for package in $packages; do
        version=''${package##*linux-image-}
        parts=$(echo $parts | sed "s|VERSION|''${version%%_*}|g")
        ar p $package data.tar.xz | unxz | tar -x -C $out --no-same-owner $parts
      done
      rm -f $out/boot/System.map*
      mv $out/boot/vmlinuz* $out/boot/vmlinuz
      version=$(ls $out/lib/modules)
      printf %s "$version" > $out/version
      depmod -b $out "$version"
      test -s $out/lib/modules/$version/modules.dep
    '';
  };

  image = run {
    name = "kernel";
    inherit modules;
    script = "mkdir $out; cp $modules/boot/vmlinuz $modules/version $out/";
  };
}
