# To a changed configuration and back, without a restart.
with subtest("reaches multi-user, no unit failed"):
    start(machine)
    settled(machine)
    before = machine.succeed("readlink -f /run/current-system").strip()
    machine.fail("test -e /etc/drydock-changed")

with subtest("switches to the changed configuration"):
    changed = f"{before}/specialisation/drydock-changed"
    machine.succeed(f"{changed}/bin/switch-to-configuration test", timeout=900)
    machine.succeed("grep -qx changed /etc/drydock-changed")
    machine.succeed("systemctl is-active drydock-changed.service")
    settled(machine)

with subtest("switches back"):
    machine.succeed(f"{before}/bin/switch-to-configuration test", timeout=900)
    machine.fail("test -e /etc/drydock-changed")
    machine.fail("systemctl is-active drydock-changed.service")
    after = machine.succeed("readlink -f /run/current-system").strip()
    assert after == before, f"{after} runs, not {before}"
    settled(machine)

with subtest("the host's own test"):
    check(machine, "switch")
    photograph(machine)
