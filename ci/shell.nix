# nixpkgs -> a shell with everything `cargo xtask` and `cargo chores` use.
{ pkgs, ... }:
{
  default = pkgs.mkShellNoCC {
    packages = with pkgs; [
      # The tool itself.
      cargo
      clippy
      rustc
      rustfmt
      stdenv.cc
      # What it calls.
      git
      nix
      openssh
      qemu
      # What checks the Nix, shell and Python files.
      deadnix
      nixfmt
      shellcheck
      statix
      (python3.withPackages (python: [
        python.fastjsonschema
        python.mypy
        python.pyflakes
      ]))
      # What checks the workflows and the book.
      actionlint
      mdbook
      zizmor
    ];
  };
}
