# Installs and switches by flakes in a network that has nothing but a binary cache and a repository; ci/tests/real runs this.
import concurrent.futures
import subprocess
import time

# Written before this script: `site`, what ci/tests/real made on this machine.
CACHE = "http://10.0.2.100"
# What NixOS writes by itself (units, /etc, the toplevel) would otherwise be built on the machine, with tools that
# this cache does not have.
LINES = [f"substituters = {CACHE}", "always-allow-substitutes = true", "require-sigs = false", "connect-timeout = 5"]
SETTINGS = "export NIX_CONFIG=$'" + "\\n".join(LINES) + "'; "
PROFILE = "/nix/var/nix/profiles/system"


def card() -> str:
    """A network card whose network is the cache, and ssh from this machine."""
    relay = f"guestfwd=tcp:10.0.2.100:80-cmd:{site['relay']}"
    ssh = f"hostfwd=tcp:127.0.0.1:{site['ssh_port']}-:22"
    return f"-netdev 'user,id=net,restrict=on,{relay},{ssh}' -device virtio-net-pci,netdev=net"


def connect(machine: "QemuMachine") -> None:
    """Gives the only card the address that DHCP would, and sees the cache."""
    # The driver of the card may come after multi-user.target: under emulation udev is still loading modules then.
    name = machine.wait_until_succeeds("ls /sys/class/net | grep -vx lo").strip()
    machine.succeed(f"ip link set {name} up", f"ip address replace 10.0.2.15/24 dev {name}")
    machine.wait_until_succeeds(f"curl --fail --silent --max-time 10 {CACHE}/nix-cache-info")


def timed(machine: "QemuMachine", what: str, command: str) -> None:
    began = time.time()
    machine.log(machine.succeed(SETTINGS + command + " 2>&1", timeout=5400))
    machine.log(f"TOOK {what}: {time.time() - began:.0f} s")


disk = disk_arguments()
with subtest("the medium has a network with a cache and nothing else"):
    live = boot("installer", "uefi", medium_arguments("cdrom") + disk + [card()], network=False)
    settled(live)
    live.screenshot("login-live")
    connect(live)
    live.fail("curl --silent --max-time 10 http://10.0.2.2")

with subtest("drydock-install --flake, from a git+http URI"):
    chosen = " ".join(f"--disk {name}=/dev/disk/by-id/virtio-{name}" for name in given["disks"])
    timed(live, "drydock-install --flake", f"drydock-install --yes {chosen} --flake 'git+{CACHE}/fleet.git?ref=one#example'")
    timed(live, "mount", "mount /dev/disk/by-partlabel/disk-main-root /mnt")
    assert live.succeed(f"readlink -f /mnt{PROFILE}").strip().endswith(site["one"]), "another system is installed"
    live.succeed("umount /mnt")

with subtest("nixos-install --flake, from a checkout"):
    live.succeed(f"git clone --quiet --branch one {CACHE}/fleet.git /root/fleet")
    live.succeed(". /etc/drydock/carried; $partition --yes-wipe-all-disks >&2")
    timed(live, "nixos-install --flake",
          "nixos-install --root /mnt --no-root-passwd --no-channel-copy --flake /root/fleet#example")
    assert live.succeed(f"readlink /mnt{PROFILE}-1-link").strip() == site["one"], "another system is installed"
    live.succeed("sync; umount -R /mnt")
    live.shutdown()

with subtest("the disk boots"):
    machine = boot("installed", "uefi", disk + [card()], network=False)
    settled(machine)
    machine.screenshot("login-installed")
    connect(machine)
    assert machine.succeed("readlink /run/current-system").strip() == site["one"]

with subtest("nixos-rebuild switch --flake, on the machine"):
    machine.succeed(f"mkdir /root/fleet; curl --fail --silent {CACHE}/two.tar | tar x -C /root/fleet")
    timed(machine, "nixos-rebuild switch", "nixos-rebuild switch --flake path:/root/fleet#example")
    assert machine.succeed("readlink /run/current-system").strip() == site["two"]
    machine.succeed("grep -qx two /etc/revision")
    settled(machine)

with subtest("nixos-rebuild switch --target-host, from here"):
    machine.wait_for_unit("sshd.service")
    began = time.time()
    done = subprocess.run(
        [site["nixos_rebuild"], "switch", "--no-reexec", "--flake", site["three_flake"],
         "--target-host", "admin@127.0.0.1", "--sudo"],
        env=site["environment"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=3600,
    )
    machine.log(done.stdout)
    assert done.returncode == 0, f"nixos-rebuild ended with {done.returncode}:\n{done.stdout[-2000:]}"
    machine.log(f"TOOK nixos-rebuild --target-host: {time.time() - began:.0f} s")
    assert machine.succeed("readlink /run/current-system").strip() == site["three"]
    settled(machine)



def drydock(*words: str, allowed: tuple[int, ...] = (0,)) -> str:
    """What the program says on its standard error, with the machine as its only target."""
    done = subprocess.run(
        [site["xtask"], *words, "--fleet", site["fleet"]],
        env=site["environment"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=3600,
    )
    machine.log(done.stdout)
    assert done.returncode in allowed, f"drydock {words} ended with {done.returncode}:\n{done.stdout[-2000:]}"
    return done.stdout


def branch(name: str) -> None:
    subprocess.run(["git", "-C", site["fleet"], "checkout", "--quiet", name], check=True)


with subtest("drydock deploy, from here"):
    branch("four")
    began = time.time()
    assert "1 confirmed" in drydock("deploy", "example", "--yes", "--confirm-timeout", "900")
    machine.log(f"TOOK drydock deploy: {time.time() - began:.0f} s")
    machine.succeed("grep -qx four /etc/revision")
    assert "same" in drydock("status", "example")
    settled(machine)

with subtest("what breaks sshd is undone by the machine itself"):
    branch("mute")
    began = time.time()
    assert "1 rolled back" in drydock("deploy", "example", "--yes", "--confirm-timeout", "240", allowed=(4,))
    machine.log(f"TOOK drydock deploy without sshd: {time.time() - began:.0f} s")
    machine.succeed("grep -qx four /etc/revision", "systemctl is-active sshd.service")
    assert machine.succeed(f"readlink -f {PROFILE}") == machine.succeed("readlink -f /run/current-system")

with subtest("drydock rollback, from here"):
    began = time.time()
    assert "1 confirmed" in drydock("rollback", "example", "--yes", "--confirm-timeout", "900")
    machine.log(f"TOOK drydock rollback: {time.time() - began:.0f} s")
    assert machine.succeed("readlink /run/current-system").strip() == site["three"]
    assert "differs" in drydock("status", "example")
    settled(machine)

with subtest("and comes back after a restart"):
    machine.shutdown()
    again = boot("restarted", "uefi", disk + [card()], network=False)
    settled(again)
    again.succeed("grep -qx three /etc/revision")
    again.shutdown()

with subtest("drydock install, from here"):
    branch("four")
    machine = boot("medium-again", "uefi", medium_arguments("cdrom") + disk + [card()], network=False)
    settled(machine)
    connect(machine)
    machine.succeed(f"mkdir -p -m 700 /root/.ssh; echo '{site['public_key']}' >/root/.ssh/authorized_keys")
    machine.wait_for_unit("sshd.service")
    names = [f"/dev/disk/by-id/virtio-{name}" for name in given["disks"]]
    words = ["install", "example", "--to", f"ssh://root@127.0.0.1:{site['ssh_port']}", "--yes", "--reboot-timeout", "3600"]
    for name, device in zip(given["disks"], names):
        words += ["--disk", f"{name}={device}", "--erase", device]
    with concurrent.futures.ThreadPoolExecutor() as beside:
        began = time.time()
        installation = beside.submit(drydock, *words)
        # This QEMU ends instead of restarting, and the next one has no medium.
        while machine.process.poll() is None and not installation.done():
            time.sleep(1)
        assert not installation.done(), installation.result()
        machine.wait_for_shutdown()
        machine = boot("installed-again", "uefi", disk + [card()], network=False)
        settled(machine)
        connect(machine)
        assert "1 confirmed" in installation.result()
    machine.log(f"TOOK drydock install: {time.time() - began:.0f} s")
    machine.succeed("grep -qx four /etc/revision")
    machine.shutdown()
