//! What a row of the table holds, and how it is printed.

use std::{fmt, time::Duration};

/// A measured value with its unit.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Figure {
    /// Events, or queries, in a second.
    PerSecond(f64),
    /// A waiting time.
    Time(Duration),
    /// Memory or disk.
    Bytes(u64),
    /// Bytes for each byte of the events as they came.
    OfRaw(f64),
}

impl Figure {
    fn value(self) -> f64 {
        match self {
            Self::PerSecond(n) | Self::OfRaw(n) => n,
            Self::Time(time) => time.as_secs_f64(),
            Self::Bytes(bytes) => bytes as f64,
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match *self {
            Self::PerSecond(n) if n >= 10_000.0 => format!("{:.1} k/s", n / 1_000.0),
            Self::PerSecond(n) => format!("{n:.0} /s"),
            Self::Time(time) if time < Duration::from_millis(10) => {
                format!("{:.2} ms", time.as_secs_f64() * 1e3)
            }
            Self::Time(time) if time < Duration::from_secs(1) => {
                format!("{:.0} ms", time.as_secs_f64() * 1e3)
            }
            Self::Time(time) => format!("{:.2} s", time.as_secs_f64()),
            Self::Bytes(bytes) => format!("{:.0} MiB", bytes as f64 / 1_048_576.0),
            Self::OfRaw(n) => format!("{n:.2} × raw"),
        };
        f.pad(&text)
    }
}

/// What a figure has to reach.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// Our figure, at least.
    AtLeast(Figure),
    /// Our figure, at most.
    AtMost(Figure),
    /// Our figure divided by the one beside it, at least.
    RatioAtLeast(f64),
    /// Our figure divided by the one beside it, at most.
    RatioAtMost(f64),
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(figure) => write!(f, "≥ {figure}"),
            Self::AtMost(figure) => write!(f, "≤ {figure}"),
            Self::RatioAtLeast(ratio) => write!(f, "≥ {ratio} × beside"),
            Self::RatioAtMost(ratio) => write!(f, "≤ {ratio} × beside"),
        }
    }
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    what: String,
    ours: Figure,
    beside: Option<(String, Figure)>,
    goals: Vec<Goal>,
}

impl Line {
    pub(crate) fn new(what: impl Into<String>, ours: Figure) -> Self {
        Self { what: what.into(), ours, beside: None, goals: Vec::new() }
    }

    /// The raw engine's figure of the same run.
    pub(crate) fn beside(mut self, name: impl Into<String>, figure: Figure) -> Self {
        self.beside = Some((name.into(), figure));
        self
    }

    pub(crate) fn goal(mut self, goal: Goal) -> Self {
        self.goals.push(goal);
        self
    }

    fn ratio(&self) -> Option<f64> {
        self.beside.as_ref().map(|(_, figure)| self.ours.value() / figure.value())
    }

    fn reaches(&self, goal: Goal) -> bool {
        match goal {
            Goal::AtLeast(figure) => self.ours.value() >= figure.value(),
            Goal::AtMost(figure) => self.ours.value() <= figure.value(),
            Goal::RatioAtLeast(ratio) => self.ratio().is_some_and(|found| found >= ratio),
            Goal::RatioAtMost(ratio) => self.ratio().is_some_and(|found| found <= ratio),
        }
    }

    fn cells(&self) -> [String; 5] {
        let goals: Vec<String> = self
            .goals
            .iter()
            .map(|goal| format!("{goal} {}", if self.reaches(*goal) { "✓" } else { "✗" }))
            .collect();
        [
            self.what.clone(),
            self.ours.to_string(),
            self.beside.as_ref().map_or("–".into(), |(name, figure)| format!("{figure} ({name})")),
            self.ratio().map_or("–".into(), |ratio| format!("{ratio:.2}")),
            if goals.is_empty() { "–".into() } else { goals.join("; ") },
        ]
    }
}

/// Prints the table, in the form that a Markdown page can hold.
pub(crate) fn print(lines: &[Line]) {
    let head = ["what", "ours", "beside", "ratio", "target"].map(str::to_owned);
    let rows: Vec<[String; 5]> = std::iter::once(head).chain(lines.iter().map(Line::cells)).collect();
    let widths: Vec<usize> =
        (0..5).map(|n| rows.iter().map(|row| row[n].chars().count()).max().unwrap_or(0)).collect();
    for (n, row) in rows.iter().enumerate() {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        println!("| {} |", cells.join(" | "));
        if n == 0 {
            let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
            println!("| {} |", rule.join(" | "));
        }
    }
}

/// Waiting times of one run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The time that this share of the calls did not exceed.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        sorted.get((last as f64 * share).round() as usize).copied().unwrap_or_default()
    }
}

/// The middle of several measurements of the same thing.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
