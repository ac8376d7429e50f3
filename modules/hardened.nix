# Fewer ways in for a host that faces the internet; each line costs little and breaks little.
{ lib, ... }:
{
  boot = {
    kernel.sysctl = {
      "kernel.kptr_restrict" = 2;
      "kernel.dmesg_restrict" = 1;
      "kernel.unprivileged_bpf_disabled" = 1;
      "kernel.yama.ptrace_scope" = lib.mkOverride 900 1;
      "net.core.bpf_jit_harden" = 2;
      "net.ipv4.conf.all.rp_filter" = 1;
      "net.ipv4.conf.all.accept_redirects" = 0;
      "net.ipv6.conf.all.accept_redirects" = 0;
    };
    # File systems and protocols that hosts of this kind do not use and attackers do.
    blacklistedKernelModules = [
      "dccp"
      "sctp"
      "rds"
      "tipc"
      "hfs"
      "hfsplus"
      "minix"
      "ufs"
    ];
  };
  security = {
    protectKernelImage = true;
    sudo.execWheelOnly = true;
  };
  services.openssh.settings = {
    MaxAuthTries = 3;
    X11Forwarding = false;
  };
  # Only root and administrators may talk to the Nix daemon.
  nix.settings.allowed-users = [
    "root"
    "@wheel"
  ];
}
