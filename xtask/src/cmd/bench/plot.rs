//! Fleets of growing size in, an SVG plot of time over hosts out: a panel a thing, a line a way, both scales
//! logarithmic.

use super::report::{Comparison, drawing, escaped, seconds};

const COLOURS: &[&str] = &["#2a6f97", "#d1781f", "#6b8f3a", "#8a5fa8", "#777777"];
const LEFT: f64 = 62.0;
const TOP: f64 = 34.0;
const WIDTH: f64 = 270.0;
const HEIGHT: f64 = 190.0;

/// From where to where the axes reach, in powers of ten.
struct Axes {
    hosts: (f64, f64),
    seconds: (f64, f64),
}

impl Axes {
    fn over(sizes: &[(usize, Vec<Comparison>)]) -> Self {
        let hosts = sizes.iter().map(|(hosts, _)| *hosts as f64);
        let medians = sizes.iter().flat_map(|(_, all)| all).flat_map(|comparison| &comparison.series);
        let medians = medians.map(|series| series.median()).filter(|median| median.is_finite());
        Self { hosts: decades(hosts), seconds: decades(medians) }
    }

    fn x(&self, hosts: f64) -> f64 {
        LEFT + WIDTH * (hosts.log10() - self.hosts.0) / (self.hosts.1 - self.hosts.0)
    }

    fn y(&self, seconds: f64) -> f64 {
        TOP + HEIGHT * (1.0 - (seconds.log10() - self.seconds.0) / (self.seconds.1 - self.seconds.0))
    }

    fn grid(&self) -> String {
        let mut body = String::new();
        for power in self.seconds.0 as i32..=self.seconds.1 as i32 {
            let (value, y) = (10f64.powi(power), self.y(10f64.powi(power)));
            let (end, text, base) = (LEFT + WIDTH, LEFT - 6.0, y + 4.0);
            body += &format!("<path d=\"M{LEFT} {y:.1}H{end}\" stroke=\"#ddd\"/>");
            body += &format!("<text x=\"{text}\" y=\"{base:.1}\" text-anchor=\"end\">{}</text>\n", tick(value));
        }
        for power in self.hosts.0 as i32..=self.hosts.1 as i32 {
            let (value, x) = (10f64.powi(power), self.x(10f64.powi(power)));
            let (end, base) = (TOP + HEIGHT, TOP + HEIGHT + 16.0);
            body += &format!("<path d=\"M{x:.1} {TOP}V{end}\" stroke=\"#ddd\"/>");
            body += &format!("<text x=\"{x:.1}\" y=\"{base}\" text-anchor=\"middle\">{value}</text>\n");
        }
        body
    }
}

/// The powers of ten below and above all values.
fn decades(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (least, most) =
        values.fold((f64::INFINITY, 0.0f64), |(least, most), value| (least.min(value), most.max(value)));
    if !least.is_finite() || least <= 0.0 {
        return (0.0, 1.0);
    }
    let low = least.log10().floor();
    (low, most.log10().ceil().max(low + 1.0))
}

/// A round number of seconds without digits after the point.
fn tick(value: f64) -> String {
    if value < 1.0 { seconds(value) } else { format!("{value} s") }
}

/// Two panels beside each other, as many rows as it takes.
pub fn growth(sizes: &[(usize, Vec<Comparison>)]) -> String {
    const LEGEND: f64 = 26.0;
    let Some((_, first)) = sizes.first() else { return drawing(1.0, 1.0, "") };
    let axes = Axes::over(sizes);
    let (across, down) = (LEFT + WIDTH + 24.0, TOP + HEIGHT + 34.0);
    let mut names: Vec<&str> = Vec::new();
    for series in first.iter().flat_map(|comparison| &comparison.series) {
        if !names.contains(&series.name.as_str()) {
            names.push(&series.name);
        }
    }
    let colour = |name: &str| {
        let at = names.iter().position(|other| *other == name).unwrap_or(0);
        COLOURS[at.min(COLOURS.len() - 1)]
    };
    let mut body = String::new();
    let mut x = LEFT;
    for name in &names {
        body += &format!(
            "<rect x=\"{x}\" y=\"9\" width=\"18\" height=\"4\" fill=\"{}\"/><text x=\"{}\" y=\"15\">{}</text>\n",
            colour(name),
            x + 24.0,
            escaped(name)
        );
        x += 48.0 + 7.0 * name.chars().count() as f64;
    }
    for (at, comparison) in first.iter().enumerate() {
        let (right, below) = (across * (at % 2) as f64, LEGEND + down * (at / 2) as f64);
        body += &format!("<g transform=\"translate({right} {below})\">\n{}", axes.grid());
        body += &format!(
            "<text x=\"{LEFT}\" y=\"{}\" font-weight=\"bold\">{}</text>\n",
            TOP - 12.0,
            escaped(&comparison.title)
        );
        for (index, series) in comparison.series.iter().enumerate() {
            let points: Vec<(f64, f64)> = sizes
                .iter()
                .map(|(hosts, all)| (*hosts as f64, all[at].series[index].median()))
                .filter(|(_, median)| median.is_finite())
                .map(|(hosts, median)| (axes.x(hosts), axes.y(median)))
                .collect();
            let line: String = points.iter().map(|(x, y)| format!("{x:.1},{y:.1} ")).collect();
            let colour = colour(&series.name);
            body += &format!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n",
                line.trim()
            );
            for (x, y) in points {
                body += &format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
            }
        }
        body += "</g>\n";
    }
    let rows = first.len().div_ceil(2) as f64;
    drawing((across * 2.0).max(x), LEGEND + down * rows, &body)
}

#[cfg(test)]
mod tests {
    use super::{super::report::tests::series, *};

    fn sizes(medians: &[(usize, f64)]) -> Vec<(usize, Vec<Comparison>)> {
        let at = |median: f64| {
            let series = vec![series("xtask", &[median], None), series("nix <eval>", &[median * 2.0], None)];
            vec![Comparison { title: "nothing changed".into(), series }]
        };
        medians.iter().map(|(hosts, median)| (*hosts, at(*median))).collect()
    }

    #[test]
    fn a_line_rises_with_the_seconds_and_goes_right_with_the_hosts() {
        let plot = growth(&sizes(&[(1, 0.05), (100, 0.5), (1000, 40.0)]));
        let points = plot.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        let points: Vec<(f64, f64)> = points
            .split(' ')
            .map(|point| point.split_once(',').unwrap())
            .map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()))
            .collect();
        assert_eq!(points.len(), 3);
        assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 > pair[1].1), "{points:?}");
        assert!(plot.contains(">10 ms<") && plot.contains(">100 s<") && plot.contains(">1000<"), "{plot}");
        assert!(plot.contains("nix &lt;eval&gt;"));
    }

    #[test]
    fn a_way_that_failed_has_no_line() {
        let plot = growth(&sizes(&[(1, 0.05), (10, f64::NAN)]));
        assert!(!plot.contains("NaN"), "{plot}");
    }

    #[test]
    fn one_size_and_none_are_drawn_too() {
        assert!(growth(&sizes(&[(7, 3.0)])).contains("<circle"));
        assert!(growth(&[]).starts_with("<svg"));
    }
}
