"""Runs a virtual machine in QEMU that can be waited for, asked and photographed."""

import base64
import ctypes
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import threading
import time

LINE = re.compile(r"drydock: (host=.*)\n")
PROMPT = re.compile(r"^[a-z0-9-]+# ", re.M)
GIVES_UP = ("drydock: error:", "Kernel panic", "end Kernel panic")
PR_SET_PDEATHSIG = 1
# Seconds without a word from a machine that is waited for, after which its screen goes to the log. In emulation a
# quiet kernel's boot is silent for 17 s. They are not scaled: who ends a test from outside does not say when, and an
# image too many does no harm.
SILENCE = 30


class MachineError(Exception):
    """What a machine did not do, in words for the person who reads the report."""


def die_with_parent():
    """Runs in the child: a killed driver leaves no QEMU behind (prctl(2))."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Machine:
    """One QEMU process. Its serial console is QEMU's standard input and output."""

    def __init__(self, name, argv, directory, scale, log):
        self.name, self.directory, self.scale, self.log = name, directory, scale, log
        self.console, self.changed, self.shell = "", threading.Condition(), None
        self.heard, self.photographed = time.monotonic(), None
        self.monitor_path = os.path.join(directory, f"{name}.qmp")
        self.console_path = os.path.join(directory, f"{name}.console.log")
        argv = [
            *argv,
            "-qmp",
            f"unix:{os.path.basename(self.monitor_path)},server=on,wait=off",
            "-chardev",
            "stdio,id=console,signal=off",
            "-serial",
            "chardev:console",
            "-monitor",
            "none",
        ]
        log(f"{name}: {shlex.join(argv)}")
        self.process = subprocess.Popen(
            argv,
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        with open(self.console_path, "wb") as copy:
            partial = b""
            while chunk := os.read(self.process.stdout.fileno(), 65536):
                copy.write(chunk)
                copy.flush()
                *lines, partial = (partial + chunk).split(b"\n")
                for line in lines:
                    self.log(f"{self.name} # {printable(line)}")
                with self.changed:
                    self.console += chunk.decode(errors="replace").replace("\r", "")
                    self.heard = time.monotonic()
                    self.changed.notify_all()
        with self.changed:
            self.changed.notify_all()

    def wait_for(self, what, found, seconds, fatal=()):
        """Waits until `found(console)` is true and returns it. Ends early when the machine does or says a word of `fatal`."""
        began = time.monotonic()
        while True:
            with self.changed:
                if result := found(self.console):
                    return result
                for word in fatal:
                    if word in self.console:
                        # What the machine says in the next second is why.
                        self.changed.wait_for(lambda: False, 1)
                        line = next(line for line in self.console.splitlines() if word in line)
                        said = printable(line.encode()).strip()
                        raise MachineError(f'{self.name} said "{said}" while {what} was waited for')
                if not self.reader.is_alive():
                    raise MachineError(
                        f"{self.name} ended (exit code {self.process.wait()}) while {what} was waited for"
                    )
                left = began + seconds * self.scale - time.monotonic()
                if left <= 0:
                    raise MachineError(
                        f"{what} did not come from {self.name} within {seconds * self.scale:.0f} s"
                    )
                self.changed.wait(min(left, 1))
            self.notice_silence(what, began)

    def notice_silence(self, what, began):
        """Photographs a machine that has long said nothing, once: if the test is killed from outside, nothing else can."""
        heard = self.heard
        if heard == self.photographed or time.monotonic() - max(heard, began) < SILENCE:
            return
        self.photographed = heard
        self.log(f"{self.name}: nothing new on the console for {SILENCE} s while {what} is waited for")
        self.photograph()

    def wait_for_host(self, seconds=240, **expected):
        """Waits for the line by which a host says who it is, and compares it with what is expected."""
        text = self.wait_for("the host's line", LINE.search, seconds, GIVES_UP).group(1)
        said = dict(pair.split("=", 1) for pair in text.split())
        wrong = [
            f"{key}={said.get(key)}, not {value}"
            for key, value in expected.items()
            if said.get(key) != value
        ]
        if wrong:
            raise MachineError(f"{self.name} says {'; '.join(wrong)}")
        return said

    def send(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def _open_shell(self):
        # The console's shell edits lines, which garbles what is sent. A loop that reads whole lines takes its place.
        self.wait_for("a prompt on the serial console", PROMPT.search, 60)
        loop = 'stty -echo -onlcr; while IFS= read -r line; do eval "$line"; echo "@@$?@@"; done'
        self.send(f"\n{loop}\necho shell-is-ready\n")
        self.wait_for(
            "a shell on the serial console",
            lambda text: re.search(r"^shell-is-ready\n@@0@@", text, re.M),
            60,
        )
        self.shell = True

    def execute(self, command, seconds=60):
        """Runs a command in the machine; its exit code and output."""
        if not self.shell:
            self._open_shell()
        with self.changed:
            before = len(self.console)
        self.send(f"{{ {command}; }} 2>&1\n".replace("\n; }", "; }"))
        match = self.wait_for(
            f"the end of `{command}`",
            lambda text: re.compile(r"@@(\d+)@@\n").search(text, before),
            seconds,
        )
        return int(match.group(1)), self.console[before : match.start()]

    def succeed(self, command, seconds=60):
        code, output = self.execute(command, seconds)
        if code != 0:
            raise MachineError(
                f"`{command}` on {self.name} ended with exit code {code}: {output.strip()[-500:]}"
            )
        return output

    def fail(self, command, seconds=60):
        code, output = self.execute(command, seconds)
        if code == 0:
            raise MachineError(
                f"`{command}` on {self.name} succeeded, but it should not: {output.strip()[-500:]}"
            )
        return output

    def wait_until_succeeds(self, command, seconds=30):
        deadline = time.monotonic() + seconds * self.scale
        while True:
            code, output = self.execute(command, seconds)
            if code == 0:
                return output
            if time.monotonic() > deadline:
                raise MachineError(
                    f"`{command}` on {self.name} still fails after {seconds * self.scale:.0f} s: {output.strip()[-500:]}"
                )
            time.sleep(1)

    def power_off(self, seconds=60):
        """Has the machine shut itself down and waits for its end."""
        self.photograph()
        self.send("poweroff\n")
        began = time.monotonic()
        while self.process.poll() is None:
            if time.monotonic() - began > seconds * self.scale:
                raise MachineError(
                    f"{self.name} did not power off within {seconds * self.scale:.0f} s"
                )
            try:
                self.process.wait(1)
            except subprocess.TimeoutExpired:
                self.notice_silence("its end", began)
        if self.process.returncode != 0:
            raise MachineError(f"{self.name}'s QEMU ended with exit code {self.process.returncode}")

    def photograph(self):
        """The screen as a PNG in the output folder and, in one piece, on the log: a failed Nix build keeps nothing else."""
        if path := self.screenshot():
            with open(path, "rb") as image:
                text = base64.b64encode(image.read()).decode()
            name = os.path.basename(path)
            lines = [text[start : start + 76] for start in range(0, len(text), 76)]
            self.log(
                "\n".join(
                    [f"-----BEGIN SCREENSHOT {name}-----", *lines, f"-----END SCREENSHOT {name}-----"]
                )
            )

    def screenshot(self):
        """Writes <name>.png and returns its path, or None where there is no screen to take."""
        path = os.path.join(self.directory, f"{self.name}.png")
        if self.process.poll() is not None:
            self.log(f"{self.name}: no screenshot: QEMU has ended (exit code {self.process.returncode})")
            return None
        try:
            with socket.socket(socket.AF_UNIX) as monitor:
                # Long enough for a machine that is busy with other things.
                monitor.settimeout(30)
                # A relative path keeps within the 108 bytes that such an address may have.
                monitor.connect(os.path.relpath(self.monitor_path))
                stream = monitor.makefile("rw")
                for command in (
                    {"execute": "qmp_capabilities"},
                    {"execute": "screendump", "arguments": {"filename": path, "format": "png"}},
                ):
                    stream.write(json.dumps(command) + "\n")
                    stream.flush()
                    while "return" not in (reply := json.loads(stream.readline())):
                        if "error" in reply:
                            raise MachineError(reply["error"]["desc"])
        except (OSError, ValueError, MachineError) as error:
            self.log(f"{self.name}: no screenshot: {error}")
            return None
        return path

    def stop(self):
        """Ends QEMU, whatever it is doing."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.reader.join(5)


def printable(line):
    """A console line without what would move a terminal's cursor."""
    text = re.sub(
        r"\x1b(\[[0-9;?=]*[A-Za-z]|[()][A-Z0-9]|[A-Za-z])", "", line.decode(errors="replace")
    )
    return "".join(character for character in text if character.isprintable() or character == "\t")
