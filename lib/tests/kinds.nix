# The tests a row of hosts.toml may ask for, each as what it boots and the script that drives it.
{ lib }:
let
  installedNode = host: extra: {
    machine = {
      imports = host.installedModules ++ [ extra ];
      # As NO_TIMER_CHECK in harness.py.
      boot.kernelParams = lib.optional (lib.hasPrefix "x86_64-" host.row.system) "no_timer_check";
      virtualisation = {
        memorySize = 2048;
        diskSize = 8192;
        # ARM's machine has no screen of its own; nobody sets up ramfb where no firmware runs.
        qemu.options = lib.optional (lib.hasPrefix "aarch64-" host.row.system) "-device virtio-gpu-pci";
      };
    };
  };
  isoFile = host: "${host.iso}/${host.live.config.image.filePath}";
  # The disks that drydock-install asks for, by their names in the layout.
  askedDisks =
    host:
    let
      asked = _: disk: lib.hasPrefix "/run/drydock/disk/" disk.device;
      disks = lib.filterAttrs asked host.installed.config.disko.devices.disk;
    in
    if disks == { } then
      throw "host \"${host.row.name}\": the install test needs a disk whose device lies under /run/drydock/disk/; a virtual machine has no other"
    else
      lib.attrNames disks;
in
{
  # The installed configuration comes up, on the test driver's own disk.
  system =
    { host, ... }:
    {
      nodes = installedNode host { };
      script = ./system.py;
    };

  # The very ISO that is handed out boots under every firmware and from every medium.
  live =
    { host, ... }:
    {
      given = {
        iso = isoFile host;
        # The serial port that the medium promises a login on, or null.
        serial =
          let
            port = host.live.config.site.image.serial;
          in
          if port == null then null else lib.head (lib.splitString "," port);
      };
      script = ./live.py;
    };

  # That ISO installs onto empty disks on a machine without a network card, and the disks boot.
  install =
    { host, ... }:
    {
      given = {
        iso = isoFile host;
        disks = askedDisks host;
      };
      script = ./install.py;
    };

  # The running system changes to another configuration and back.
  switch =
    { host, ... }:
    {
      nodes = installedNode host {
        specialisation.drydock-changed.configuration = {
          environment.etc."drydock-changed".text = "changed\n";
          systemd.services.drydock-changed = {
            wantedBy = [ "multi-user.target" ];
            serviceConfig = {
              Type = "oneshot";
              RemainAfterExit = true;
              ExecStart = "/run/current-system/sw/bin/true";
            };
          };
        };
      };
      script = ./switch.py;
    };
}
