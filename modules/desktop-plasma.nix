# Plasma 6 on Wayland with sound, printing and a browser; on a live medium it logs in by itself.
{
  config,
  lib,
  pkgs,
  ...
}:
{
  services = {
    desktopManager.plasma6.enable = true;
    displayManager.sddm = {
      enable = true;
      wayland.enable = true;
    };
    displayManager.autoLogin = lib.mkIf config.site.live {
      enable = true;
      user = "nixos";
    };
    pipewire = {
      enable = true;
      pulse.enable = true;
    };
    printing.enable = lib.mkIf (!config.site.live) true;
  };
  networking.networkmanager.enable = true;
  environment.systemPackages = [
    pkgs.firefox
    pkgs.kdePackages.kcalc
    pkgs.kdePackages.partitionmanager
  ];
}
