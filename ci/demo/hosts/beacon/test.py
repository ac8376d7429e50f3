"""beacon is up when it tells the year that its own clock has."""

year = machine.succeed("date -u +%Y").strip()
said = machine.wait_until_succeeds("nc -w 2 127.0.0.1 13 < /dev/null | grep .")
assert year in said, f"{said!r} does not name {year}"
