//! Flags of the verbs with which something leaves this machine.

use camino::Utf8PathBuf;
use clap::Args;

use super::FleetFlags;

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

Exit codes: 0 written and read back, 1 that failed, 2 wrong use or a device that is not written,
3 this machine lacks something, 130 interrupted.")]
pub struct Write {
    /// Which host
    #[arg(value_name = "HOST")]
    pub host: String,
    /// Which device [default: lists them and asks]
    #[arg(value_name = "DEVICE")]
    pub device: Option<Utf8PathBuf>,
    /// Write to this file in place of a device
    #[arg(long, value_name = "PATH", conflicts_with = "device")]
    pub file: Option<Utf8PathBuf>,
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
    /// The image, its hash and the device, as JSON
    pub order: String,
}
