//! `cargo xtask list`: prints the hosts of a matrix as a table or as JSON.

use std::io::{self, Write as _};

use anyhow::Result;
use serde::Serialize;

use crate::{diagnostic::DONE, flags::List, fleet::FleetFolder, job::JobId, matrix::Host};

/// What `--json` prints. The version changes when a field changes its meaning or goes away.
#[derive(Serialize)]
struct Listing<'a> {
    version: u32,
    root: &'a str,
    hosts: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    host: &'a Host,
    /// What can be built and tested of the host, as the flake names it below `hydraJobs`.
    jobs: Vec<JobId>,
}

pub fn run(flags: &List) -> Result<u8> {
    let folder = FleetFolder::find(&flags.fleet.fleet)?;
    let matrix = folder.matrix()?;
    let selection = flags.selection.artifacts()?;
    let hosts = selection.hosts(&matrix)?;
    let text = if flags.json {
        let hosts = hosts.into_iter().map(|host| Row { host, jobs: host.jobs() }).collect();
        serde_json::to_string_pretty(&Listing { version: 1, root: folder.root.as_str(), hosts })? + "\n"
    } else {
        table(&hosts)
    };
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(DONE)
}

/// One line a host, columns as wide as their widest cell; what has no value is a dash.
fn table(hosts: &[&Host]) -> String {
    let header = ["HOST", "SYSTEM", "ARTIFACTS", "LIVE", "TESTS", "TAGS", "DESCRIPTION"].map(str::to_owned);
    let list = |items: Vec<&str>| if items.is_empty() { "-".to_owned() } else { items.join(",") };
    let cells = |host: &&Host| {
        [
            host.name.to_string(),
            host.system.to_string(),
            list(host.artifacts.iter().map(|a| a.as_str()).collect()),
            host.live.clone().unwrap_or_else(|| "-".to_owned()),
            list(host.tests.iter().map(|t| t.as_str()).collect()),
            list(host.tags.iter().map(String::as_str).collect()),
            host.description.clone(),
        ]
    };
    let rows: Vec<[String; 7]> = std::iter::once(header).chain(hosts.iter().map(cells)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let line = |row: &[String; 7]| {
        let padded = row[..6].iter().enumerate().map(|(i, cell)| format!("{cell:<width$}  ", width = width(i)));
        format!("{}{}\n", padded.collect::<String>(), row[6])
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Matrix;

    #[test]
    fn columns_are_aligned_and_empty_cells_are_dashes() {
        let text = r#"
            host.a = { description = "first", system = "x86_64-linux", artifacts = ["system"], target = "root@a" }
            host.long-name = { description = "zwölf", system = "i686-linux", artifacts = ["system", "iso"], live = "m" }
        "#;
        let matrix = Matrix::parse(text, &["a".to_owned(), "long-name".to_owned()]).unwrap();
        let expected = "\
HOST       SYSTEM        ARTIFACTS   LIVE  TESTS  TAGS  DESCRIPTION
a          x86_64-linux  system      -     -      -     first
long-name  i686-linux    iso,system  m     -      -     zwölf
";
        assert_eq!(table(&matrix.hosts.iter().collect::<Vec<_>>()), expected);
        let hosts = matrix.hosts.iter().map(|host| Row { host, jobs: host.jobs() }).collect();
        let text = serde_json::to_string(&Listing { version: 1, root: "/f", hosts }).unwrap();
        drydock_model::samples::keep("list", &text);
    }
}
