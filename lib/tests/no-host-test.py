# Stands in for the test.py of a host that has none.


def check(machine: "QemuMachine", stage: str) -> None:
    """Nothing beyond what every host is tested for."""
    machine.log(f"host {given['name']} has no test.py of its own ({stage})")
