# Makes the flake's outputs from hosts/hosts.toml and one folder a host.
let
  matrix = builtins.fromTOML (builtins.readFile ./hosts/hosts.toml);
  platforms = import ./platforms.nix;

  # A row wins over [defaults] key by key. A test that the row only inherits is dropped where its artifact is missing.
  needs = {
    system = [ "system" ];
    switch = [ "system" ];
    live = [ "iso" ];
    install = [
      "iso"
      "system"
    ];
  };
  complete =
    name: row:
    let
      merged = {
        tags = [ ];
      }
      // (matrix.defaults or { })
      // row;
      has = test: builtins.all (artifact: builtins.elem artifact merged.artifacts) needs.${test};
    in
    merged
    // {
      inherit name;
    }
    // (if row ? tests then { } else { tests = builtins.filter has (merged.tests or [ ]); });
  rows = builtins.mapAttrs complete matrix.host;

  toolboxes = builtins.mapAttrs (
    system: platform: import ./build/toolbox.nix { inherit system platform; }
  ) platforms;
  tester = import ./build/tester.nix { toolbox = toolboxes.x86_64-linux; };
  hosts = builtins.mapAttrs (
    name: row:
    import ./host.nix {
      inherit row toolboxes tester;
      directory = ./hosts + "/${name}";
    }
  ) rows;

  # { a = { x = 1; }; } with f "a" "x" 1 = [ { name; value; } ] becomes one flat attribute set.
  names = builtins.attrNames;
  ofSystem = system: builtins.filter (name: rows.${name}.system == system) (names rows);
  perSystem =
    f:
    builtins.mapAttrs (
      system: _: builtins.listToAttrs (builtins.concatMap f (ofSystem system))
    ) platforms;
in
{
  hydraJobs = hosts;

  packages = perSystem (
    name:
    if hosts.${name} ? iso then
      [
        {
          name = "${name}-iso";
          value = hosts.${name}.iso;
        }
      ]
    else
      [ ]
  );

  checks = perSystem (
    name:
    map (test: {
      name = "${name}-${test}";
      value = hosts.${name}.tests.${test};
    }) (names hosts.${name}.tests)
  );
}
