# Reads hosts.toml and the folders beside it into { <host> = row; }, or throws one message that names the file and the host.
# Plain builtins only, so that a test without nixpkgs holds these rules against the Rust reader's (docs/matrix.md).
{ hosts }:
let
  inherit (builtins)
    attrNames
    concatMap
    concatStringsSep
    elem
    filter
    ;
  file = "hosts/hosts.toml";
  toml = fromTOML (builtins.readFile (hosts + "/hosts.toml"));
  defaults = toml.defaults or { };
  known = rec {
    systems = [
      "x86_64-linux"
      "aarch64-linux"
      "i686-linux"
      "riscv64-linux"
    ];
    artifacts = [
      "iso"
      "system"
    ];
    tests = attrNames needs;
    defaults = [
      "system"
      "artifacts"
      "live"
      "tests"
      "tags"
      "checks"
    ];
    keys = [
      "description"
      "target"
    ]
    ++ defaults;
  };
  # What each test boots, and so which artifacts its row must have.
  needs = {
    system = [ "system" ];
    switch = [ "system" ];
    live = [ "iso" ];
    install = [
      "iso"
      "system"
    ];
  };

  # Where `deploy` reaches a machine; ports over 65535 are the Rust reader's to refuse.
  destination =
    let
      word = "[A-Za-z0-9_][A-Za-z0-9_.-]*";
    in
    "(ssh://)?(${word}@)?(${word}|\\[[A-Za-z0-9:][A-Za-z0-9_.:%-]*])(:[1-9][0-9]{0,4})?";

  optional = condition: value: if condition then [ value ] else [ ];
  without = unwanted: filter (item: !(elem item unwanted));
  quote = words: concatStringsSep ", " (map (word: "\"${word}\"") words);
  unknown =
    what: allowed: given:
    map (word: "unknown ${what} \"${word}\"; known are ${quote allowed}") (without allowed given);

  row =
    name: written:
    let
      # What may be left out everywhere; every other key stands in the row or in [defaults].
      whole = {
        tests = [ ];
        tags = [ ];
        checks = [ ];
      }
      // defaults
      // written;
      artifacts = whole.artifacts or [ ];
      lacks = test: without artifacts needs.${test};
      missing = filter (test: lacks test != [ ]) (filter (test: needs ? ${test}) whole.tests);
      needed = [
        "system"
        "artifacts"
      ]
      ++ optional (elem "iso" artifacts) "live";
      mistakes =
        unknown "key" known.keys (attrNames written)
        ++ optional (written.description or "" == "") "has no description"
        ++ map (key: "has no ${key}; set it in the row or in [defaults]") (
          filter (key: !whole ? ${key}) needed
        )
        ++ unknown "system" known.systems (optional (whole ? system) whole.system)
        ++ optional (whole.artifacts or null == [ ]) "artifacts is empty"
        ++ unknown "artifact" known.artifacts artifacts
        ++ unknown "test" known.tests whole.tests
        ++ optional (
          written ? target && builtins.match destination written.target == null
        ) "target is no [user@]host[:port]"
        ++ optional (elem "" whole.checks) "a check is empty"
        ++ concatMap (
          test: optional (written ? tests) "test \"${test}\" needs the artifact ${quote (lacks test)}"
        ) missing;
    in
    if mistakes != [ ] then
      throw "${file}: host \"${name}\": ${concatStringsSep "; " mistakes}"
    else
      whole
      // {
        inherit name;
        # Tests that come from [defaults] apply where the host has what they boot.
        tests = without missing whole.tests;
      };

  named =
    if toml.host or { } == { } then
      throw "${file}: no [host.<name>] table; add one, or run `cargo xtask new-host NAME`"
    else
      toml.host;
  names = attrNames named;
  entries = builtins.readDir hosts;
  folders = filter (name: entries.${name} == "directory" && builtins.match "[.].*" name == null) (
    attrNames entries
  );
  isName = name: builtins.match "[a-z0-9][a-z0-9-]{0,62}" name != null;
  mistakes =
    unknown "table" [
      "defaults"
      "host"
    ] (attrNames toml)
    ++ map (key: "[defaults]: ${key}") (unknown "key" known.defaults (attrNames defaults))
    ++ map (name: "host name \"${name}\" does not match ^[a-z0-9][a-z0-9-]{0,62}$") (
      filter (name: !isName name) names
    )
    ++ map (name: "host \"${name}\" has a row but no folder hosts/${name}/") (without folders names)
    ++ map (name: "folder hosts/${name}/ has no [host.${name}] row") (without names folders);
in
if mistakes != [ ] then
  throw "${file}: ${concatStringsSep "; " mistakes}"
else
  builtins.mapAttrs row named
