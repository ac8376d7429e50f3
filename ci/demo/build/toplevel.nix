# Makes the tree that a machine starts from: init, activate, etc/, kernel, initrd, manifest.json.
# The live medium and the installed disk start the same kind of tree; `artifact` tells them apart.
{ toolbox }:
{
  name,
  artifact,
  configuration,
}:
let
  inherit (toolbox)
    platform
    run
    kernel
    initrd
    system
    ;
  inherit (configuration) version services;
  tty = builtins.head (builtins.split "," platform.console);
  kernelParams = [
    "console=tty0"
    "console=${platform.console}"
    "panic=10"
    "loglevel=4"
  ]
  ++ configuration.kernelParams;
  userland = toolbox.userland (
    [
      "drydock-announce"
      "drydock-network"
    ]
    ++ (if artifact == "iso" then [ "drydock-install" ] else [ ])
  );
  lines = f: builtins.concatStringsSep "" (map (line: line + "\n") f);
in
run {
  name = "${name}-${if artifact == "iso" then "live" else artifact}-${version}";
  inherit
    userland
    tty
    version
    artifact
    ;
  host = name;
  arch = system;
  kernel = kernel.image;
  inherit initrd;
  kernelParams = builtins.concatStringsSep " " kernelParams;
  inherit (configuration) motd;
  serviceLines = lines (
    map (service: "::respawn:${services.${service}}") (builtins.attrNames services)
  );
  manifest = builtins.toJSON {
    format = "drydock-demo-system";
    formatVersion = 1;
    host = name;
    inherit artifact version system;
    kernelParams = builtins.concatStringsSep " " kernelParams;
    services = builtins.attrNames services;
    kernel = "${kernel.image}/vmlinuz";
    initrd = "${initrd}/initrd";
    init = "init";
    activate = "activate";
  };
  activate = "${builtins.path {
    path = ../guest/activate.sh;
    name = "activate";
  }}";
  script = ''
    mkdir -p $out/etc
    ln -s $userland $out/sw
    ln -s $kernel/vmlinuz $out/kernel
    ln -s $initrd/initrd $out/initrd
    printf '%s\n' "$manifest" > $out/manifest.json
    printf '%s' "$kernelParams" > $out/kernel-params

    { echo "#!$userland/bin/sh"; echo "system=$out"; tail -n +2 $activate; } > $out/activate
    printf '%s\n' "#!$userland/bin/sh" "$out/activate" 'exec /bin/init' > $out/init
    chmod 755 $out/activate $out/init

    printf '%s\n' "$host" > $out/etc/hostname
    printf 'NAME=Drydock\nID=drydock\nVERSION_ID=%s\nPRETTY_NAME="Drydock demo fleet, %s %s"\n' \
      "$version" "$host" "$version" > $out/etc/os-release
    printf '%s\n' "$motd" > $out/etc/motd
    printf 'root::0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' > $out/etc/passwd
    printf 'root:x:0:\nnogroup:x:65534:\n' > $out/etc/group
    printf '127.0.0.1 localhost %s\n' "$host" > $out/etc/hosts
    printf "export PATH=/run/current-system/sw/bin:/bin\ncat /etc/motd\nPS1='%s# '\n" "$host" > $out/etc/profile
    printf '%s\n' "HOST=$host" "ARTIFACT=$artifact" "VERSION=$version" "SYSTEM=$arch" > $out/etc/drydock

    # A person at the machine gets a shell on the first screen and on the serial line. These are demonstration
    # machines: they have no secrets and no password.
    # The announcement comes before the shells, so that no prompt is printed into it.
    printf '%s\n' '::sysinit:/run/current-system/sw/bin/drydock-network' \
      '::wait:/run/current-system/sw/bin/drydock-announce' "''${serviceLines%?}" 'tty1::respawn:-/bin/sh' "$tty::respawn:-/bin/sh" \
      '::ctrlaltdel:/bin/reboot' '::shutdown:/bin/umount -a -r' | sed '/^$/d' > $out/etc/inittab
  '';
}
