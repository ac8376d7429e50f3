//! Writes records as JUnit XML, in the form that GitHub, GitLab and Jenkins read (`testsuites/testsuite/testcase`).

use std::fmt::Write as _;

use crate::{job::Outcome, record::Record};

/// One test suite a record, one test case a job.
pub fn render(records: &[Record]) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for record in records {
        let count = |word: &str| record.jobs.iter().filter(|job| job.outcome.as_str() == word).count();
        let _ = writeln!(
            out,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" skipped=\"{}\" time=\"{:.3}\">",
            escape(&record.command),
            record.jobs.len(),
            count("failed"),
            count("not-run"),
            record.seconds.total
        );
        for job in &record.jobs {
            let time = job.evaluate_seconds.unwrap_or(0.0) + job.build_seconds.unwrap_or(0.0);
            let _ = write!(
                out,
                "    <testcase classname=\"{}\" name=\"{}\" time=\"{time:.3}\"",
                job.job.host, job.job.target
            );
            match &job.outcome {
                Outcome::Failed(failure) => {
                    let first = failure.message.lines().next().unwrap_or_default();
                    let place = failure.position.as_ref().map(|p| format!("at {p}\n")).unwrap_or_default();
                    let body =
                        format!("{place}{}\n{}\n{}", failure.message, failure.log_tail.join("\n"), failure.reproduce);
                    let _ =
                        write!(out, "><failure message=\"{}\">{}</failure></testcase>", escape(first), escape(&body));
                }
                Outcome::NotRun { reason } => {
                    let _ = write!(out, "><skipped message=\"{}\"/></testcase>", escape(reason));
                }
                _ => out.push_str("/>"),
            }
            out.push('\n');
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

/// Text for XML 1.0, which knows no control characters but tab, newline and carriage return.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use drydock_model::samples::record as sample;

    #[test]
    fn failures_and_what_was_not_run_are_told_apart() {
        let xml = render(&[sample()]);
        assert!(
            xml.contains("<testsuite name=\"build-all\" tests=\"5\" failures=\"3\" skipped=\"1\" time=\"13.000\">")
        );
        assert!(xml.contains("<testcase classname=\"a\" name=\"iso\" time=\"12.040\"/>"));
        assert!(xml.contains("bad &lt;&amp;&gt; &quot;"));
        assert_eq!(escape("a\x07b"), "a\u{fffd}b");
    }
}
