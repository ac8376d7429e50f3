# Makes the derivation that runs a host's test script in the sandbox, with `.driver` and
# `.driverInteractive` (bin/nixos-test-driver, as nixpkgs's tests have them) to run it outside.
# The driver and QEMU are x86_64 programs whatever the guest is: emulating the emulator helps nobody.
{ tester, platform }:
{
  name,
  host,
  test,
  iso ? null,
  system ? null,
  hostTest ? null,
}:
let
  inherit (tester)
    run
    qemu
    python
    firmware
    ;
  source = path: name: "${builtins.path { inherit path name; }}";
  parameters = "@params@ init=${system}/init drydock.root=iso9660";
  closure = import ./closure-image.nix { inherit (tester) run media; } {
    inherit (host) name;
    inherit system;
  };

  config = run {
    name = "${name}.json";
    text = builtins.toJSON (
      {
        inherit name;
        inherit (host) version system;
        host = host.name;
        qemu = "${qemu}/bin/${platform.qemu}";
        firmware = builtins.mapAttrs (_: file: "${firmware}/${file}") platform.firmware;
        script = source (../tests + "/${test}.py") "${test}.py";
      }
      // (if hostTest == null then { } else { hostTest = source hostTest "test.py"; })
      // (if iso == null then { } else { iso = "${iso}/${iso.path}"; })
      # Only the test of the installed system starts it without its disk.
      // (
        if test != "system" then
          { }
        else
          {
            installed = {
              closure = "${closure}";
              boot = [
                "${system}/kernel"
                "${system}/initrd"
                parameters
              ];
            };
          }
      )
    );
    paramsFile = if test != "system" then "/dev/null" else "${system}/kernel-params";
    script = ''printf '%s\n' "$text" | sed "s|@params@|$(cat $paramsFile)|" > $out'';
  };

  driverWith =
    arguments:
    run {
      name = "nixos-test-driver-${name}"; # as nixpkgs calls its
      inherit config arguments;
      driver = "${builtins.path {
        path = ../driver;
        name = "driver";
      }}";
      script = ''
        mkdir -p $out/bin
        printf '%s\n' "#!${run.applets}/bin/sh" "exec ${python}/bin/python3.11 -B $driver/main.py $config $arguments \"\$@\"" \
          > $out/bin/nixos-test-driver
        chmod 755 $out/bin/nixos-test-driver
      '';
    };
  driver = driverWith "";
in
run {
  inherit name;
  script = "mkdir $out; ${driver}/bin/nixos-test-driver -o $out";
}
// {
  inherit driver;
  driverInteractive = driverWith "--interactive";
}
