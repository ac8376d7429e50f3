//! Turns a folder of files that the store must not have into a script that puts them below /mnt on a machine.

use std::{fmt::Write as _, fs, os::unix::fs::PermissionsExt as _};

use anyhow::{Context as _, Result};
use camino::Utf8Path;

use crate::{base64, diagnostic::usage, remote::Quoted};

/// They pass through memory here and there. Bytes.
const MOST: u64 = 64 << 20;

/// The body of the shell's function `files`, whose commands are those of install.sh: folders, files and links as they are,
/// with their permissions. Errors: exit code 2 for what is none of these, or too much; a file cannot be read.
pub fn script(folder: &Utf8Path) -> Result<String> {
    if !folder.is_dir() {
        return Err(usage(format!("--extra-files {folder} is no folder")));
    }
    // A function has at least one command.
    let mut script = ":\n".to_owned();
    add(folder, "", &mut script)?;
    Ok(script)
}

fn add(folder: &Utf8Path, below: &str, script: &mut String) -> Result<()> {
    let entries = folder.read_dir_utf8().and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut entries = entries.with_context(|| format!("cannot read {folder}"))?;
    entries.sort_by(|a, b| a.file_name().cmp(b.file_name()));
    for entry in entries {
        let path = entry.path();
        let place = format!("{below}/{}", entry.file_name());
        let metadata = fs::symlink_metadata(path).with_context(|| format!("cannot read {path}"))?;
        let (kind, mode) = (metadata.file_type(), metadata.permissions().mode() & 0o7777);
        if kind.is_dir() {
            let _ = writeln!(script, "directory {mode:o} {}", Quoted(&place));
            add(path, &place, script)?;
        } else if kind.is_symlink() {
            let target = path.read_link_utf8().with_context(|| format!("cannot read {path}"))?;
            let _ = writeln!(script, "link {} {}", Quoted(target.as_str()), Quoted(&place));
        } else if kind.is_file() {
            if script.len() as u64 + metadata.len() > MOST {
                return Err(usage(format!(
                    "--extra-files: {path} and what comes before it are more than {} MiB\n  try: what is large when the \
                     machine runs, by rsync or scp",
                    MOST >> 20
                )));
            }
            let content = fs::read(path).with_context(|| format!("cannot read {path}"))?;
            let _ = writeln!(script, "file {mode:o} {} <<'END'", Quoted(&place));
            base64::encode(&content).as_bytes().chunks(76).for_each(|line| {
                script.push_str(&String::from_utf8_lossy(line));
                script.push('\n');
            });
            script.push_str("END\n");
        } else {
            return Err(usage(format!("--extra-files: {path} is neither file, folder nor link\n  try: without it")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::symlink, net::UnixListener};

    use super::*;

    #[test]
    fn odd_names_modes_and_links_arrive_as_they_are_and_sockets_do_not() {
        let base = drydock_nix::files::Temporary::new().unwrap();
        let (from, to) = (base.join("from"), base.join("to"));
        let odd = "it's \"odd\" $(id) \\ `x`";
        fs::create_dir_all(from.join(odd)).unwrap();
        fs::create_dir_all(&to).unwrap();
        let file = from.join(odd).join("END");
        let content: Vec<u8> = (0..1000).map(|n| (n % 256) as u8).collect();
        fs::write(&file, &content).unwrap();
        fs::write(from.join("empty"), "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        fs::set_permissions(from.join(odd), fs::Permissions::from_mode(0o701)).unwrap();
        symlink("../it's nowhere", from.join("-n")).unwrap();
        let shell = crate::live::SCRIPT
            .replace("/mnt", to.as_str())
            .replace("main </dev/null", "say() { echo \"$@\"; }; files");
        let script = format!("files() {{\n{}}}\n{shell}", script(&from).unwrap());
        let sh = crate::process::Invocation::new(["sh", "-c", &script]);
        assert_eq!(sh.read(&crate::process::Cancel::default()).unwrap(), "");
        let mode = |path: &Utf8Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(fs::read(to.join(odd).join("END")).unwrap(), content);
        assert_eq!(fs::read(to.join("empty")).unwrap(), b"");
        assert_eq!((mode(&to.join(odd).join("END")), mode(&to.join(odd))), (0o640, 0o701));
        assert_eq!(to.join("-n").read_link_utf8().unwrap(), "../it's nowhere");
        let _socket = UnixListener::bind(from.join("socket")).unwrap();
        assert!(super::script(&from).unwrap_err().to_string().contains("socket is neither"));
    }
}
