# The files beside this one -> nixosModules, named after the files.
let
  name = entry: builtins.replaceStrings [ ".nix" ] [ "" ] entry;
  entries = removeAttrs (builtins.readDir ./.) [ "default.nix" ];
  isModule = entry: entries.${entry} == "directory" || builtins.match ".*\\.nix" entry != null;
  add =
    modules: entry:
    if modules ? ${name entry} then
      throw "modules/: \"${name entry}\" is both ${name entry}.nix and ${name entry}/; a module name must be unique, rename one"
    else
      modules // { ${name entry} = ./. + "/${entry}"; };
in
builtins.foldl' add { } (builtins.filter isModule (builtins.attrNames entries))
