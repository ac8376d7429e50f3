//! Writes measured seconds and bytes as Markdown tables.

use super::memory::Peak;

/// One run: how long it took and what it used at most.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub seconds: f64,
    pub peak: Option<Peak>,
}

/// What one way to do something took, round by round.
#[derive(Clone, Debug)]
pub struct Series {
    pub name: String,
    pub samples: Vec<Sample>,
    /// True if it did not do what it was asked to.
    pub failed: bool,
}

/// The same thing done by several; the first is what the others are compared with.
#[derive(Clone, Debug)]
pub struct Comparison {
    pub title: String,
    pub series: Vec<Series>,
}

impl Series {
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), samples: Vec::new(), failed: false }
    }

    /// The middle of the sorted values, the lower one of two.
    pub fn median(&self) -> f64 {
        let mut sorted: Vec<f64> = self.samples.iter().map(|sample| sample.seconds).collect();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
    }

    /// The worst of all rounds.
    pub fn peak(&self) -> Option<Peak> {
        self.samples.iter().filter_map(|sample| sample.peak).reduce(Peak::most)
    }

    fn memory(&self) -> String {
        match self.peak() {
            None => "–".to_owned(),
            Some(peak) if self.is_ours() => format!("{} ({})", bytes(peak.all), bytes(peak.own)),
            Some(peak) => bytes(peak.all),
        }
    }

    fn is_ours(&self) -> bool {
        self.name.starts_with("drydock")
    }
}

impl Comparison {
    /// The name of the way with the least median among those that have such a name.
    pub fn quickest(&self, named: impl Fn(&str) -> bool) -> Option<String> {
        let measured = self.series.iter().filter(|series| named(&series.name) && !series.failed);
        measured.min_by(|a, b| a.median().total_cmp(&b.median())).map(|series| series.name.clone())
    }
}

/// One row a measurement: median, least and most, how many times the first one's median it is, and memory.
pub fn markdown(comparisons: &[Comparison]) -> String {
    let mut text = String::from(
        "| what | with | median | from | to | ratio | memory (drydock itself) |\n\
         | --- | --- | --: | --: | --: | --: | --: |\n",
    );
    for comparison in comparisons {
        let base = comparison.series.first().map_or(f64::NAN, Series::median);
        for (index, series) in comparison.series.iter().enumerate() {
            let title = if index == 0 { comparison.title.as_str() } else { "" };
            if series.failed {
                text += &format!("| {title} | {} | failed | | | | |\n", series.name);
                continue;
            }
            let all = series.samples.iter().map(|sample| sample.seconds);
            let median = series.median();
            text += &format!(
                "| {title} | {} | {} | {} | {} | {:.2} | {} |\n",
                series.name,
                seconds(median),
                seconds(all.clone().fold(f64::INFINITY, f64::min)),
                seconds(all.fold(0.0, f64::max)),
                median / base,
                series.memory()
            );
        }
    }
    text
}

/// Fleets of growing size: a column each, a row for each thing and way, once for time and once for memory.
pub fn growth(sizes: &[(usize, Vec<Comparison>)]) -> String {
    let heads: String = sizes.iter().map(|(hosts, _)| format!(" {hosts} |")).collect();
    let rule = " --: |".repeat(sizes.len());
    let mut text = format!("| what | with | of |{heads}\n| --- | --- | --- |{rule}\n");
    let Some((_, first)) = sizes.first() else { return text };
    for (at, comparison) in first.iter().enumerate() {
        for (index, series) in comparison.series.iter().enumerate() {
            let each = sizes.iter().map(|(_, comparisons)| &comparisons[at].series[index]);
            let time: String = each
                .clone()
                .map(|series| match series.failed {
                    true => " failed |".to_owned(),
                    false => format!(" {} |", seconds(series.median())),
                })
                .collect();
            let memory: String = each.map(|series| format!(" {} |", series.memory())).collect();
            let title = if index == 0 { comparison.title.as_str() } else { "" };
            text += &format!("| {title} | {} | time |{time}\n|  |  | memory |{memory}\n", series.name);
        }
    }
    text
}

pub fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => format!("{:.0} ms", s * 1000.0),
        s if s < 10.0 => format!("{s:.2} s"),
        s => format!("{s:.1} s"),
    }
}

fn bytes(bytes: u64) -> String {
    match bytes as f64 / 1e6 {
        mb if mb < 1000.0 => format!("{mb:.0} MB"),
        mb => format!("{:.1} GB", mb / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, seconds: &[f64], megabytes: Option<(u64, u64)>) -> Series {
        let peak = megabytes.map(|(all, own)| Peak { all: all * 1_000_000, own: own * 1_000_000 });
        let samples = seconds.iter().map(|&seconds| Sample { seconds, peak }).collect();
        Series { name: name.into(), samples, failed: false }
    }

    fn example() -> Vec<Comparison> {
        let mut failed = Series::new("another");
        failed.failed = true;
        let series = vec![
            series("drydock", &[0.05, 0.04, 0.09], Some((1250, 21))),
            series("a <b>", &[2.0, 1.0, 40.0], Some((90, 90))),
            failed,
        ];
        vec![Comparison { title: "nothing changed".into(), series }]
    }

    #[test]
    fn medians_ratios_and_peaks() {
        let expected = "\
| what | with | median | from | to | ratio | memory (drydock itself) |
| --- | --- | --: | --: | --: | --: | --: |
| nothing changed | drydock | 50 ms | 40 ms | 90 ms | 1.00 | 1.2 GB (21 MB) |
|  | a <b> | 2.00 s | 1.00 s | 40.0 s | 40.00 | 90 MB |
|  | another | failed | | | | |
";
        assert_eq!(markdown(&example()), expected);
    }

    #[test]
    fn growth_has_a_column_for_each_size() {
        let at = |seconds: f64, peak| {
            vec![Comparison { title: "README edited".into(), series: vec![series("drydock", &[seconds], peak)] }]
        };
        let expected = "\
| what | with | of | 1 | 100 |
| --- | --- | --- | --: | --: |
| README edited | drydock | time | 20 ms | 3.00 s |
|  |  | memory | – | 80 MB (40 MB) |
";
        assert_eq!(growth(&[(1, at(0.02, None)), (100, at(3.0, Some((80, 40))))]), expected);
    }
}
