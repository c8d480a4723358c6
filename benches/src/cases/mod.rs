//! The cases: what is measured, one file per family, and which figures each of them gives.

mod codec;
mod cold;
mod entry;
mod find_by_ids;
mod instructions;
mod mixed;
pub(crate) mod near;
mod shared_hit;
pub(crate) mod stampede;
mod write;

use anyhow::Result;
use cached_repo_report::Figure;
use futures_util::future::LocalBoxFuture;

pub(crate) use self::instructions::{SPIN, spin};
use crate::stage::Stage;

type Run = Box<dyn for<'a> Fn(&'a Stage) -> LocalBoxFuture<'a, Result<Vec<Figure>>>>;

/// One case.
pub(crate) struct Case {
    /// What every figure of it begins with, if there are several families it is the first's.
    pub(crate) name: String,
    /// The figures it gives.
    pub(crate) figures: Vec<String>,
    pub(crate) run: Run,
}

impl Case {
    fn new(
        name: impl Into<String>,
        figures: Vec<String>,
        run: impl for<'a> Fn(&'a Stage) -> LocalBoxFuture<'a, Result<Vec<Figure>>> + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            figures,
            run: Box::new(run),
        }
    }
}

/// All of them, in the order in which they run.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = shared_hit::cases();
    cases.extend(find_by_ids::cases());
    cases.extend(cold::cases());
    cases.extend(stampede::cases());
    cases.extend(write::cases());
    cases.extend(mixed::cases());
    cases.extend(entry::cases());
    cases.extend(codec::cases());
    cases.extend(instructions::cases());
    cases.extend(near::cases());
    cases
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Goal: no figure is given twice, and the bars that the project has set itself are among them.
    #[test]
    fn every_figure_has_one_name_and_every_bar_is_there() {
        let names: Vec<String> = all().into_iter().flat_map(|case| case.figures).collect();
        let unique: HashSet<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(unique.len(), names.len());
        let bars = [
            "shared_hit_256_vs_cache_aside",
            "shared_hit_256_vs_cached",
            "shared_hit_1_vs_cache_aside",
            "cold_256_vs_seaorm",
            "cold_rows_per_statement",
            "stampede_statements",
            "find_by_ids_100_vs_seaorm",
            "save_1_vs_seaorm",
            "save_64_vs_seaorm",
            "entry_overhead_bytes",
            "near_hit_vs_quick_cache",
        ];
        for bar in bars {
            assert!(unique.contains(bar), "{bar}");
        }
    }
}
