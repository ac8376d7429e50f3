# The installed configuration in the test driver's own machine.
machine.start()
with subtest("reaches multi-user, no unit failed"):
    settled(machine)
with subtest("the host's own test"):
    check(machine, "system")
