//! Selects the jobs of a run from the matrix, and sorts them. Pure.

use anyhow::Result;
use glob::Pattern;

use crate::{
    diagnostic::{nearest, usage},
    job::{Artifact, Job, JobId, SYSTEMS, System, Target, Test},
    matrix::{Host, Matrix},
};

/// Everything that a run is asked for, sorted by host and target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub jobs: Vec<Job>,
}

/// Which hosts, and what of them. An empty list does not restrict.
#[derive(Clone, Debug)]
pub struct Selection {
    hosts: Vec<Pattern>,
    systems: Vec<System>,
    tags: Vec<String>,
    artifacts: Vec<Artifact>,
    tests: Option<Vec<Test>>,
}

impl Selection {
    /// Understands what was typed: names or globs of hosts, systems, tags, artifacts, and tests if tests are meant, where
    /// none are all of them.
    pub fn new(
        hosts: &[String],
        systems: &[String],
        tags: &[String],
        artifacts: &[String],
        tests: Option<&[Test]>,
    ) -> Result<Self> {
        Ok(Self {
            hosts: hosts.iter().map(|text| pattern(text)).collect::<Result<_>>()?,
            systems: systems.iter().map(|text| system(text)).collect::<Result<_>>()?,
            tags: tags.to_vec(),
            artifacts: artifacts.iter().map(|text| artifact(text)).collect::<Result<_>>()?,
            tests: tests.map(<[Test]>::to_vec),
        })
    }

    /// The hosts of the matrix that fit the selection, whatever tests they have.
    ///
    /// An error is a name, a tag or a system that fits no host at all.
    pub fn hosts<'m>(&self, matrix: &'m Matrix) -> Result<Vec<&'m Host>> {
        for pattern in &self.hosts {
            if !matrix.hosts.iter().any(|host| pattern.matches(host.name.as_str())) {
                return Err(usage(no_such("host", pattern.as_str(), matrix.hosts.iter().map(|h| h.name.as_str()))));
            }
        }
        for tag in &self.tags {
            let known = matrix.hosts.iter().flat_map(|host| &host.tags).map(String::as_str);
            if !known.clone().any(|known| known == tag) {
                return Err(usage(no_such("tag", tag, known)));
            }
        }
        for system in &self.systems {
            let known = matrix.hosts.iter().map(|host| host.system.as_str());
            if !known.clone().any(|known| known == system.as_str()) {
                return Err(usage(no_such("system", system.as_str(), known)));
            }
        }
        let selected: Vec<&Host> = matrix.hosts.iter().filter(|host| self.fits(host)).collect();
        if selected.is_empty() {
            return Err(usage(
                "no host fits all of the host names, --system, --artifact and --tag given\n  \
                 `cargo xtask list` shows which host has what",
            ));
        }
        Ok(selected)
    }

    fn fits(&self, host: &Host) -> bool {
        let any = |empty: bool, found: bool| empty || found;
        any(self.hosts.is_empty(), self.hosts.iter().any(|p| p.matches(host.name.as_str())))
            && any(self.systems.is_empty(), self.systems.contains(&host.system))
            && any(self.tags.is_empty(), self.tags.iter().any(|tag| host.tags.contains(tag)))
            && any(self.artifacts.is_empty(), self.artifacts.iter().any(|artifact| host.artifacts.contains(artifact)))
    }

    fn targets(&self, host: &Host) -> Vec<Target> {
        let wanted = |artifact: &Artifact| self.artifacts.is_empty() || self.artifacts.contains(artifact);
        match &self.tests {
            None => host.artifacts.iter().filter(|a| wanted(a)).copied().map(Target::Artifact).collect(),
            Some(tests) => host
                .tests
                .iter()
                .filter(|test| tests.is_empty() || tests.contains(test))
                .filter(|test| test.needs().iter().any(wanted))
                .copied()
                .map(Target::Test)
                .collect(),
        }
    }
}

/// The jobs of a selection. A selection without any job is an error with exit code 2: whoever asks for
/// nothing by mistake must not be told that all is well.
pub fn plan(matrix: &Matrix, selection: &Selection) -> Result<Plan> {
    let hosts = selection.hosts(matrix)?;
    let mut jobs: Vec<Job> = hosts
        .iter()
        .flat_map(|host| {
            let job = |target| Job { id: JobId { host: host.name.clone(), target }, system: host.system.clone() };
            selection.targets(host).into_iter().map(job)
        })
        .collect();
    jobs.sort_by(|a, b| a.id.cmp(&b.id));
    if jobs.is_empty() {
        let names = hosts.iter().map(|host| host.name.as_str()).collect::<Vec<_>>().join(", ");
        let what = if selection.tests.is_some() { "test" } else { "artifact" };
        return Err(usage(format!(
            "nothing to do: the selected hosts ({names}) have no such {what}\n  \
             `cargo xtask list` shows which host has what"
        )));
    }
    Ok(Plan { jobs })
}

/// The host of that name. An error says what is near.
pub fn host<'m>(matrix: &'m Matrix, name: &str) -> Result<&'m Host> {
    let names = matrix.hosts.iter().map(|host| host.name.as_str());
    matrix.get(name).ok_or_else(|| usage(no_such("host", name, names)))
}

fn pattern(text: &str) -> Result<Pattern> {
    Pattern::new(text).map_err(|error| usage(format!("`{text}` is no host name and no glob: {error}")))
}

fn system(text: &str) -> Result<System> {
    text.parse().map_err(|rule| usage(format!("--system {text}: {rule}{}", proposal(text, SYSTEMS))))
}

fn artifact(text: &str) -> Result<Artifact> {
    let known = Artifact::ALL.map(Artifact::as_str);
    let found = Artifact::ALL.into_iter().find(|artifact| artifact.as_str() == text);
    found.ok_or_else(|| usage(format!("--artifact {text}: an artifact is iso or system{}", proposal(text, known))))
}

fn no_such<'a>(what: &str, text: &str, known: impl Iterator<Item = &'a str>) -> String {
    let mut known: Vec<&str> = known.collect();
    known.sort_unstable();
    known.dedup();
    let near = proposal(text, known.iter().copied());
    let shown = known.iter().take(12).copied().collect::<Vec<_>>().join(", ");
    let more = known.len().saturating_sub(12);
    let more = if more > 0 { format!(" and {more} more (`cargo xtask list`)") } else { String::new() };
    match known.is_empty() {
        true => format!("no {what} `{text}`: this fleet has none at all"),
        false => format!("no {what} `{text}`{near}\n  the fleet has {shown}{more}"),
    }
}

fn proposal<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(text, known).map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix() -> Matrix {
        let text = r#"
            [defaults]
            system = "x86_64-linux"
            artifacts = ["iso", "system"]
            live = "minimal"
            tests = ["system", "live"]
            [host.web-2]
            description = "d"
            tags = ["server"]
            [host.web-1]
            description = "d"
            tags = ["server", "old"]
            artifacts = ["system"]
            [host.arm]
            description = "d"
            system = "aarch64-linux"
            artifacts = ["iso"]
            tests = []
        "#;
        Matrix::parse(text, &["arm".into(), "web-1".into(), "web-2".into()]).unwrap()
    }

    fn select(words: &str, tests: Option<&[Test]>) -> Result<Selection> {
        let (mut hosts, mut systems, mut tags, mut artifacts) = (vec![], vec![], vec![], vec![]);
        for word in words.split_whitespace() {
            let (list, value) = match word.split_once('=') {
                Some(("system", value)) => (&mut systems, value),
                Some(("artifact", value)) => (&mut artifacts, value),
                Some(("tag", value)) => (&mut tags, value),
                _ => (&mut hosts, word),
            };
            list.push(value.to_owned());
        }
        Selection::new(&hosts, &systems, &tags, &artifacts, tests)
    }

    fn ids(plan: Result<Plan>) -> String {
        match plan {
            Ok(plan) => plan.jobs.iter().map(|job| job.id.to_string()).collect::<Vec<_>>().join(" "),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn a_selection_becomes_sorted_jobs() {
        let rows = [
            ("", "arm.iso web-1.system web-2.iso web-2.system"),
            ("web-*", "web-1.system web-2.iso web-2.system"),
            ("web-2 arm", "arm.iso web-2.iso web-2.system"),
            ("web-[12] artifact=iso", "web-2.iso"),
            ("artifact=iso artifact=system tag=server", "web-1.system web-2.iso web-2.system"),
            ("system=aarch64-linux", "arm.iso"),
            ("tag=old tag=server artifact=system", "web-1.system web-2.system"),
        ];
        for (words, expected) in rows {
            let selection = select(words, None).unwrap();
            assert_eq!(ids(plan(&matrix(), &selection)), expected, "{words}");
        }
    }

    #[test]
    fn tests_are_selected_by_name_and_by_what_they_boot() {
        let rows: [(&str, &[Test], &str); 4] = [
            ("", &[], "web-1.tests.system web-2.tests.system web-2.tests.live"),
            ("", &[Test::Live], "web-2.tests.live"),
            ("artifact=iso", &[], "web-2.tests.live"),
            ("arm", &[], "error: nothing to do: the selected hosts (arm) have no such test"),
        ];
        for (words, tests, expected) in rows {
            let selection = select(words, Some(tests)).unwrap();
            assert!(ids(plan(&matrix(), &selection)).starts_with(expected), "{words}");
        }
    }

    #[test]
    fn a_selection_that_matches_nothing_names_what_is_near() {
        let rows = [
            ("wbe-1", "no host `wbe-1`; did you mean `web-1`?\n  the fleet has arm, web-1, web-2"),
            ("web-2 nothing*", "no host `nothing*`\n  the fleet has arm, web-1, web-2"),
            ("tag=sever", "no tag `sever`; did you mean `server`?"),
            ("system=riscv64-linux", "no system `riscv64-linux`"),
            ("arm tag=server", "no host fits all of the host names"),
            ("web-1 artifact=iso", "no host fits all of the host names"),
        ];
        for (words, expected) in rows {
            let error = plan(&matrix(), &select(words, None).unwrap()).unwrap_err();
            assert!(error.to_string().starts_with(expected), "{words}: {error}");
            assert_eq!(crate::diagnostic::exit_code(&error), 2);
        }
    }

    #[test]
    fn what_cannot_be_a_selection_is_wrong_use() {
        let rows = [
            ("[", "is no host name and no glob"),
            ("system=x86-64-linux", "did you mean `x86_64-linux`?"),
            ("artifact=isoo", "did you mean `iso`?"),
        ];
        for (words, expected) in rows {
            let error = select(words, None).unwrap_err();
            assert!(error.to_string().contains(expected), "{words}: {error}");
            assert_eq!(crate::diagnostic::exit_code(&error), 2);
        }
    }
}
