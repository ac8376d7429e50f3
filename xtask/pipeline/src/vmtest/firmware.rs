//! Finds the UEFI firmware for virtual machines, wherever the distribution put it.

use std::fs;

use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;

/// UEFI as two flash images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uefi {
    /// The program; never written.
    pub code: Utf8PathBuf,
    /// The variables of a new machine; each machine writes to a copy of its own.
    pub variables: Utf8PathBuf,
}

/// Finds firmware without Secure Boot. Distributions describe what they have in descriptor files
/// (`docs/interop/firmware.json` in QEMU): Debian, Ubuntu, Fedora and Arch below /usr/share, an administrator
/// below /etc, Nix beside its QEMU.
pub fn find(cpu: &str, qemu: &Utf8Path) -> Option<Uefi> {
    let beside = qemu.canonicalize_utf8().ok().and_then(|real| Some(real.parent()?.parent()?.join("share")));
    let shares = ["/etc", "/usr/share", "/run/current-system/sw/share"].map(Utf8PathBuf::from);
    let shares: Vec<Utf8PathBuf> = shares.into_iter().chain(beside).collect();
    let described = shares.iter().flat_map(|share| descriptors(&share.join("qemu/firmware")));
    described.filter_map(|text| suitable(&text, cpu)).chain(undescribed(cpu)).find(|uefi| {
        // A descriptor may outlive the package that it describes.
        uefi.code.is_file() && uefi.variables.is_file()
    })
}

/// The files of a folder in the order of their names, which is their order of preference.
fn descriptors(dir: &Utf8Path) -> Vec<String> {
    let entries = dir.read_dir_utf8().into_iter().flatten().flatten();
    let mut files: Vec<Utf8PathBuf> = entries.map(|entry| entry.path().to_owned()).collect();
    files.sort();
    files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect()
}

/// Reads a descriptor; `None` if it is for something else.
fn suitable(text: &str, cpu: &str) -> Option<Uefi> {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Descriptor {
        interface_types: Vec<String>,
        mapping: Mapping,
        targets: Vec<Target>,
        features: Vec<String>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Mapping {
        executable: Image,
        nvram_template: Image,
    }
    #[derive(Deserialize)]
    struct Image {
        filename: Utf8PathBuf,
        format: String,
    }
    #[derive(Deserialize)]
    struct Target {
        architecture: String,
    }
    let found: Descriptor = serde_json::from_str(text).ok()?;
    let unsuited = ["secure-boot", "requires-smm", "enrolled-keys", "amd-sev-snp", "intel-tdx"];
    let fits = found.interface_types.iter().any(|kind| kind == "uefi")
        && found.targets.iter().any(|target| target.architecture == cpu)
        && !found.features.iter().any(|feature| unsuited.contains(&feature.as_str()))
        && found.mapping.executable.format == "raw"
        && found.mapping.nvram_template.format == "raw";
    fits.then_some(Uefi { code: found.mapping.executable.filename, variables: found.mapping.nvram_template.filename })
}

/// Where the files are when nothing describes them: Debian and Ubuntu, then Fedora, then Arch.
fn undescribed(cpu: &str) -> Vec<Uefi> {
    let pairs: &[(&str, &str)] = match cpu {
        "x86_64" => &[
            ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
            ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
            ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
            ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
        ],
        "aarch64" => &[
            ("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"),
            ("/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw", "/usr/share/edk2/aarch64/vars-template-pflash.raw"),
            ("/usr/share/edk2/aarch64/QEMU_CODE.fd", "/usr/share/edk2/aarch64/QEMU_VARS.fd"),
        ],
        _ => &[],
    };
    pairs.iter().map(|&(code, variables)| Uefi { code: code.into(), variables: variables.into() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(cpu: &str, features: &str) -> String {
        format!(
            r#"{{"description":"d","interface-types":["uefi"],"mapping":{{"device":"flash",
            "executable":{{"filename":"/code","format":"raw"}},"nvram-template":{{"filename":"/vars","format":"raw"}}}},
            "targets":[{{"architecture":"{cpu}","machines":["virt-*"]}}],"features":[{features}],"tags":[]}}"#
        )
    }

    #[test]
    fn only_plain_firmware_of_the_processor_is_taken() {
        let found = Some(Uefi { code: "/code".into(), variables: "/vars".into() });
        assert_eq!(suitable(&descriptor("aarch64", "\"verbose-static\""), "aarch64"), found);
        assert_eq!(suitable(&descriptor("aarch64", ""), "x86_64"), None);
        assert_eq!(suitable(&descriptor("x86_64", "\"requires-smm\", \"secure-boot\""), "x86_64"), None);
        assert_eq!(suitable("{", "x86_64"), None);
        // A descriptor of firmware in one file, such as for confidential guests, has no template.
        assert_eq!(
            suitable(
                r#"{"interface-types":["uefi"],"mapping":{"device":"memory","filename":"/f"},"targets":[],"features":[]}"#,
                "x86_64"
            ),
            None
        );
    }
}
