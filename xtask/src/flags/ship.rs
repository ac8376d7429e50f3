//! Flags of the verbs with which something leaves this machine.

use camino::Utf8PathBuf;
use clap::Args;

use super::{FleetFlags, SelectionFlags, StageFlags};
use crate::{destination::Destination, ship::guard::Keep};

/// Write a host's live medium to a USB stick or a card, and read it back.
///
/// Builds it first, which takes a moment when nothing has changed. Shows what is on the device and asks before that is
/// lost. Only whole disks on USB and cards are offered; never one that is mounted, swapped to, read-only, too small, or
/// a member of LVM, RAID, ZFS or LUKS. Where it takes root, `sudo` is started for the writing alone. What is not
/// written to the end and compared is wiped at both ends, so that nothing boots from it.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask write rescue                         lists the devices, asks which one
  cargo xtask write rescue /dev/sdb                asks before it is lost
  cargo xtask write rescue --yes /dev/disk/by-id/usb-…   asks nothing
  cargo xtask write rescue --file rescue.img       to a file in place of a device
  cargo xtask write --all-attached web-1=sdb web-2=sdc   two side by side

Exit codes: 0 written and read back, 1 that failed, 2 wrong use or a device that is not written, \
3 this machine lacks something, 130 interrupted.")]
pub struct Write {
    /// Which host
    #[arg(value_name = "HOST", required_unless_present = "all_attached")]
    pub host: Option<String>,
    /// Which device [default: lists them and asks]
    #[arg(value_name = "DEVICE")]
    pub device: Option<Utf8PathBuf>,
    /// Write to this file in place of a device
    #[arg(long, value_name = "PATH", conflicts_with = "device")]
    pub file: Option<Utf8PathBuf>,
    /// Write several devices side by side, after asking once
    #[arg(long, value_name = "HOST=DEVICE", num_args = 1.., conflicts_with_all = ["host", "device", "file"])]
    pub all_attached: Vec<String>,
    /// Do not ask; DEVICE is then a name below /dev/disk/by-id, or a loop device
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub fleet: FleetFlags,
    /// Take what an earlier run left in the results folder, whatever the sources are now
    #[arg(long)]
    pub no_build: bool,
    /// The results folder, for --no-build and the hashes of images
    #[arg(long, value_name = "DIR", default_value = "result")]
    pub out_link: Utf8PathBuf,
}

/// Carry out what `write` has agreed on with a person; it is what `sudo` starts
#[derive(Clone, Debug, Args)]
#[command(hide = true)]
pub struct WriteDevice {
    /// Images, their hashes and the devices, as JSON
    pub orders: String,
}

/// Install a host on a machine that runs a live medium and is reached by ssh, and see that it starts.
///
/// Builds the system and its disk layout, looks at the machine and shows what will be erased; the host's name has to be typed
/// for it. Then the machine partitions its disks with disko, gets the system, or takes it from its medium where that carries
/// it, installs it and restarts. It counts as installed when it answers with the host key that was made or put there, and
/// runs that system. Without a network, `drydock-install` on the medium does the same.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask install web --to admin@10.0.0.7 --disk main=/dev/sda       asks before the disk is erased
  cargo xtask install web --to admin@10.0.0.7 --extra-files secrets/web  with files that the store must not have
  cargo xtask install web --to admin@10.0.0.7 --disk main=/dev/disk/by-id/ata-… --yes --erase /dev/disk/by-id/ata-…
                                                                         asks nothing

Exit codes: 0 installed and seen, 1 that failed, 5 installed but not seen again, or lost on the way, 2 wrong use,
3 this machine lacks something, 130 interrupted.")]
pub struct Install {
    /// Which host
    #[arg(value_name = "HOST")]
    pub host: String,
    /// Where the live medium is reached, as [ssh://][user@]address[:port]; the host's `target` is never assumed
    #[arg(long, value_name = "ADDRESS")]
    pub to: Destination,
    #[command(flatten)]
    pub fleet: FleetFlags,
    #[command(flatten)]
    pub stages: StageFlags,
    /// The disk for NAME in a layout that leaves the choice; may be given several times
    #[arg(long, value_name = "NAME=DEVICE")]
    pub disk: Vec<String>,
    /// Do not ask; every disk that is erased is then named by --erase
    #[arg(long, requires = "erase")]
    pub yes: bool,
    /// A disk that may be erased, by its name below /dev/disk/by-id on the machine, or by its path if it has none there
    #[arg(long, value_name = "DISK", requires = "yes")]
    pub erase: Vec<String>,
    /// Put what is in this folder below / of the new system, owned by root; it never passes through the store
    #[arg(long, value_name = "DIR")]
    pub extra_files: Option<Utf8PathBuf>,
    /// Leave the machine in its live medium
    #[arg(long)]
    pub no_reboot: bool,
    /// Seconds to wait for the machine that restarts
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    pub reboot_timeout: u64,
    /// Print what became of the machine as JSON on stdout
    #[arg(long)]
    pub json: bool,
}

/// Bring the systems of hosts to their machines by ssh; a machine that is not confirmed goes back by itself.
///
/// Builds first, then asks every machine, shows what changes and asks once. A machine arms its way back, activates in a
/// unit that outlives the connection, and is verified over new ones: no unit failed that had not failed, the `checks` of
/// hosts.toml succeed, it still takes connections. Only then is the change confirmed and becomes the boot default. What
/// is not confirmed in time, the machine undoes.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask deploy                        every host, after asking
  cargo xtask deploy 'web-*' --yes          some, without asking
  cargo xtask deploy --wave canary,rest     the tag canary first, the others if all is well
  cargo xtask deploy web --boot --reboot    with a restart instead of a switch

Where: `target` in hosts/hosts.toml, else the host's name, and ssh's own configuration.
Exit codes: 0 all machines are as they should be, 1 some are not, 4 some went back and nothing worse happened, \
5 of some it is not known what they run, 2 wrong use, 3 this machine lacks something, 130 interrupted.")]
pub struct Deploy {
    /// Host names or globs; all hosts that have a system if none is given
    #[arg(value_name = "HOST")]
    pub hosts: Vec<String>,
    /// Only hosts of this system, such as aarch64-linux; may be given several times
    #[arg(long, value_name = "SYSTEM")]
    pub system: Vec<String>,
    /// Only hosts that carry this tag; may be given several times
    #[arg(long, value_name = "TAG")]
    pub tag: Vec<String>,
    #[command(flatten)]
    pub fleet: FleetFlags,
    #[command(flatten)]
    pub stages: StageFlags,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Say what the machines would do; copies the systems and changes nothing else
    #[arg(long, conflicts_with_all = ["boot", "test", "reboot"])]
    pub dry_activate: bool,
    /// Activate, but do not make it what the machines start with
    #[arg(long, conflicts_with_all = ["boot", "reboot"])]
    pub test: bool,
    /// Make it what the machines start with, but do not activate
    #[arg(long)]
    pub boot: bool,
    /// Restart the machines afterwards and wait for them
    #[arg(long)]
    pub reboot: bool,
    /// Tags whose hosts are deployed to one after another; `rest` is all others. A failure keeps the next wave from starting
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    pub wave: Vec<String>,
    /// Go on with the next wave even if a machine failed
    #[arg(long)]
    pub keep_going: bool,
    /// Begin with no further machine once more than so many failed
    #[arg(long, value_name = "N")]
    pub max_failed: Option<usize>,
    /// Machines at once
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..))]
    pub parallel: u8,
    /// Seconds after which a machine undoes what was not confirmed
    #[arg(long, value_name = "SECONDS", default_value_t = 180, value_parser = clap::value_parser!(u64).range(1..86400))]
    pub confirm_timeout: u64,
    /// Seconds to wait for a machine that restarts
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub reboot_timeout: u64,
    /// Let the machines fetch from their own caches what they can
    #[arg(long)]
    pub substitute_on_destination: bool,
    /// Print what became of the machines as JSON on stdout
    #[arg(long)]
    pub json: bool,
}

impl Deploy {
    pub fn selection(&self) -> SelectionFlags {
        let (hosts, system, tag) = (self.hosts.clone(), self.system.clone(), self.tag.clone());
        SelectionFlags { hosts, system, tag, ..Default::default() }
    }

    pub fn parallel(&self) -> usize {
        usize::from(self.parallel)
    }

    pub fn keep(&self) -> Keep {
        match (self.test, self.boot) {
            (true, _) => Keep::Test,
            (_, true) => Keep::Boot,
            _ => Keep::Switch,
        }
    }

    /// What is done, for the question.
    pub fn what(&self) -> &'static str {
        match (self.keep(), self.reboot) {
            (Keep::Switch, false) => "Activate it and make it the boot default",
            (Keep::Switch, true) => "Activate it, make it the boot default and restart",
            (Keep::Test, _) => "Activate it until the next start",
            (Keep::Boot, false) => "Make it the boot default",
            (Keep::Boot, true) => "Make it the boot default and restart",
        }
    }
}

/// Bring a machine back to the generation before, guarded like a deployment.
///
/// The generation of its system profile before the one that it starts with is activated, verified and confirmed as `deploy`
/// does it. Nothing is built or copied.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask rollback web          after asking
  cargo xtask rollback web --yes    without

Exit codes: as of `deploy`.")]
pub struct Rollback {
    /// Which host
    #[arg(value_name = "HOST")]
    pub host: String,
    #[command(flatten)]
    pub fleet: FleetFlags,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Seconds after which the machine undoes what was not confirmed
    #[arg(long, value_name = "SECONDS", default_value_t = 180, value_parser = clap::value_parser!(u64).range(1..86400))]
    pub confirm_timeout: u64,
    /// Print what became of the machine as JSON on stdout
    #[arg(long)]
    pub json: bool,
}

/// Say of each machine what it runs, and how far that is from the fleet.
///
/// RUNS is the version of the system, and its generation. FLEET says whether that is the system that the sources evaluate
/// to; BEHIND, how many days its nixpkgs is older than the one in flake.lock; RESTART, whether kernel, initrd, modules or
/// parameters wait for one.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask status                    every host that has a system
  cargo xtask status 'web-*' --json     for programs; docs/deploy.md documents the form
  cargo xtask status --no-eval          without evaluating the hosts

Exit codes: 0 every machine answered, 1 some did not, 2 wrong use, 3 this machine lacks something.")]
pub struct Status {
    /// Host names or globs; all hosts that have a system if none is given
    #[arg(value_name = "HOST")]
    pub hosts: Vec<String>,
    /// Only hosts that carry this tag; may be given several times
    #[arg(long, value_name = "TAG")]
    pub tag: Vec<String>,
    #[command(flatten)]
    pub fleet: FleetFlags,
    /// Do not evaluate the hosts, and leave out what that would tell
    #[arg(long)]
    pub no_eval: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
