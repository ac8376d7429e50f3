# Every machine of this fleet as a live medium and as an installed system: hosts/ says which, this file says under which output names.
{
  description = "Drydock: a NixOS fleet and the tool that evaluates, builds, boots and ships it";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    disko = {
      url = "github:nix-community/disko";
      inputs.nixpkgs.follows = "nixpkgs";
    };
  };

  # `self` stays unnamed: whatever read it would change with every commit.
  outputs =
    { nixpkgs, disko, ... }:
    let
      fleet = import ./lib/fleet.nix;
      own = fleet { inherit nixpkgs disko; };
      perSystem =
        file:
        nixpkgs.lib.genAttrs own.systems (
          system:
          import file {
            pkgs = own.pkgs.${system};
            fleet = own;
          }
        );
      merge = nixpkgs.lib.recursiveUpdate;
    in
    {
      inherit (own) nixosConfigurations hydraJobs;
      packages = merge own.packages (perSystem ./ci/packages.nix);
      checks = merge own.checks (perSystem ./ci/checks.nix);
      devShells = perSystem ./ci/shell.nix;
      formatter = perSystem ./ci/treefmt.nix;
      nixosModules = import ./modules;
      templates = import ./templates;
      # For a fleet of its own that uses these modules: `lib.fleet { hosts = ./hosts; }`.
      lib.fleet = arguments: fleet ({ inherit nixpkgs disko; } // arguments);
    };
}
