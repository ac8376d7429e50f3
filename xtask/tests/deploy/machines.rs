//! Machines to deploy to: each has a store, a /run and an ssh server of its own, and stand-ins for what systemd does.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::{PermissionsExt as _, symlink},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU8, Ordering},
    thread::{self, sleep},
    time::{Duration, Instant},
};

use camino::{Utf8Path, Utf8PathBuf};
use tempfile::TempDir;

use crate::synthetic::{Fleet, Ran};

/// A fleet with its machines; both go away with it.
pub struct Site {
    pub fleet: Fleet,
    names: Vec<String>,
    machines: Vec<Option<Machine>>,
    config: String,
    /// Holds the machines, outside of the fleet: every evaluation copies that.
    folder: TempDir,
}

struct Machine {
    root: Utf8PathBuf,
    address: SocketAddr,
    first: Child,
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The namespaces end with their first process, and everything in them.
        let _ = self.first.kill();
        let _ = self.first.wait();
    }
}

pub fn stand_ins() -> Utf8PathBuf {
    Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/deploy/stand-ins")
}

fn succeed(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Where the ssh server of the next machine listens. The address is that machine's alone: of two that start at once on
/// one address, each could find the same port free, and the second would be taken for the first.
fn free_address() -> SocketAddr {
    static MACHINES: AtomicU8 = AtomicU8::new(1);
    let address = Ipv4Addr::new(127, 77, 0, MACHINES.fetch_add(1, Ordering::Relaxed));
    TcpListener::bind((address, 0)).unwrap().local_addr().unwrap()
}

impl Site {
    /// So many hosts `m0`, `m1` and so on, each with its machine, which runs its system `one`.
    pub fn new(count: usize) -> Self {
        Self::with_rows(count, |_| String::new())
    }

    /// The same, with further lines for the row of each host.
    pub fn with_rows(count: usize, more: impl Fn(usize) -> String) -> Self {
        let names: Vec<String> = (0..count).map(|n| format!("m{n}")).collect();
        let expressions: Vec<String> = names.iter().map(|name| format!("system {name} ./systems/{name}")).collect();
        let rows: Vec<(&str, &str)> =
            names.iter().map(String::as_str).zip(expressions.iter().map(String::as_str)).collect();
        let fleet = Fleet::new(&rows);
        let flake = fs::read_to_string(fleet.path("flake.nix")).unwrap();
        // The sandbox has nothing that could make a folder; Nix itself has.
        let system = "system = name: source: derivation { inherit name; system = \"builtin\"; builder = \"builtin:buildenv\"; \
                      manifest = \"/none\"; derivations = [ \"true\" 5 1 source ]; };\n in { hydraJobs";
        let flake = flake.replace("in { hydraJobs", system).replace("system m", "system \"m");
        let flake = names.iter().fold(flake, |text, name| text.replace(&format!("\"{name} "), &format!("\"{name}\" ")));
        fs::write(fleet.path("flake.nix"), flake).unwrap();
        let matrix = fs::read_to_string(fleet.path("hosts/hosts.toml")).unwrap();
        let add =
            |text: String, n: usize| text.replace(&format!("[host.m{n}]\n"), &format!("[host.m{n}]\n{}", more(n)));
        fs::write(fleet.path("hosts/hosts.toml"), (0..count).fold(matrix, add)).unwrap();
        let mut site =
            Self { fleet, names, machines: Vec::new(), config: String::new(), folder: TempDir::new().unwrap() };
        site.names.clone().iter().for_each(|name| site.system(name, "one", &[]));
        site.fleet.xtask(&["build-all"]).expect(0, &[]);
        for file in ["key", "host-key"] {
            succeed("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", site.fleet.path(file).as_str()]);
        }
        let started: Vec<(Machine, String)> = thread::scope(|scope| {
            let start = |name: &String| {
                scope.spawn({
                    let (site, name) = (&site, name.clone());
                    move || site.start(&name, false)
                })
            };
            let threads: Vec<_> = site.names.iter().map(start).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (machine, config) in started {
            site.machines.push(Some(machine));
            site.config += &config;
        }
        site.write_config();
        let ssh = format!("#!/bin/sh\nexec /usr/bin/ssh -F '{}' \"$@\"\n", site.fleet.path("ssh_config"));
        fs::create_dir(site.fleet.path("bin")).unwrap();
        fs::write(site.fleet.path("bin/ssh"), ssh).unwrap();
        fs::set_permissions(site.fleet.path("bin/ssh"), fs::Permissions::from_mode(0o755)).unwrap();
        site
    }

    /// Writes what the system of a host is from now on: its version, and files, such as its `behaviour`.
    pub fn system(&self, name: &str, version: &str, files: &[(&str, &str)]) {
        let folder = self.fleet.path("systems").join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("bin")).unwrap();
        fs::create_dir_all(folder.join("etc/systemd/system")).unwrap();
        let program = "switch-to-configuration";
        fs::copy(stand_ins().join(program), folder.join("bin").join(program)).unwrap();
        symlink(format!("/nix/store/{version}/web.service"), folder.join("etc/systemd/system/web.service")).unwrap();
        fs::write(folder.join("nixos-version"), format!("26.05.20260701.{version}")).unwrap();
        fs::write(folder.join("kernel"), "kernel").unwrap();
        fs::write(folder.join("kernel-params"), "quiet").unwrap();
        files.iter().for_each(|(file, text)| fs::write(folder.join(file), text).unwrap());
    }

    /// Starts the machine of a host, with the system that is built of it, and tells how ssh finds it.
    fn start(&self, name: &str, small: bool) -> (Machine, String) {
        let root = Utf8Path::from_path(self.folder.path()).unwrap().join(name);
        let system = self.fleet.path("result").join(name).join("system").canonicalize_utf8().unwrap();
        fs::create_dir_all(root.join("bin")).unwrap();
        if small {
            fs::write(root.join("small"), "").unwrap();
        }
        let nix = ["--extra-experimental-features", "nix-command", "copy", "--no-check-sigs", "--to"];
        succeed("nix", &[&nix[..], &[&format!("local?root={root}"), system.as_str()]].concat());
        fs::create_dir_all(root.join("nix/var/nix/profiles")).unwrap();
        symlink(&system, root.join("nix/var/nix/profiles/system-1-link")).unwrap();
        symlink("system-1-link", root.join("nix/var/nix/profiles/system")).unwrap();
        fs::write(root.join("nix/var/boot-default"), system.as_str()).unwrap();
        fs::write(root.join("nix/boot-id"), "first").unwrap();
        let (key, host_key, address) = (self.fleet.path("key"), self.fleet.path("host-key"), free_address());
        let (ip, port) = (address.ip(), address.port());
        let config = format!(
            "ListenAddress {ip}\nPort {port}\nHostKey {host_key}\nAuthorizedKeysFile {key}.pub\nStrictModes no\nUsePAM no\n\
             PidFile /run/sshd.pid\nMaxStartups 100\n"
        );
        fs::write(root.join("sshd_config"), config).unwrap();
        let public = fs::read_to_string(format!("{host_key}.pub")).unwrap();
        let known = format!("[{ip}]:{port} {public}");
        fs::write(self.fleet.path(&format!("known-{name}")), known).unwrap();
        let config = format!(
            "Host {name}\n  HostName {ip}\n  Port {port}\n  User root\n  IdentityFile {key}\n  IdentitiesOnly yes\n  \
             UserKnownHostsFile {}\n",
            self.fleet.path(&format!("known-{name}"))
        );
        let folder = stand_ins();
        let argv = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", folder.join("machine").as_str()]
            .map(str::to_owned);
        let log = fs::File::create(root.join("log")).unwrap();
        let first = Command::new("unshare")
            .args(argv)
            .args([root.as_str(), system.as_str(), folder.as_str()])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let machine = Machine { root, address, first };
        let began = Instant::now();
        while TcpStream::connect(machine.address).is_err() {
            let log = fs::read_to_string(machine.root.join("log")).unwrap();
            assert!(began.elapsed() < Duration::from_secs(30), "no ssh server: {log}");
            sleep(Duration::from_millis(20));
        }
        (machine, config)
    }

    fn write_config(&self) {
        fs::write(self.fleet.path("ssh_config"), &self.config).unwrap();
    }

    fn machine(&self, name: &str) -> &Machine {
        let place = self.names.iter().position(|other| other == name).unwrap();
        self.machines[place].as_ref().unwrap()
    }

    /// Ends a machine.
    pub fn end(&mut self, name: &str) {
        let place = self.names.iter().position(|other| other == name).unwrap();
        self.machines[place] = None;
    }

    /// Starts a machine anew, with an empty store of 16 MiB.
    pub fn shrink(&mut self, name: &str) {
        let root = self.machine(name).root.clone();
        self.end(name);
        fs::remove_dir_all(root).unwrap();
        let (machine, config) = self.start(name, true);
        let place = self.names.iter().position(|other| other == name).unwrap();
        self.machines[place] = Some(machine);
        // The first line that says something counts.
        self.config.insert_str(0, &config);
        self.write_config();
    }

    /// Has a machine know nobody's key.
    pub fn lock_out(&self, name: &str) {
        let file = self.machine(name).root.join("sshd_config");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replace("AuthorizedKeysFile ", "AuthorizedKeysFile /none/")).unwrap();
        self.restart_sshd(name);
    }

    /// Has the ssh server of a machine read its configuration anew.
    pub fn restart_sshd(&self, name: &str) {
        self.inside(name, "kill $(cat /run/sshd.pid)");
        sleep(Duration::from_millis(300));
    }

    /// A file of a machine: in its `bin`, which comes first on its PATH, or in its `nix`.
    pub fn path(&self, name: &str, file: &str) -> Utf8PathBuf {
        self.machine(name).root.join(file)
    }

    /// Puts a program before all others of a machine.
    pub fn program(&self, name: &str, program: &str, script: &str) {
        let file = self.path(name, "bin").join(program);
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// What a command says in a machine.
    pub fn inside(&self, name: &str, command: &str) -> String {
        let ssh = self.fleet.path("bin/ssh");
        let output = Command::new(ssh).args([name, command]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// The version of the system that runs, and of the one that the machine starts with.
    pub fn versions(&self, name: &str) -> String {
        let version = |system: &str| {
            let text = self.inside(name, &format!("cat {system}/nixos-version"));
            text.rsplit('.').next().unwrap_or_default().to_owned()
        };
        let default = fs::read_to_string(self.path(name, "nix/var/boot-default")).unwrap();
        let profile = version("/nix/var/nix/profiles/system");
        assert_eq!(profile, version(default.trim()), "the profile of {name} and its boot default");
        format!("{} {profile}", version("/run/current-system"))
    }

    /// PATH with our ssh.
    pub fn env(&self) -> String {
        format!("{}:{}", self.fleet.path("bin"), std::env::var("PATH").unwrap())
    }

    pub fn xtask(&self, args: &[&str]) -> Ran {
        self.fleet.xtask_with(&[("PATH", &self.env())], args)
    }
}
