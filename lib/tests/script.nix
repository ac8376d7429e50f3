# What a test boots, the host's own test and the test's script -> the one Python text that the driver runs.
{
  given,
  hostTest ? ./no-host-test.py,
  script,
}:
let
  lines = file: builtins.readFile file + "\n";
in
builtins.concatStringsSep "" [
  # A JSON string is a Python string as well.
  "import json\n\ngiven = json.loads(${builtins.toJSON (builtins.toJSON given)})\n"
  (lines ./harness.py)
  (lines hostTest)
  (lines script)
]
