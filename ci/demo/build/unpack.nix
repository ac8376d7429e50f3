# Unpacks Debian packages into one tree.
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
