//! Which rows are asked for: sequences drawn before the clock runs, so that drawing costs nothing.

use std::sync::Arc;

use anyhow::Result;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, Zipf};

use crate::city::City;

/// The share of a rank falls with its power; YCSB's default.
const ZIPF_EXPONENT: f64 = 0.99;
const DRAWN: usize = 1 << 17;
/// The same sequence in every run.
const SEED: u64 = 7;

/// How often which row is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Popularity {
    /// The largest city most often.
    Zipf,
    Uniform,
}

/// An endless sequence of keys, of which every task begins elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Keys(Arc<[i64]>);

impl Keys {
    pub(crate) fn of(cities: &[City], popularity: Popularity) -> Result<Self> {
        let ranks = ranks(cities.len(), popularity)?;
        Ok(Self(
            ranks.into_iter().map(|rank| cities[rank].id).collect(),
        ))
    }

    pub(crate) fn get(&self, task: usize, turn: usize) -> i64 {
        // A large odd stride, so that tasks do not walk in step.
        self.0[(task * 40_503 + turn) % self.0.len()]
    }
}

/// Numbers below `count`.
fn ranks(count: usize, popularity: Popularity) -> Result<Vec<usize>> {
    let mut random = StdRng::seed_from_u64(SEED);
    let zipf = Zipf::new(count as f64, ZIPF_EXPONENT)?;
    let draw = || match popularity {
        Popularity::Zipf => (zipf.sample(&mut random) as usize).clamp(1, count) - 1,
        Popularity::Uniform => random.random_range(0..count),
    };
    Ok(std::iter::repeat_with(draw).take(DRAWN).collect())
}

/// So many different numbers below `count`, in no order.
pub(crate) fn distinct(count: usize, wanted: usize, turn: usize) -> Vec<usize> {
    let mut random = StdRng::seed_from_u64(SEED + turn as u64);
    rand::seq::index::sample(&mut random, count, wanted).into_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(popularity: Popularity) -> Vec<usize> {
        let mut shares = vec![0; 1000];
        for rank in ranks(1000, popularity).unwrap() {
            shares[rank] += 1;
        }
        shares
    }

    /// Goal: every rank is one of the rows, and the shares are those of the law: rank 1 is drawn
    /// 2^0.99 times as often as rank 2, and 10^0.99 times as often as rank 10.
    #[test]
    fn zipf_stays_in_range_and_favours_the_first() {
        let shares = shares(Popularity::Zipf);
        let ratio = |rank: usize| shares[0] as f64 / shares[rank - 1] as f64;
        assert!((1.8..2.2).contains(&ratio(2)), "{}", ratio(2));
        assert!((8.5..11.5).contains(&ratio(10)), "{}", ratio(10));
    }

    /// Goal: uniform keys favour nobody.
    #[test]
    fn uniform_keys_are_uniform() {
        let shares = shares(Popularity::Uniform);
        let mean = DRAWN / shares.len();
        assert!(shares.iter().all(|&share| share.abs_diff(mean) < mean / 2));
    }

    /// Goal: a batch asks for as many rows as it says.
    #[test]
    fn a_batch_names_no_row_twice() {
        let mut batch = distinct(200, 100, 3);
        assert_ne!(batch, distinct(200, 100, 4));
        batch.sort_unstable();
        batch.dedup();
        assert_eq!(batch.len(), 100);
        assert!(batch[99] < 200);
    }
}
