"""tender is up when it reports the very medium that it was started from."""

report = machine.wait_until_succeeds("wget -q -O - http://127.0.0.1:8080/cgi-bin/disks")
device = machine.succeed("cat /run/root-device").strip().removeprefix("/dev/")
assert device in report, f"{device} is not in {report!r}"
