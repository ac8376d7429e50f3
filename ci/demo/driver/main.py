"""The embedded fleet's test driver: runs a test, and leaves console logs and screenshots in the output folder."""

import argparse
import code
import json
import os
import signal
import sys

from session import Session


def arguments():
    parser = argparse.ArgumentParser(prog="nixos-test-driver", description=__doc__)
    parser.add_argument("config", help=argparse.SUPPRESS)
    parser.add_argument(
        "-o",
        "--output_directory",
        default=os.environ.get("out", "."),
        metavar="DIR",
        help="where subtests.json, console logs and screenshots go (default: $out, else here)",
    )
    parser.add_argument(
        "-I",
        "--interactive",
        action="store_true",
        help="a Python prompt with the names of a test script instead of the test",
    )
    parser.add_argument(
        "--accel",
        choices=["tcg", "kvm"],
        default=os.environ.get("DRYDOCK_ACCEL", "tcg"),
        help="how QEMU runs the guest (default: $DRYDOCK_ACCEL, else tcg)",
    )
    parser.add_argument(
        "--time-scale",
        type=float,
        default=float(os.environ.get("DRYDOCK_TIME_SCALE", "1")),
        metavar="N",
        help="every deadline times N (default: $DRYDOCK_TIME_SCALE, else 1)",
    )
    return parser.parse_args()


def stop(signum, _frame):
    raise KeyboardInterrupt(signal.Signals(signum).name)


def main():
    options = arguments()
    with open(options.config, encoding="utf-8") as file:
        config = json.load(file)
    signal.signal(signal.SIGTERM, stop)
    directory = os.path.abspath(options.output_directory)
    os.makedirs(directory, exist_ok=True)
    # The monitors' sockets are named relative to here.
    os.chdir(directory)
    session = Session(config, directory, options.accel, options.time_scale)
    session.log(
        f"test {config['name']}: QEMU with {options.accel}, deadlines times {options.time_scale:g}"
    )
    if not options.interactive:
        passed = session.run(config["script"])
        tidy(directory)
        return 0 if passed else 1
    names = session.names() | {"run_test": lambda: session.run(config["script"])}
    banner = (
        f"{config['name']}: machine(NAME, firmware='uefi', cdrom=iso, ports=[22]) is a context manager; "
        f"run_test() runs the test.\nNames: {', '.join(sorted(names))}"
    )
    try:
        code.interact(banner=banner, local=names, exitmsg="")
    finally:
        for machine in session.machines:
            machine.stop()
        tidy(directory)
    return 0


def tidy(directory):
    """Disks, variables and sockets are means, not results."""
    for name in os.listdir(directory):
        if name.endswith((".img", ".efivars", ".qmp")):
            os.unlink(os.path.join(directory, name))


sys.exit(main())
