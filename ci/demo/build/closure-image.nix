# Packs the closure of a system into an ISO 9660 image, which a test gives the machine in place of an installed disk.
{ run, media }:
{ name, system }:
run {
  name = "${name}-closure";
  PATH = "${media}/bin:${run.applets}/bin";
  exportReferencesGraph = [
    "closure"
    system
  ];
  script = ''
    mkdir -p tree/nix/store
    grep '^/nix/store/' closure | sort -u | while read -r path; do cp -a $path tree/nix/store/; done
    xorriso -as mkisofs -quiet -r -V closure -o $out tree
  '';
}
