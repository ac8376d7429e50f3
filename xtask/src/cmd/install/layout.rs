//! Reads from a host's configuration what its installation needs besides the system: disks, firmware, host keys.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::{diagnostic::usage, matrix::Host, nix::argv, process::Invocation, run::Run, ship::live::Firmware};

/// Devices below this are names that stand for a disk which the operator chooses (modules/disk-single.nix).
const CHOSEN: &str = "/run/drydock/disk/";

/// What the configuration says.
#[derive(Debug, Deserialize)]
pub struct Layout {
    /// The derivation of disko's program; `None` where the host has no layout.
    partition: Option<String>,
    /// The devices of its disks by their names.
    disks: BTreeMap<String, String>,
    /// What its boot loader needs; `None` if it does with both, or if that is not known.
    pub firmware: Option<Firmware>,
    /// The host keys of its ssh server, each as install-unit.sh reads it: type, bits and path.
    pub keys: Vec<String>,
}

/// What is taken from `nixosConfigurations`. Everything may be missing, as in a fleet without disko.
fn function(host: &str) -> String {
    format!(
        "all: let c = all.\"{host}\".config or {{ }}; loader = c.boot.loader or {{ }}; grub = loader.grub or {{ }};
          toDisk = builtins.any (device: device != \"nodev\") (grub.devices or [ ]);
          # What ssh-keygen(1) takes by itself where the configuration does not say.
          bits = key: toString (key.bits or (if key.type == \"rsa\" then 3072 else 256));
        in {{
          partition = c.system.build.destroyFormatMount.drvPath or null;
          disks = builtins.mapAttrs (_: disk: disk.device) (c.disko.devices.disk or {{ }});
          firmware = if loader.systemd-boot.enable or false then \"uefi\"
            else if ! grub.enable or false || toDisk && grub.efiSupport or false then null
            else if toDisk then \"bios\" else if grub.efiSupport or false then \"uefi\" else null;
          keys = if c.services.openssh.enable or false
            then map (key: \"${{key.type}} ${{bits key}} ${{key.path}}\") c.services.openssh.hostKeys else [ ];
        }}"
    )
}

impl Layout {
    /// Evaluates it. Errors: the configuration does not evaluate; exit code 2 where it has no disk layout.
    pub fn of(run: &Run<'_>, host: &Host) -> Result<Self> {
        let argv = argv::eval_apply(run.flake(), "nixosConfigurations", &function(host.name.as_str()));
        let evaluation = Invocation::new(argv).timeout(run.options.eval_timeout);
        let said = evaluation.read(run.cancel).with_context(|| format!("the disk layout of {}", host.name))?;
        let layout: Self = serde_json::from_str(&said).context("a layout in a form that is not known")?;
        if layout.partition.is_none() || layout.disks.is_empty() {
            return Err(usage(format!(
                "{} has no disk layout, so it is not known what to erase\n  try: disko, as in modules/disk-single.nix",
                host.name
            )));
        }
        Ok(layout)
    }

    /// Builds disko's program and tells its path.
    pub fn partition(&self, run: &Run<'_>) -> Result<String> {
        let drv = self.partition.as_deref().context("a layout has a program")?;
        let out = Invocation::new(argv::build_output(drv)).read(run.cancel)?;
        Ok(format!("{}/bin/disko-destroy-format-mount", out.trim()))
    }

    /// The device of every disk, with those that were chosen (`NAME=DEVICE`). Errors: exit code 2 for what the layout does
    /// not have, fixes, or leaves open.
    pub fn disks(&self, chosen: &[String]) -> Result<Vec<(String, String)>> {
        let mut choice = BTreeMap::new();
        for text in chosen {
            let pair = text.split_once('=').filter(|(_, device)| device.starts_with('/') && plain(device));
            let (name, device) = pair.ok_or_else(|| {
                usage(format!("--disk {text}: NAME=DEVICE was expected, for example main=/dev/disk/by-id/ata-…"))
            })?;
            let Some(fixed) = self.disks.get(name) else {
                let names: Vec<&str> = self.disks.keys().map(String::as_str).collect();
                return Err(usage(format!("the layout has no disk \"{name}\"; it has: {}", names.join(", "))));
            };
            if !fixed.starts_with(CHOSEN) {
                return Err(usage(format!(
                    "the layout fixes disk \"{name}\" to {fixed}; it cannot be moved to {device}"
                )));
            }
            if choice.insert(name, device).is_some() {
                return Err(usage(format!("--disk {name} was given twice")));
            }
        }
        let device = |(name, device): (&String, &String)| match choice.get(name.as_str()) {
            Some(chosen) => Ok((name.clone(), (*chosen).to_owned())),
            None if device.starts_with(CHOSEN) => Err(usage(format!(
                "the layout leaves open which disk \"{name}\" is\n  try: --disk {name}=DEVICE; `lsblk` on the machine shows them"
            ))),
            None if plain(device) && plain(name) => Ok((name.clone(), device.clone())),
            None => Err(usage(format!("the layout has an odd disk: {name:?} is {device:?}"))),
        };
        self.disks.iter().map(device).collect()
    }
}

/// True for what is one word, and one line, in what the machine gets and answers.
fn plain(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_control() || c.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_those_of_the_layout_and_only_an_open_one_is_chosen() {
        let disks = [("main", "/run/drydock/disk/main"), ("data", "/dev/disk/by-id/x")];
        let disks = disks.map(|(name, device)| (name.to_owned(), device.to_owned())).into();
        let layout = Layout { partition: None, disks, firmware: None, keys: Vec::new() };
        let said = |chosen: &[&str]| {
            let chosen: Vec<String> = chosen.iter().map(|text| (*text).to_owned()).collect();
            match layout.disks(&chosen) {
                Ok(disks) => disks.iter().map(|(name, device)| format!("{name}={device} ")).collect::<String>(),
                Err(error) => error.to_string(),
            }
        };
        assert_eq!(said(&["main=/dev/sda"]), "data=/dev/disk/by-id/x main=/dev/sda ");
        let rows: [(&[&str], &str); 7] = [
            (&[], "leaves open which disk \"main\" is"),
            (&["main"], "NAME=DEVICE"),
            (&["main=sda"], "NAME=DEVICE"),
            (&["main=/dev/sda\nx"], "NAME=DEVICE"),
            (&["root=/dev/sda"], "no disk \"root\"; it has: data, main"),
            (&["data=/dev/sda", "main=/dev/sdb"], "fixes disk \"data\""),
            (&["main=/dev/sda", "main=/dev/sdb"], "given twice"),
        ];
        for (chosen, words) in rows {
            assert!(said(chosen).contains(words), "{}", said(chosen));
        }
    }
}
