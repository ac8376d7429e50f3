# The flake templates of this repository, for `nix flake init -t`.
rec {
  default = fleet;
  fleet = {
    path = ./fleet;
    description = "A fleet of one host that takes modules and the program from Drydock";
    welcomeText = ''
      Add your ssh key in hosts/admins.nix, then: nix run .#drydock -- build-all
    '';
  };
}
