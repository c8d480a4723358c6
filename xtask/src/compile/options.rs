//! The command line of `cargo xtask bench compile`.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};

use super::program::Profile;

pub(super) const USAGE: &str = "\
usage: cargo xtask bench compile [--library PATH] [--entities N] [--rounds N] [--only dev|release]
  --library PATH  the checkout of cached-repo to measure; default: this one
  --entities N    how many entities a program has; default: 50 in dev, 20 in release
  --rounds N      how often everything is built; default: 3
  --only PROFILE  leave out the other profile
";

const DEFAULT_ROUNDS: u32 = 3;

/// What to measure.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// `None` is the checkout that this xtask belongs to.
    pub(super) library: Option<PathBuf>,
    /// `None` is the default of each profile.
    pub(super) entities: Option<usize>,
    pub(super) rounds: u32,
    pub(super) profiles: Vec<Profile>,
}

impl Options {
    /// # Errors
    /// If an option is unknown, or its value is missing or wrong.
    pub(super) fn parse(arguments: &[&str]) -> Result<Self> {
        let mut options = Self {
            library: None,
            entities: None,
            rounds: DEFAULT_ROUNDS,
            profiles: Profile::ALL.to_vec(),
        };
        let mut arguments = arguments.iter();
        while let Some(&option) = arguments.next() {
            let mut value = || {
                let value = arguments.next();
                value.with_context(|| format!("{option} needs a value"))
            };
            match option {
                "--library" => options.library = Some(PathBuf::from(value()?)),
                "--entities" => options.entities = Some(positive(option, value()?)?),
                "--rounds" => options.rounds = positive(option, value()?)?,
                "--only" => options.profiles = vec![profile(value()?)?],
                _ => bail!("unknown option `{option}`"),
            }
        }
        Ok(options)
    }

    pub(super) fn entities(&self, profile: Profile) -> usize {
        self.entities.unwrap_or(profile.default_entities())
    }
}

fn positive<N: FromStr + Default + PartialEq>(option: &str, value: &str) -> Result<N> {
    let wrong = || format!("{option} takes a number above 0, not `{value}`");
    let number = value.parse().ok().with_context(wrong)?;
    ensure!(number != N::default(), wrong());
    Ok(number)
}

fn profile(name: &str) -> Result<Profile> {
    let mut profiles = Profile::ALL.into_iter();
    profiles
        .find(|profile| profile.name() == name)
        .with_context(|| format!("--only takes dev or release, not `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: without options both profiles are measured, with the numbers that the bars are for.
    #[test]
    fn no_options_are_the_bars() {
        let options = Options::parse(&[]).expect("no options are fine");
        assert_eq!(options.library, None);
        assert_eq!(options.rounds, 3);
        assert_eq!(options.profiles, [Profile::Dev, Profile::Release]);
        assert_eq!(options.entities(Profile::Dev), 50);
        assert_eq!(options.entities(Profile::Release), 20);
    }

    /// Goal: every option is understood, in any order.
    #[test]
    fn every_option_is_understood() {
        let arguments = "--rounds 5 --only release --library ../other --entities 4";
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let options = Options::parse(&arguments).expect("all of these exist");
        assert_eq!(options.library, Some(PathBuf::from("../other")));
        assert_eq!(options.rounds, 5);
        assert_eq!(options.profiles, [Profile::Release]);
        assert_eq!(options.entities(Profile::Dev), 4);
        assert_eq!(options.entities(Profile::Release), 4);
    }

    /// Goal: a wrong command line says what is wrong, and does not measure for minutes first.
    #[test]
    fn a_wrong_option_is_refused() {
        for (arguments, expected) in [
            (&["--fast"][..], "unknown option `--fast`"),
            (&["compile_dev"], "unknown option `compile_dev`"),
            (&["--rounds"], "--rounds needs a value"),
            (
                &["--rounds", "0"],
                "--rounds takes a number above 0, not `0`",
            ),
            (
                &["--entities", "many"],
                "--entities takes a number above 0, not `many`",
            ),
            (
                &["--entities", "-1"],
                "--entities takes a number above 0, not `-1`",
            ),
            (
                &["--only", "test"],
                "--only takes dev or release, not `test`",
            ),
        ] {
            let error = Options::parse(arguments).expect_err("it is wrong");
            assert_eq!(error.to_string(), expected);
        }
    }
}
