//! What is measured and how it is reported: samples of several rounds, one line per figure, JSON.
//!
//! A ratio is taken within each round, ours against the peer that ran beside it, and only then the
//! median: a machine that is busy for a second slows both. Pure, no I/O.

use std::fmt;

use serde_json::{Value, json};

/// One figure: a name, and what each round measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What it is called in the output; names are looked for by their beginning.
    pub name: String,
    /// What it is counted in.
    pub unit: &'static str,
    samples: Vec<f64>,
}

impl Figure {
    /// What each round measured.
    ///
    /// # Panics
    /// Without samples.
    pub fn new(name: impl Into<String>, unit: &'static str, samples: Vec<f64>) -> Self {
        assert!(!samples.is_empty(), "a figure without samples");
        Self {
            name: name.into(),
            unit,
            samples,
        }
    }

    /// Something that is counted and not timed.
    pub fn exact(name: impl Into<String>, unit: &'static str, value: f64) -> Self {
        Self::new(name, unit, vec![value])
    }

    /// What is reported.
    #[must_use]
    pub fn median(&self) -> f64 {
        median(&self.samples)
    }

    fn min(&self) -> f64 {
        self.samples.iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn max(&self) -> f64 {
        self.samples
            .iter()
            .copied()
            .fold(f64::NEG_INFINITY, f64::max)
    }

    /// With every round.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "value": self.median(),
            "unit": self.unit,
            "min": self.min(),
            "max": self.max(),
            "rounds": self.samples,
        })
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, unit, .. } = self;
        write!(f, "{name} {} {unit}", short(self.median()))?;
        if let [_, _, ..] = self.samples[..] {
            let (min, max, rounds) = (short(self.min()), short(self.max()), self.samples.len());
            write!(f, "  (min {min}, max {max}, {rounds} rounds)")?;
        }
        Ok(())
    }
}

/// What several contenders did in the same rounds; ours is the first.
#[derive(Debug)]
pub struct Contest {
    /// What they did; the names of the figures begin with it.
    pub case: String,
    /// What each is measured in.
    pub unit: &'static str,
    /// By contender, one sample per round.
    pub samples: Vec<(&'static str, Vec<f64>)>,
}

impl Contest {
    /// `<case>_vs_<peer>`: ours divided by the peer's; and what each measured,
    /// `<case>_<contender>`.
    ///
    /// # Panics
    /// Without contenders, or without samples.
    #[must_use]
    pub fn into_figures(self) -> Vec<Figure> {
        let Self {
            case,
            unit,
            samples,
        } = self;
        let (_, ours) = &samples[0];
        let ratios = samples[1..].iter().map(|(peer, theirs)| {
            let ratios = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs);
            Figure::new(format!("{case}_vs_{peer}"), "ratio", ratios.collect())
        });
        let absolutes = samples
            .iter()
            .map(|(name, samples)| Figure::new(format!("{case}_{name}"), unit, samples.clone()));
        ratios.chain(absolutes).collect()
    }

    /// The names of the figures of a contest between these.
    #[must_use]
    pub fn names(case: &str, contenders: &[&str]) -> Vec<String> {
        let ratios = contenders[1..]
            .iter()
            .map(|peer| format!("{case}_vs_{peer}"));
        let absolutes = contenders.iter().map(|name| format!("{case}_{name}"));
        ratios.chain(absolutes).collect()
    }
}

/// The middle one, or the mean of the two in the middle.
///
/// # Panics
/// Without samples.
#[must_use]
pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    }
}

/// Three digits, or all of an integer.
fn short(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: an outlier does not move the figure, and an even number of rounds has a middle too.
    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[1.0, 1000.0, 3.0, 5.0]), 4.0);
        assert_eq!(median(&[7.0]), 7.0);
    }

    /// Goal: a round in which the machine was slow for everyone does not count for or against
    /// anyone, which a ratio of the medians would not give.
    #[test]
    fn a_ratio_is_that_of_its_round() {
        let contest = Contest {
            case: "hit".into(),
            unit: "op/s",
            samples: vec![
                ("ours", vec![20.0, 10.0, 300.0]),
                ("peer", vec![10.0, 5.0, 100.0]),
            ],
        };
        let names = Contest::names("hit", &["ours", "peer"]);
        let figures = contest.into_figures();
        assert_eq!(
            figures
                .iter()
                .map(|figure| &*figure.name)
                .collect::<Vec<_>>(),
            names
        );
        let ratio = &figures[0];
        assert_eq!((ratio.median(), ratio.min(), ratio.max()), (2.0, 2.0, 3.0));
    }

    /// Goal: a line reads `name value unit`, with the spread where there is one.
    #[test]
    fn a_figure_is_a_line() {
        let ratio = Figure::new("hit_vs_peer", "ratio", vec![14.21, 13.06, 15.0]);
        assert_eq!(
            ratio.to_string(),
            "hit_vs_peer 14.2 ratio  (min 13.1, max 15, 3 rounds)"
        );
        let count = Figure::exact("statements", "count", 1.0);
        assert_eq!(count.to_string(), "statements 1 count");
        let large = Figure::exact("hits", "op/s", 774_512.3);
        assert_eq!(large.to_string(), "hits 774512 op/s");
    }
}
