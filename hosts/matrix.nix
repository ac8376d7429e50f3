# hosts.toml and the folders beside it -> { <host> = row; }, or one message that names the file and the host.
{ lib, hosts }:
let
  file = "hosts/hosts.toml";
  toml = builtins.fromTOML (builtins.readFile (hosts + "/hosts.toml"));
  known = {
    artifacts = [
      "iso"
      "system"
    ];
    tests = [
      "system"
      "live"
      "install"
      "switch"
    ];
    keys = [
      "description"
      "system"
      "artifacts"
      "live"
      "tests"
      "tags"
    ];
  };
  fallback = {
    system = "x86_64-linux";
    inherit (known) artifacts;
    live = "minimal";
    tests = [ ];
    tags = [ ];
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

  quote = lib.concatMapStringsSep ", " (word: "\"${word}\"");
  unknown =
    what: allowed: given:
    map (word: "unknown ${what} \"${word}\"; known are ${quote allowed}") (
      lib.subtractLists allowed given
    );

  row =
    name: written:
    let
      whole = fallback // (toml.defaults or { }) // written;
      lacks = test: lib.subtractLists whole.artifacts needs.${test};
      missing = lib.filter (test: lacks test != [ ]) whole.tests;
      mistakes =
        unknown "key" known.keys (lib.attrNames written)
        ++ unknown "artifact" known.artifacts whole.artifacts
        ++ unknown "test" known.tests whole.tests
        ++ lib.optional (whole.description or "" == "") "has no description"
        ++ lib.optionals (written ? tests && unknown "" known.tests whole.tests == [ ]) (
          map (test: "test \"${test}\" needs the artifact ${quote (lacks test)}") missing
        );
    in
    if mistakes != [ ] then
      throw "${file}: host \"${name}\": ${lib.concatStringsSep "; " mistakes}"
    else
      whole
      // {
        inherit name;
        # Tests that come from [defaults] apply where the host has what they boot.
        tests = lib.subtractLists missing whole.tests;
      };

  named =
    toml.host or (throw "${file}: no [host.<name>] table; add one, or run `cargo xtask new-host NAME`");
  isHost = name: type: type == "directory" && !lib.hasPrefix "." name;
  folders = lib.attrNames (lib.filterAttrs isHost (builtins.readDir hosts));
  mistakes =
    map (name: "host name \"${name}\" does not match ^[a-z0-9][a-z0-9-]{0,62}$") (
      lib.filter (name: builtins.match "[a-z0-9][a-z0-9-]{0,62}" name == null) (lib.attrNames named)
    )
    ++ map (name: "host \"${name}\" has a row but no folder hosts/${name}/") (
      lib.subtractLists folders (lib.attrNames named)
    )
    ++ map (name: "folder hosts/${name}/ has no [host.${name}] row") (
      lib.subtractLists (lib.attrNames named) folders
    );
in
if mistakes != [ ] then
  throw "${file}: ${lib.concatStringsSep "; " mistakes}"
else
  lib.mapAttrs row named
