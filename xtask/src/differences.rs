//! Writes what differs in a host, for a terminal and for a pull request.

use std::fmt::Write as _;

use crate::{
    compare::{difference::HostDifference, nixos::Delta, packages::Change},
    report::{markdown, page::Comparison},
};

/// The differences for the fleet page; none if no host was compared.
pub fn comparison(rows: &[HostDifference]) -> Option<Comparison> {
    let changed = rows.iter().filter(|row| row.differs || row.failure.is_some());
    let changes: std::collections::BTreeMap<_, _> = changed.map(|row| (row.host.clone(), sections(row))).collect();
    let (base, unchanged) = (rows.first()?.against.clone(), rows.len() - changes.len());
    Some(Comparison { base, changes, unchanged })
}

/// The difference as lines for a terminal.
pub fn text(row: &HostDifference) -> String {
    let mut out = format!("{} against {}:\n", row.host, row.against);
    for (title, lines) in sections(row) {
        let _ = writeln!(out, "  {title}");
        for line in lines {
            let _ = writeln!(out, "    {line}");
        }
    }
    out
}

/// The difference as a section of Markdown.
pub fn markdown(row: &HostDifference) -> String {
    let mut out = format!("### `{}`\n\n", row.host);
    for (title, lines) in sections(row) {
        let _ = writeln!(out, "- {}", markdown::cell(&title));
        for line in lines {
            let _ = writeln!(out, "  - {}", markdown::cell(&line));
        }
    }
    out + "\n"
}

/// Titles with what stands below them, in the order in which a reviewer wants to know.
pub fn sections(row: &HostDifference) -> Vec<(String, Vec<String>)> {
    if let Some(failure) = &row.failure {
        let place = failure.position.as_ref().map(|p| format!("{p}: ")).unwrap_or_default();
        return vec![(format!("does not evaluate: {place}{}", failure.message), vec![])];
    }
    let Some(difference) = &row.difference else {
        let words = if row.differs { "new: there is nothing to compare with" } else { "unchanged" };
        return vec![(words.into(), vec![])];
    };
    let mut sections = Vec::new();
    let mut packages = |title: &str, changes: &Option<Vec<Change>>| {
        let lines: Vec<String> = changes.iter().flatten().map(change).collect();
        if !lines.is_empty() {
            sections.push((format!("{title}:"), lines));
        }
    };
    packages("environment.systemPackages", &difference.environment);
    packages("packages", &difference.packages);
    packages("packages that it is built from, build tools included", &difference.built_from);
    for (title, delta) in [
        ("units", &difference.units),
        ("users", &difference.users),
        ("kernel parameters", &difference.kernel_parameters),
        ("open ports", &difference.ports),
    ] {
        if let Some(delta) = delta.as_ref().filter(|delta| !delta.is_empty()) {
            sections.push((format!("{title}:"), words(delta)));
        }
    }
    if let (old, Some(new)) = difference.closure_size {
        sections.push((format!("closure: {}", markdown::grown(new, old)), vec![]));
    }
    if !difference.unknown.is_empty() {
        sections.push(("not known:".into(), difference.unknown.clone()));
    }
    sections
}

/// One line for a package: what came, went or has another version.
pub fn change(change: &Change) -> String {
    let list = |versions: &[String]| match versions.join(", ") {
        text if text.is_empty() => "-".to_owned(),
        text => text,
    };
    match change.kind() {
        "added" => format!("+ {} {}", change.name, change.new.join(", ")),
        "removed" => format!("- {} {}", change.name, change.old.join(", ")),
        _ => format!("~ {} {} -> {}", change.name, list(&change.old), list(&change.new)),
    }
    .trim_end()
    .to_owned()
}

/// Names with a sign of what became of them.
pub fn words(delta: &Delta) -> Vec<String> {
    let signed = |sign: &'static str, names: &[String]| {
        names.iter().map(move |name| format!("{sign} {name}")).collect::<Vec<_>>()
    };
    [signed("+", &delta.added), signed("-", &delta.removed), signed("~", &delta.changed)].concat()
}
