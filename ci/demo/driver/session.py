"""What a test script may use: subtests, machines and the host's own test; and the record of what happened."""

import contextlib
import json
import os
import re
import socket
import sys
import threading
import time
import traceback

from hardware import Hardware
from machine import Machine

TAIL = 40


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def script_name(path):
    """A script's name as its author knows it, without the store's hash."""
    return re.sub(r"^[a-z0-9]{32}-", "", os.path.basename(path))


class Session:
    def __init__(self, config, directory, accel, scale):
        self.config, self.directory, self.scale, self.accel = config, directory, scale, accel
        self.hardware = Hardware(config, directory, accel)
        self.machines, self.subtests, self.depth, self.started = [], [], 0, time.monotonic()
        self.writing = threading.Lock()

    def log(self, text):
        """Writes whole lines: the machines' readers log as well, each in a thread of its own."""
        with self.writing:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()

    @contextlib.contextmanager
    def subtest(self, name):
        """Marks a part of the test, in the words of nixpkgs's driver, so that one reader serves both."""
        self.log(f"subtest: {name}")
        start, record = time.monotonic(), {"name": name, "result": "failed", "seconds": 0.0}
        self.subtests.append(record)
        try:
            yield
            record["result"] = "passed"
        finally:
            record["seconds"] = round(time.monotonic() - start, 2)
            if record["result"] == "passed":
                self.log(f"(finished: subtest: {name}, in {record['seconds']:.2f} seconds)")

    @contextlib.contextmanager
    def machine(self, name, firmware=None, cdrom=None, usb=None, disk=None, kernel=None, ports=()):
        """A running machine for the time of the block, photographed at its end. `ports`: guest ports to reach; None: no
        network card."""
        hardware, here = self.hardware, None
        if ports is not None:
            here = {there: free_port() for there in ports}
        argv = [*hardware.base, *hardware.network(here)]
        if firmware:
            argv += hardware.firmware(firmware, name)
        if cdrom or usb:
            argv += hardware.medium("cdrom" if cdrom else "usb", cdrom or usb, boot=not kernel)
        if disk:
            argv += hardware.disk(disk, boot=not (cdrom or usb or kernel))
        if kernel:
            argv += hardware.kernel(*kernel)
        machine = Machine(name, argv, self.directory, self.scale, self.log)
        machine.ports = here or {}
        self.machines.append(machine)
        try:
            yield machine
            if machine.process.poll() is None:
                machine.photograph()
        except BaseException:
            self.show(machine)
            raise
        finally:
            machine.stop()

    def empty_disk(self, name, mib):
        path = os.path.join(self.directory, f"{name}.img")
        with open(path, "wb") as image:
            image.truncate(mib << 20)
        return path

    def show(self, machine):
        """The console's end and the screen, on the log: a failed Nix build keeps nothing else."""
        lines = [f"last lines of {machine.name}'s console:"]
        for line in machine.console.splitlines()[-TAIL:]:
            lines.append(f"  | {''.join(c for c in line if c.isprintable())}")
        self.log("\n".join(lines))
        machine.photograph()

    def names(self):
        """The names that test scripts see."""
        config = self.config
        return {
            "subtest": self.subtest,
            "machine": self.machine,
            "empty_disk": self.empty_disk,
            "host": config["host"],
            "version": config["version"],
            "system": config["system"],
            "iso": config.get("iso"),
            "installed": config.get("installed"),
            "firmwares": ["uefi"] if self.hardware.arm else ["bios", "uefi"],
            "check_host": self.check_host,
        }

    def run_file(self, path, extra=None):
        with open(path, encoding="utf-8") as source:
            exec(compile(source.read(), path, "exec"), {**self.names(), **(extra or {})})

    def check_host(self, machine):
        """What must hold on this host once it is up: hosts/<host>/test.py."""
        if self.config.get("hostTest"):
            self.run_file(self.config["hostTest"], {"machine": machine})

    def run(self, script):
        """Runs the test; true when all of it passed."""
        problem = None
        try:
            self.run_file(script)
        except KeyboardInterrupt:
            problem = "interrupted"
        except Exception as error:
            frames = [
                f"{script_name(f.filename)}:{f.lineno}: {f.line}"
                for f in traceback.extract_tb(sys.exc_info()[2])
                if f.filename in (script, self.config.get("hostTest"))
            ]
            problem = "\n".join([f"{type(error).__name__}: {error}", *frames])
        finally:
            for machine in self.machines:
                machine.stop()
        if problem:
            last = next(
                (s["name"] for s in reversed(self.subtests) if s["result"] == "failed"),
                "(outside any subtest)",
            )
            self.log(f"test failed in subtest: {last}\n{problem}")
        self.record(problem)
        return problem is None

    def record(self, problem):
        report = {
            "format": "drydock-subtests",
            "formatVersion": 1,
            "test": self.config["name"],
            "host": self.config["host"],
            "system": self.config["system"],
            "accel": self.accel,
            "timeScale": self.scale,
            "result": "failed" if problem else "passed",
            "seconds": round(time.monotonic() - self.started, 2),
            "subtests": self.subtests,
        }
        if problem:
            report["problem"] = problem
        with open(os.path.join(self.directory, "subtests.json"), "w", encoding="utf-8") as file:
            json.dump(report, file, indent=2)
            file.write("\n")
