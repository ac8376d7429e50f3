//! Finds how an installed system can be started without installing it.

use std::fs;

use anyhow::{Context as _, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;

use crate::{
    diagnostic::lacking,
    nix::argv,
    process::{Cancel, Invocation, find_on_path},
};

/// Ways to start a system that is on no disk yet.
#[derive(Debug)]
pub enum Uninstalled {
    /// Its initrd takes any file system that holds the system's store path.
    Direct(Direct),
    /// Its initrd knows only the disks of its own configuration.
    NixOs,
}

/// What `manifest.json` of the embedded fleet's systems says (ci/demo/build/toplevel.nix).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Direct {
    format: String,
    format_version: u32,
    pub kernel: Utf8PathBuf,
    pub initrd: Utf8PathBuf,
    kernel_params: String,
    init: String,
}

impl Uninstalled {
    pub fn of(out: &Utf8Path) -> Result<Self> {
        let manifest = out.join("manifest.json");
        if let Ok(text) = fs::read_to_string(&manifest) {
            let direct: Direct =
                serde_json::from_str(&text).with_context(|| format!("{manifest} is not understood"))?;
            if (direct.format.as_str(), direct.format_version) != ("drydock-demo-system", 1) {
                bail!("{manifest} is of the form {} {}, which is not known", direct.format, direct.format_version);
            }
            return Ok(Self::Direct(direct));
        }
        match out.join("nixos-version").exists() {
            true => Ok(Self::NixOs),
            false => bail!("{out} is no NixOS system (it has no nixos-version) and has no manifest.json"),
        }
    }
}

impl Direct {
    pub fn params(&self, out: &Utf8Path) -> String {
        let params = self.kernel_params.trim();
        format!("{params} init={out}/{} drydock.root=ext4", self.init)
    }

    /// Makes a disk image with the whole closure in `dir`, which holds copies of it meanwhile.
    pub fn disk(&self, out: &Utf8Path, dir: &Utf8Path, cancel: &Cancel) -> Result<Utf8PathBuf> {
        let mke2fs = find_on_path("mke2fs")
            // An ordinary user's PATH lacks it in Debian.
            .or_else(|| ["/usr/sbin/mke2fs", "/sbin/mke2fs"].map(Utf8PathBuf::from).into_iter().find(|p| p.is_file()))
            .ok_or_else(|| lacking("mke2fs is not installed\n  try: install e2fsprogs"))?;
        let closure = Invocation::new(argv::requisites(&[out.as_str()])).read(cancel)?;
        let root = dir.join("root");
        fs::create_dir_all(root.join("nix/store")).with_context(|| format!("cannot make {root}"))?;
        let target = root.join("nix/store");
        let copy =
            ["cp", "--archive", "--no-preserve=ownership"].into_iter().chain(closure.lines()).chain([target.as_str()]);
        Invocation::new(copy).read(cancel)?;
        let size = Invocation::new(["du", "--summarize", "--block-size=1M", root.as_str()]).read(cancel)?;
        let mib: u64 = size.split_whitespace().next().and_then(|n| n.parse().ok()).context("`du` said no number")?;
        let image = dir.join("disk.img");
        // A quarter more than the files for the file system's tables, and room to write.
        let blocks = format!("{}M", mib * 5 / 4 + 64);
        // The ext4 driver reads ext2 too, and the initrd's kernel modules cannot check ext4's checksums.
        let make = [mke2fs.as_str(), "-q", "-F", "-t", "ext2", "-d", root.as_str(), image.as_str(), &blocks];
        Invocation::new(make).read(cancel)?;
        Invocation::new(["chmod", "-R", "u+w", root.as_str()]).read(cancel)?;
        fs::remove_dir_all(&root).with_context(|| format!("cannot remove {root}"))?;
        Ok(image)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_are_told_apart_by_what_they_hold() {
        let dir = crate::files::Temporary::new().unwrap();
        assert!(Uninstalled::of(&dir).unwrap_err().to_string().contains("no NixOS system"));
        fs::write(dir.join("nixos-version"), "26.05").unwrap();
        assert!(matches!(Uninstalled::of(&dir).unwrap(), Uninstalled::NixOs));
        let manifest = r#"{"format":"drydock-demo-system","formatVersion":1,"kernel":"/k","initrd":"/i",
            "kernelParams":"console=tty0 panic=10","init":"init","host":"a"}"#;
        fs::write(dir.join("manifest.json"), manifest).unwrap();
        let Uninstalled::Direct(direct) = Uninstalled::of(&dir).unwrap() else { panic!("the manifest decides") };
        assert_eq!(
            direct.params("/nix/store/x".into()),
            "console=tty0 panic=10 init=/nix/store/x/init drydock.root=ext4"
        );
        fs::write(dir.join("manifest.json"), manifest.replace(":1,", ":2,")).unwrap();
        assert!(Uninstalled::of(&dir).is_err());
    }
}
