# nixpkgs -> `nix fmt`: one formatter a language.
{ pkgs, ... }:
pkgs.treefmt.withConfig {
  runtimeInputs = with pkgs; [
    nixfmt
    ruff
    rustfmt
    shfmt
  ];
  settings = {
    tree-root-file = "flake.nix";
    formatter = {
      nixfmt = {
        command = "nixfmt";
        includes = [ "*.nix" ];
      };
      rustfmt = {
        command = "rustfmt";
        options = [
          "--edition"
          "2024"
        ];
        includes = [ "*.rs" ];
      };
      ruff = {
        command = "ruff";
        options = [
          "format"
          "--line-length"
          "100"
        ];
        includes = [ "*.py" ];
      };
      shfmt = {
        command = "shfmt";
        options = [
          "-w"
          "-i"
          "2"
          "-ci"
        ];
        includes = [ "*.sh" ];
      };
    };
  };
}
