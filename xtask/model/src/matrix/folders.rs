//! Finds hosts that have a row in the matrix and no folder under hosts/, or the reverse.

use std::{io, ops::Range};

use camino::Utf8Path;

use crate::{
    diagnostic::{Problem, nearest},
    job::HostName,
};

/// The names of the folders below `hosts`, sorted; hidden ones belong to editors and version control.
pub fn list(hosts: &Utf8Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(hosts)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // As Nix sees it: `builtins.readDir` calls a link a link, wherever it leads.
        if !name.starts_with('.') && entry.file_type()?.is_dir() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// A row without a folder points at the row, a folder without a row at the end of the file, where its row
/// would go.
pub fn compare(rows: &[(String, Range<usize>)], folders: &[String], text: &str) -> Vec<Problem> {
    let has_row = |folder: &&String| rows.iter().any(|(name, _)| name == *folder);
    let strays: Vec<&String> = folders.iter().filter(|folder| !has_row(folder)).collect();
    let without_folder = rows.iter().filter(|(name, _)| !folders.contains(name)).map(|(name, span)| {
        let help = match nearest(name, strays.iter().map(|stray| stray.as_str())) {
            Some(stray) => format!("there is a folder hosts/{stray}/ without a row: is that the one?"),
            None => format!(
                "create the folder with the host's default.nix (`cargo xtask new-host` starts one), \
                             or remove `[host.{name}]`"
            ),
        };
        Problem::new(span.clone(), format!("host `{name}` has no folder hosts/{name}/")).help(help)
    });
    let end = text.trim_end().len();
    let without_row = strays.iter().map(|folder| match folder.parse::<HostName>() {
        Ok(_) => Problem::new(end..end, format!("the folder hosts/{folder}/ has no row `[host.{folder}]`"))
            .help("add the row, or move what is no host out of hosts/ (modules go to modules/)"),
        Err(rule) => Problem::new(end..end, format!("the folder hosts/{folder}/ cannot be a host: {rule}"))
            .help("rename it and add its row, or move it out of hosts/"),
    });
    without_folder.chain(without_row).collect()
}
