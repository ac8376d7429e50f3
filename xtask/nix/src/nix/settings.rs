//! Reads the few settings that decisions depend on from `nix config show`.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result};

use super::remote;

/// Nix's effective configuration (nix.conf(5)), as text values.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    values: BTreeMap<String, String>,
}

/// Who runs the builders of a system here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Builder {
    /// The processor of this machine.
    Native,
    /// Only builders that Nix is configured to reach over the network.
    Remote,
    /// An interpreter registered with binfmt_misc.
    Emulated,
    /// Nobody; the text says why and what to try.
    Nobody(String),
}

impl Settings {
    /// Reads the `name = value` lines that every version of Nix prints.
    pub fn parse(text: &str) -> Result<Self> {
        let values: BTreeMap<_, _> = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
            .collect();
        values.contains_key("system").then_some(Self { values }).context("Nix printed a configuration without `system`")
    }

    pub fn get(&self, name: &str) -> &str {
        self.values.get(name).map_or("", String::as_str)
    }

    pub fn words(&self, name: &str) -> impl Iterator<Item = &str> {
        self.get(name).split_whitespace()
    }

    /// The remote builders, one line each as in machines(5), with `@file` references followed.
    pub fn builders(&self) -> Vec<String> {
        let own = remote::lines(self.get("builders"));
        let followed = own.iter().flat_map(|line| match line.strip_prefix('@') {
            Some(file) => remote::lines(&fs::read_to_string(file).unwrap_or_default()),
            None => vec![line.clone()],
        });
        followed.collect()
    }

    /// Who would build for `system` with these remote builders: the native machine first, then a remote
    /// builder, then emulation.
    pub fn builder_of(&self, system: &str, remote: &[String]) -> Builder {
        if self.get("system") == system {
            return Builder::Native;
        }
        if remote.iter().any(|line| remote::systems(line, self.get("system")).any(|s| s == system)) {
            return Builder::Remote;
        }
        let listed = self.words("extra-platforms").any(|s| s == system);
        match (listed, native_enough(self.get("system"), system) || binfmt_is_registered(system)) {
            (true, _) if native_enough(self.get("system"), system) => Builder::Native,
            (true, true) => Builder::Emulated,
            (true, false) => Builder::Nobody(format!(
                "Nix would run {system} builders here (extra-platforms), but binfmt_misc has no interpreter for them\n  \
                 try: `ci/setup`, or `systemctl restart systemd-binfmt` after installing qemu-user-static"
            )),
            (false, _) => Builder::Nobody(format!(
                "nobody here builds for {system}: it is neither this machine's system ({}), nor in extra-platforms, \
                 nor has it a remote builder\n  try: `ci/setup` for emulation, a remote builder in `builders`, \
                 or `--system {}` to leave it out",
                self.get("system"),
                self.get("system")
            )),
        }
    }
}

/// An x86_64 processor runs i686 programs itself.
fn native_enough(here: &str, system: &str) -> bool {
    here == "x86_64-linux" && system == "i686-linux"
}

/// True if binfmt_misc has an enabled interpreter for the system's processor.
fn binfmt_is_registered(system: &str) -> bool {
    let cpu = system.split('-').next().unwrap_or_default();
    let names = [format!("qemu-{cpu}"), system.to_owned()];
    names.iter().any(|name| {
        let entry = fs::read_to_string(format!("/proc/sys/fs/binfmt_misc/{name}"));
        entry.is_ok_and(|text| text.starts_with("enabled"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_system_without_a_builder_is_refused_with_advice() {
        let settings = Settings::parse("system = x86_64-linux\nextra-platforms = i686-linux\nbuilders = \n").unwrap();
        assert_eq!(settings.builder_of("x86_64-linux", &[]), Builder::Native);
        assert_eq!(settings.builder_of("i686-linux", &[]), Builder::Native);
        let Builder::Nobody(why) = settings.builder_of("riscv64-linux", &[]) else { panic!("nobody builds riscv64") };
        assert!(why.contains("riscv64-linux") && why.contains("try:"), "{why}");
    }

    #[test]
    fn remote_builders_come_before_emulation() {
        let text = "system = x86_64-linux\nextra-platforms = aarch64-linux\nbuilders = ssh-ng://arm aarch64-linux,armv7l-linux - 4\n";
        let settings = Settings::parse(text).unwrap();
        assert_eq!(settings.builder_of("aarch64-linux", &settings.builders()), Builder::Remote);
        assert_eq!(settings.builders().len(), 1);
    }

    #[test]
    fn garbage_is_an_error() {
        assert!(Settings::parse("<html>").is_err());
    }
}
