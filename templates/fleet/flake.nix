# A fleet of its own: the hosts are here, the modules and the tool come from Drydock.
{
  description = "My fleet";

  inputs.drydock.url = "github:drydock-nix/drydock";

  outputs =
    { drydock, ... }:
    let
      fleet = drydock.lib.fleet {
        hosts = ./hosts;
        # Host modules take this as an argument: { drydock, ... }: { imports = [ drydock.nixosModules.openssh ]; }
        specialArgs = { inherit drydock; };
      };
    in
    {
      inherit (fleet) nixosConfigurations hydraJobs checks;
      packages = builtins.mapAttrs (
        system: isos: isos // { inherit (drydock.packages.${system}) drydock; }
      ) fleet.packages;
      inherit (drydock) formatter devShells;
    };
}
