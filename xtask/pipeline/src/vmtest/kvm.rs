//! Finds out whether KVM works here: a virtual machine is really started, because /dev/kvm exists
//! on many machines where it aborts or hangs (nested virtualisation, container hosts, CI runners).

use std::{
    fmt, fs,
    os::unix::fs::MetadataExt as _,
    time::{Duration, Instant},
};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{Access, access};
use serde::{Deserialize, Serialize};

use super::kvm_guest;
use crate::{
    files::Temporary,
    nix::{Kept, cache_folder},
    process::{Cancel, End, Invocation, find_on_path},
};

/// A working KVM answers within 0.1 s; this leaves room for a machine that is busy building.
const DEADLINE: Duration = Duration::from_secs(5);

/// Where Linux offers KVM.
const DEVICE: &str = "/dev/kvm";

/// What is known of this machine's KVM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Kvm {
    /// A guest ran to its end.
    Works,
    /// There is no device.
    Absent,
    /// The device is there, but not for this user.
    Denied,
    /// The device is there and no guest runs; the text says how it ended.
    Broken { how: String },
    /// Nothing could be tried; the text says why.
    Untried { why: String },
}

impl Kvm {
    pub fn works(&self) -> bool {
        *self == Self::Works
    }

    /// What a person can do about it.
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Works => None,
            Self::Absent => Some(
                "load kvm_intel or kvm_amd, enable virtualisation in the firmware setup, or enable nested virtualisation on the host of this VM; without it tests run under TCG, several times slower",
            ),
            Self::Denied => {
                Some("add yourself to the group kvm (`sudo usermod -aG kvm $USER`, then log in again), or run as root")
            }
            Self::Broken { .. } => Some(
                "usually nested virtualisation that the outer host does not carry through: fix it there; until then tests run under TCG",
            ),
            Self::Untried { .. } => Some("install QEMU: `ci/setup` does on Debian and Ubuntu"),
        }
    }
}

impl fmt::Display for Kvm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Works => f.write_str("KVM works: a guest ran"),
            Self::Absent => write!(f, "no KVM: {DEVICE} does not exist"),
            Self::Denied => write!(f, "no KVM: {DEVICE} may not be opened by this user"),
            Self::Broken { how } => write!(f, "KVM is broken: {DEVICE} exists, but {how}"),
            Self::Untried { why } => write!(f, "KVM was not tried: {why}"),
        }
    }
}

/// What is known of KVM since this machine was started. That it is broken is kept, because finding it out can take five
/// seconds; everything else is found out again.
pub fn known(cancel: &Cancel) -> Kvm {
    let early = early(DEVICE.into());
    let kept = || serde_json::from_str(&remembered(&program()?)?.recall()?).ok();
    match early.or_else(kept) {
        Some(Kvm::Broken { how }) => {
            Kvm::Broken { how: format!("{how} (found out earlier; `cargo xtask doctor` tries it again)") }
        }
        Some(verdict) => verdict,
        None => probe(cancel),
    }
}

/// Where it is kept that KVM is broken: for this boot of the machine, this device and this QEMU.
fn remembered(qemu: &Utf8Path) -> Option<Kept> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let device = fs::metadata(DEVICE).ok()?;
    let about = format!("{} {} {} {}", boot.trim(), device.ino(), device.rdev(), device.ctime());
    Kept::of(qemu, cache_folder()?.join("kvm"), &about)
}

/// The verdict where it takes no guest.
fn early(device: &Utf8Path) -> Option<Kvm> {
    if !device.exists() {
        return Some(Kvm::Absent);
    }
    access(device.as_std_path(), Access::READ_OK | Access::WRITE_OK).is_err().then_some(Kvm::Denied)
}

/// Finds out, in at most six seconds. QEMU is the one on PATH for this processor, else any in the Nix store: a
/// NixOS machine need not have one installed to run tests that bring their own.
pub fn probe(cancel: &Cancel) -> Kvm {
    let Some(qemu) = program() else {
        let name = format!("qemu-system-{}", std::env::consts::ARCH);
        return Kvm::Untried { why: format!("{name} is neither on PATH nor in the Nix store") };
    };
    let verdict = Probe::of(qemu.clone()).run(cancel);
    if let (Some(known), Ok(text)) = (remembered(&qemu), serde_json::to_string(&verdict)) {
        match verdict {
            Kvm::Broken { .. } => known.remember(&text),
            // What an earlier attempt found is no longer so.
            _ if known.recall().is_some() => known.remember("nothing"),
            _ => {}
        }
    }
    verdict
}

fn program() -> Option<Utf8PathBuf> {
    let name = format!("qemu-system-{}", std::env::consts::ARCH);
    find_on_path(&name).or_else(|| in_store("/nix/store".into(), &name))
}

fn in_store(store: &Utf8Path, program: &str) -> Option<Utf8PathBuf> {
    let entries = store.read_dir_utf8().ok()?.flatten();
    let packages = entries.filter(|entry| entry.file_name().contains("-qemu"));
    packages
        .map(|entry| entry.path().join("bin").join(program))
        .find(|file| access(file.as_std_path(), Access::EXEC_OK).is_ok())
}

/// One attempt, with everything it depends on.
struct Probe {
    qemu: Utf8PathBuf,
    device: Utf8PathBuf,
    accel: String,
    deadline: Duration,
}

impl Probe {
    fn of(qemu: Utf8PathBuf) -> Self {
        Self { qemu, device: DEVICE.into(), accel: "kvm".into(), deadline: DEADLINE }
    }

    fn run(&self, cancel: &Cancel) -> Kvm {
        if let Some(verdict) = early(&self.device) {
            return verdict;
        }
        let rom = match Rom::write(std::env::consts::ARCH) {
            Ok(rom) => rom,
            Err(why) => return Kvm::Untried { why },
        };
        let started = Instant::now();
        let invocation = Invocation::new(self.argv(&rom.path)).timeout(self.deadline);
        match invocation.capture(cancel) {
            Ok(said) if said.stdout.contains(kvm_guest::GREETING.trim_end()) => Kvm::Works,
            Ok(said) if said.end == End::Cancelled => Kvm::Untried { why: "interrupted".into() },
            Ok(said) if said.end == End::TimedOut => Kvm::Broken {
                how: format!(
                    "a guest that needs 0.1 s did not come to its end in {:.0} s",
                    started.elapsed().as_secs_f64()
                ),
            },
            Ok(said) => {
                // The first line of QEMU's complaint is the cause, the rest are consequences.
                let first = said.stderr.lines().find(|line| !line.trim().is_empty()).unwrap_or("QEMU said nothing");
                let end = said.end;
                Kvm::Broken { how: format!("the guest did not run ({end}): {}", first.trim()) }
            }
            Err(error) => Kvm::Untried { why: format!("{error:#}") },
        }
    }

    /// The processor is the host's, as in the tests: a fault that only shows with it is a fault.
    fn argv(&self, rom: &Utf8Path) -> Vec<String> {
        let accel = match self.device == DEVICE {
            true => self.accel.clone(),
            false => format!("{},device={}", self.accel, self.device),
        };
        let cpu = if self.accel == "kvm" { "host" } else { "max" };
        let machine: &[&str] = match (std::env::consts::ARCH, cpu) {
            ("aarch64", "host") => &["-machine", "virt,gic-version=host"],
            ("aarch64", _) => &["-machine", "virt"],
            _ => &["-machine", "q35", "-device", "isa-debug-exit,iobase=0xf4,iosize=4"],
        };
        let head = [self.qemu.as_str(), "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"];
        let tail = ["-accel", &accel, "-cpu", cpu, "-m", "64", "-bios", rom.as_str(), "-serial", "stdio"];
        head.iter().chain(machine).chain(&tail).map(|&word| word.to_owned()).collect()
    }
}

/// The guest as a file, for as long as QEMU needs it.
struct Rom {
    path: Utf8PathBuf,
    _folder: Temporary,
}

impl Rom {
    fn write(arch: &str) -> Result<Self, String> {
        let bytes = match arch {
            "x86_64" => kvm_guest::x86_64(),
            "aarch64" => kvm_guest::aarch64(),
            other => return Err(format!("there is no guest for {other} to try it with")),
        };
        let folder = Temporary::new().map_err(|error| format!("{error:#}"))?;
        let path = folder.join("guest.rom");
        fs::write(&path, bytes).map_err(|error| format!("cannot write {path}: {error}"))?;
        Ok(Self { path, _folder: folder })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stand-in for QEMU or the device, as an executable file of its own.
    fn file(dir: &Utf8Path, name: &str, text: &str, mode: u32) -> Utf8PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn check(qemu: &Utf8Path, device: &Utf8Path, expected: fn(&Kvm) -> bool) {
        check_within(Duration::from_secs(2), qemu, device, expected);
    }

    fn check_within(deadline: Duration, qemu: &Utf8Path, device: &Utf8Path, expected: fn(&Kvm) -> bool) {
        let probe = Probe { qemu: qemu.to_owned(), device: device.to_owned(), accel: "kvm".into(), deadline };
        let started = Instant::now();
        let verdict = probe.run(&Cancel::default());
        assert!(expected(&verdict), "{verdict}");
        assert!(started.elapsed() < Duration::from_secs(10), "{verdict}");
        assert_eq!(verdict.works(), verdict.remedy().is_none());
    }

    #[test]
    fn every_way_in_which_kvm_fails_is_told_apart() {
        let dir = Temporary::new().unwrap();
        let device = file(&dir, "device", "", 0o600);
        let hangs = file(&dir, "hangs", "#!/bin/sh\nexec sleep 60\n", 0o700);
        let aborts =
            file(&dir, "aborts", "#!/bin/sh\necho 'KVM internal error. Suberror: 1' >&2\nkill -ABRT $$\n", 0o700);
        let works = file(&dir, "works", "#!/bin/sh\nprintf 'drydock: kvm works\\r\\n'; exit 85\n", 0o700);
        check(&works, "/no/such/device".into(), |v| *v == Kvm::Absent);
        check(&works, &device, Kvm::works);
        check(&hangs, &device, |v| matches!(v, Kvm::Broken { how } if how.contains("did not come to its end")));
        check(&aborts, &device, |v| matches!(v, Kvm::Broken { how } if how.contains("KVM internal error")));
        check("/no/qemu".into(), &device, |v| matches!(v, Kvm::Untried { why } if why.contains("/no/qemu")));
    }

    #[test]
    fn a_qemu_in_the_store_will_do() {
        let store = Temporary::new().unwrap();
        fs::create_dir_all(store.join("x-qemu-host-cpu-only-10/bin")).unwrap();
        fs::create_dir_all(store.join("y-qemu-utils/bin")).unwrap();
        assert_eq!(in_store(&store, "true"), None);
        std::os::unix::fs::symlink("/bin/true", store.join("x-qemu-host-cpu-only-10/bin/true")).unwrap();
        assert_eq!(in_store(&store, "true"), Some(store.join("x-qemu-host-cpu-only-10/bin/true")));
    }

    #[test]
    #[ignore = "needs QEMU; `cargo chores check` runs it and says where there is none"]
    fn with_qemu_a_regular_file_is_no_kvm_and_the_guest_runs_under_tcg() {
        let qemu = program().unwrap();
        let dir = Temporary::new().unwrap();
        let device = file(&dir, "regular", "", 0o600);
        // The real program takes its time to start on a busy machine, and it is its own words that are wanted.
        let words = |v: &Kvm| matches!(v, Kvm::Broken { how } if how.contains("kvm"));
        check_within(Duration::from_secs(9), &qemu, &device, words);
        // The guest itself is sound: software emulation runs it to its end.
        let tcg = Probe { accel: "tcg".into(), device: DEVICE.into(), ..Probe::of(qemu) };
        let rom = Rom::write(std::env::consts::ARCH).unwrap();
        let said = words_of(&Invocation::new(tcg.argv(&rom.path)).timeout(Duration::from_secs(20)));
        assert!(said.contains(kvm_guest::GREETING.trim_end()), "{said}");
    }

    fn words_of(invocation: &Invocation) -> String {
        let said = invocation.capture(&Cancel::default()).unwrap();
        format!("{}{} ({})", said.stdout, said.stderr, said.end)
    }

    #[test]
    #[ignore = "needs QEMU; `cargo chores check` runs it and says where there is none"]
    fn with_qemu_the_other_processors_guest_runs_too() {
        let qemu = find_on_path("qemu-system-aarch64").unwrap();
        let rom = Rom::write("aarch64").unwrap();
        let argv = [qemu.as_str(), "-nodefaults", "-display", "none", "-machine", "virt", "-cpu", "cortex-a57"];
        let rest = ["-m", "64", "-accel", "tcg", "-bios", rom.path.as_str(), "-serial", "stdio"];
        let said = words_of(&Invocation::new(argv.into_iter().chain(rest)).timeout(Duration::from_secs(20)));
        assert!(said.contains(kvm_guest::GREETING.trim_end()), "{said}");
    }
}
