# Debian packages in, one tree with their files out.
{ run }:
{ name, packages }:
run {
  inherit name;
  packages = map (package: "${package}") packages;
  script = ''
    mkdir $out
    for package in $packages; do
      ar p $package data.tar.xz | unxz | tar -x -C $out --no-same-owner
    done
  '';
}
