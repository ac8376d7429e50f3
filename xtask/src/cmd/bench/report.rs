//! Measured seconds in, a Markdown table and an SVG plot out.

/// What one way to do something took, round by round, in seconds.
#[derive(Clone, Debug)]
pub struct Series {
    pub name: String,
    pub seconds: Vec<f64>,
}

/// The same thing done by several; the first is what the others are compared with.
#[derive(Clone, Debug)]
pub struct Comparison {
    pub title: String,
    pub series: Vec<Series>,
}

impl Series {
    /// The middle of the sorted values, the lower one of two.
    pub fn median(&self) -> f64 {
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
    }
}

/// One row a measurement: median, least and most, and how many times the first one's median it is.
pub fn markdown(comparisons: &[Comparison]) -> String {
    let mut text =
        String::from("| what | with | median | from | to | ratio |\n| --- | --- | --: | --: | --: | --: |\n");
    for comparison in comparisons {
        let base = comparison.series.first().map_or(f64::NAN, Series::median);
        for (index, series) in comparison.series.iter().enumerate() {
            let title = if index == 0 { comparison.title.as_str() } else { "" };
            let least = series.seconds.iter().copied().fold(f64::INFINITY, f64::min);
            let most = series.seconds.iter().copied().fold(0.0, f64::max);
            let median = series.median();
            text += &format!(
                "| {title} | {} | {} | {} | {} | {:.2} |\n",
                series.name,
                shown(median),
                shown(least),
                shown(most),
                median / base
            );
        }
    }
    text
}

fn shown(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.0} ms", seconds * 1000.0) } else { format!("{seconds:.1} s") }
}

/// Bars of the medians on a logarithmic scale from 10 ms on.
pub fn svg(comparisons: &[Comparison]) -> String {
    const LEFT: f64 = 330.0;
    const WIDTH: f64 = 360.0;
    const LINE: f64 = 18.0;
    let most = comparisons.iter().flat_map(|c| &c.series).map(Series::median).fold(0.1, f64::max);
    let decades = (most / 0.01).log10().ceil().max(1.0);
    let x = |seconds: f64| LEFT + WIDTH * ((seconds / 0.01).log10() / decades).clamp(0.0, 1.0);
    let mut body = String::new();
    let mut y = 20.0;
    for comparison in comparisons {
        body += &format!("<text x=\"8\" y=\"{y}\" font-weight=\"bold\">{}</text>\n", escaped(&comparison.title));
        for (index, series) in comparison.series.iter().enumerate() {
            y += LINE;
            let median = series.median();
            let (end, colour) = (x(median), if index == 0 { "#2a6f97" } else { "#b8b8b8" });
            let width = (end - LEFT).max(1.0);
            body += &format!(
                "<text x=\"20\" y=\"{y}\">{}</text><rect x=\"{LEFT}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"12\" \
                 fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{y}\">{}</text>\n",
                escaped(&series.name),
                y - 10.0,
                end + 6.0,
                shown(median)
            );
        }
        y += LINE * 1.6;
    }
    let width = LEFT + WIDTH + 80.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{y}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Vec<Comparison> {
        let series = |name: &str, seconds: &[f64]| Series { name: name.into(), seconds: seconds.to_vec() };
        let series = vec![series("xtask", &[0.05, 0.04, 0.09]), series("a <b>", &[2.0, 1.0, 4.0])];
        vec![Comparison { title: "nothing changed".into(), series }]
    }

    #[test]
    fn medians_and_ratios() {
        let expected = "\
| what | with | median | from | to | ratio |
| --- | --- | --: | --: | --: | --: |
| nothing changed | xtask | 50 ms | 40 ms | 90 ms | 1.00 |
|  | a <b> | 2.0 s | 1.0 s | 4.0 s | 40.00 |
";
        assert_eq!(markdown(&example()), expected);
    }

    #[test]
    fn a_plot_escapes_its_words_and_grows_with_the_seconds() {
        let plot = svg(&example());
        assert!(plot.contains("a &lt;b&gt;") && !plot.contains("<b>"));
        let widths: Vec<f64> = plot
            .match_indices("width=\"")
            .filter_map(|(at, found)| plot[at + found.len()..].split('"').next()?.parse().ok())
            .collect();
        assert!(widths.windows(2).skip(1).all(|pair| pair[0] < pair[1]), "{widths:?}");
    }
}
