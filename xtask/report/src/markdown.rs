//! Writes records as Markdown, for a step summary or a comment: failures first, never longer than allowed.

use std::fmt::Write as _;

use crate::{
    diagnostic::{bytes, counted},
    history::History,
    job::{Failure, JobId, Outcome},
    record::{JobRecord, Record},
    table::causes,
};

/// A release asset must be smaller than this (GitHub's "About releases"). Bytes.
pub const RELEASE_LIMIT: u64 = 1 << 31;

/// The report on the records, at most `limit` bytes long; what does not fit is cut at a section, with a
/// note. `intro` comes first, as it is. `history` is what earlier runs measured.
pub fn render(records: &[Record], intro: &str, history: &History, limit: usize) -> String {
    let mut jobs: Vec<&JobRecord> = records.iter().flat_map(|record| &record.jobs).collect();
    jobs.sort_by_key(|job| (job.outcome.is_success(), job.job.clone()));
    let mut sections = vec![verdict(&jobs)];
    if !intro.is_empty() {
        sections.push(format!("{intro}\n"));
    }
    sections.extend(failures(&jobs));
    let rows: Vec<String> = jobs.iter().map(|job| row(job, history)).collect();
    if !rows.is_empty() {
        sections.push(
            "### Jobs\n\n| job | system | result | evaluate | build | closure | image |\n\
             | --- | --- | --- | ---: | ---: | ---: | ---: |\n"
                .into(),
        );
        // Rows are sections of their own: a long table is cut between two rows.
        sections.extend(rows);
    }
    fit(&sections, limit)
}

/// Joins sections until the limit, and says how many were left out.
pub fn fit(sections: &[String], limit: usize) -> String {
    const NOTE: usize = 160;
    let mut out = String::new();
    for (n, section) in sections.iter().enumerate() {
        let rest: usize = sections[n..].iter().map(String::len).sum();
        if out.len() + rest > limit && out.len() + section.len() + NOTE > limit {
            let left = sections.len() - n;
            let _ = write!(
                out,
                "\n**Cut here**: {left} more parts do not fit; the JSON records of the run have everything.\n"
            );
            break;
        }
        out.push_str(section);
    }
    out
}

fn verdict(jobs: &[&JobRecord]) -> String {
    let failed = jobs.iter().filter(|job| !job.outcome.is_success()).count();
    match (jobs.len(), failed) {
        (0, _) => "## Nothing to build\n\n".into(),
        (all, 0) => format!("## {}, all done\n\n", counted(all, "job")),
        (all, failed) => format!("## {failed} of {} failed\n\n", counted(all, "job")),
    }
}

/// Each cause once, with all jobs it fails.
fn failures(jobs: &[&JobRecord]) -> Vec<String> {
    let failed = jobs.iter().filter_map(|job| Some((&job.job, job.outcome.failure()?)));
    let name = |id: &&JobId| format!("`{id}`");
    causes(failed)
        .into_iter()
        .map(|(failure, ids)| explain(failure, &ids.iter().map(name).collect::<Vec<_>>()))
        .collect()
}

fn explain(failure: &Failure, names: &[String]) -> String {
    let mut out = format!("### Failed to {}: {}\n\n", failure.stage.as_str(), names.join(", "));
    if let Some(position) = &failure.position {
        let _ = writeln!(out, "At {}\n", code(&position.to_string()));
    }
    let _ = writeln!(out, "{}", fenced(&failure.message));
    if !failure.log_tail.is_empty() {
        let tail = failure.log_tail.join("\n");
        let count = failure.log_tail.len();
        let _ = writeln!(
            out,
            "<details><summary>The last {count} lines of its log</summary>\n\n{}\n</details>\n",
            fenced(&tail)
        );
    }
    let _ = writeln!(out, "To repeat it:\n\n{}", fenced(&failure.reproduce));
    out
}

fn row(job: &JobRecord, history: &History) -> String {
    let seconds = |value: Option<f64>| value.map_or_else(String::new, |s| format!("{s:.1} s"));
    let before = history.of(&job.job);
    let image = job.image.as_ref().map(|image| {
        let warning = if image.size >= RELEASE_LIMIT { " **too large for a release**" } else { "" };
        format!("{}{warning}", grown(image.size, before.image_size))
    });
    let closure = job.closure_size.map(|size| grown(size, before.closure_size));
    let result = match &job.outcome {
        Outcome::NotRun { reason } => format!("not run: {}", cell(reason)),
        Outcome::Failed(_) => "**failed**".into(),
        other => other.as_str().into(),
    };
    format!(
        "| `{}` | {} | {result} | {} | {} | {} | {} |\n",
        job.job,
        job.system,
        seconds(job.evaluate_seconds),
        seconds(job.build_seconds),
        closure.unwrap_or_default(),
        image.unwrap_or_default()
    )
}

/// A size, and how it differs from the one before.
pub fn grown(now: u64, before: Option<u64>) -> String {
    let change = before.filter(|before| *before != now).map(|before| match now > before {
        true => format!(" (+{})", bytes(now - before)),
        false => format!(" (-{})", bytes(before - now)),
    });
    format!("{}{}", bytes(now), change.unwrap_or_default())
}

/// Text for a table cell: neither its pipes nor its markup count.
pub fn cell(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\n' | '\r' => out.push(' '),
            '|' | '*' | '_' | '`' | '[' | ']' | '<' | '>' | '\\' | '#' | '@' | '&' => {
                // Numeric references are shown as the character and never read as markup or a mention.
                let _ = write!(out, "&#{};", u32::from(c));
            }
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// Text as inline code, whatever backticks are in it (CommonMark 0.31, 6.1).
pub fn code(text: &str) -> String {
    let ticks = "`".repeat(longest_run(text) + 1);
    match text.starts_with('`') || text.ends_with('`') {
        true => format!("{ticks} {text} {ticks}"),
        false => format!("{ticks}{text}{ticks}"),
    }
}

/// Text as a code block that nothing in the text can end.
pub fn fenced(text: &str) -> String {
    let fence = "`".repeat(longest_run(text).max(2) + 1);
    format!("{fence}text\n{}\n{fence}\n", text.trim_end())
}

fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use drydock_model::samples::record as sample;

    use crate::history::Measured;

    #[test]
    fn failures_come_first_with_place_log_and_command() {
        let text = render(&[sample()], "Intro.", &History::default(), 100_000);
        let at = |needle: &str| text.find(needle).unwrap_or_else(|| panic!("no `{needle}` in\n{text}"));
        assert!(at("## 4 of 5 jobs failed") < at("Intro."));
        assert!(at("### Failed to evaluate: `b.iso`") < at("### Failed to build: `c.system`, `d.system`"));
        assert!(at("At `hosts/b/default.nix:3:7`") < at("b is broken"));
        assert!(at("nix build '/nix/store/x-shared.drv^*'") < at("### Jobs"));
        assert!(text.contains("| `a.iso` | x86_64-linux | built |  | 12.0 s |  | 3.0 MiB |"));
    }

    #[test]
    fn it_never_exceeds_its_limit_and_says_what_is_missing() {
        let mut record = sample();
        let one = record.jobs[0].clone();
        record.jobs.extend(std::iter::repeat_n(one, 20_000));
        for limit in [2_000, 60_000, 1_000_000] {
            let text = render(std::slice::from_ref(&record), "", &History::default(), limit);
            assert!(text.len() <= limit, "{} of {limit}", text.len());
            assert!(text.contains("**Cut here**") && text.len() > limit / 2);
        }
    }

    #[test]
    fn growth_is_told_against_what_was_measured() {
        let mut history = History::default();
        history.take(&sample().jobs[0].job, Measured { image_size: Some(1 << 20), ..Measured::default() });
        assert!(render(&[sample()], "", &history, 100_000).contains("3.0 MiB (+2.0 MiB)"));
        assert_eq!((grown(5, Some(5)), grown(1, Some(2))), ("5 B".into(), "1 B (-1 B)".into()));
    }

    #[test]
    fn markup_in_data_stays_data() {
        assert_eq!(cell("a|b<i>@x\n"), "a&#124;b&#60;i&#62;&#64;x ");
        assert_eq!(code("a``b"), "```a``b```");
        assert_eq!(fenced("x\n```\ny"), "````text\nx\n```\ny\n````\n");
    }

    #[test]
    fn nothing_to_build_is_said() {
        assert!(render(&[], "", &History::default(), 1000).contains("Nothing to build"));
    }
}
