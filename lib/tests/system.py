# The installed configuration in the test driver's own machine.
with subtest("reaches multi-user, no unit failed"):
    start(machine)
    settled(machine)
with subtest("the host's own test"):
    check(machine, "system")
    photograph(machine)
