//! `cargo xtask bench compile`: what the library costs its users in build time and binary size.
//!
//! [`program`] generates two programs that do the same: one with SeaORM alone, one with us. Cargo
//! builds them in turn, round after round, in a workspace of their own with Cargo's own profiles, so
//! that a figure is what a user would see.
//!
//! Invariants:
//! - Only the program is built while the clock runs: what it depends on is there, and is kept.
//! - Every build that is timed has linked a new binary, and every program has run once.
//! - One run at a time uses the workspace: a second one would replace the programs of the first.
//!
//! It does not measure the time to build the library itself, which a user pays once.

mod options;
mod program;

use std::env;
use std::error::Error;
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use cached_repo_harness::Guarded;
use cached_repo_report::{Contest, Figure, describe};

use self::options::{Options, USAGE};
use self::program::{Contender, Profile, Program};
use crate::USAGE_EXIT_CODE;
use crate::runner::{self, Outcome};

/// Where the programs are generated and built; it is never removed, so dependencies are built once.
const WORKSPACE: &str = "target/bench/compile";
const RESULTS: &str = "target/bench/compile.json";

/// A ratio, and the most that it may be, with the default numbers of entities.
const BARS: [(&str, f64); 4] = [
    ("compile_dev_vs_seaorm", 2.5),
    ("compile_incremental_vs_seaorm", 3.0),
    ("compile_release_vs_seaorm", 2.5),
    ("binary_dev_vs_seaorm", 2.0),
];

/// What the environment may set that changes what a build does; our builds are the default ones.
const BUILD_VARIABLES: [&str; 6] = [
    "CARGO_BUILD_INCREMENTAL",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_INCREMENTAL",
    "RUSTC_WRAPPER",
    "RUSTFLAGS",
];

pub(crate) fn run(root: &Path, arguments: &[&str]) -> Result<Outcome> {
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("xtask: {error:#}\n\n{USAGE}");
            return Ok(Outcome::Failed(USAGE_EXIT_CODE));
        }
    };
    runner::catch_interrupts()?;
    match measure(root, &options) {
        Ok(()) => Ok(Outcome::Passed),
        Err(error) => match error.downcast::<Stopped>() {
            Ok(Stopped(outcome)) => Ok(outcome),
            Err(error) => Err(error),
        },
    }
}

fn measure(root: &Path, options: &Options) -> Result<()> {
    let library = options.library.as_deref().unwrap_or(root);
    let finding = || format!("looking for {}", library.display());
    let mut bench = Bench {
        workspace: root.join(WORKSPACE),
        library: library.canonicalize().with_context(finding)?,
        contests: Vec::new(),
    };
    let _lock = reserve(&bench.workspace)?;
    bench.create_workspace()?;
    for &profile in &options.profiles {
        let entities = options.entities(profile);
        bench.measure(profile, entities, options.rounds)?;
    }
    bench.report(root, options)
}

/// The workspace is ours as long as the file is open; its lock ends with the process, however it ends.
fn reserve(workspace: &Path) -> Result<File> {
    let reserving = || format!("reserving {}", workspace.display());
    fs::create_dir_all(workspace).with_context(reserving)?;
    let file = File::create(workspace.join("in-use")).with_context(reserving)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("{} is in use; wait for the other run", workspace.display())
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(reserving),
    }
}

/// A command did not pass, so nothing more is measured. It has said itself why.
#[derive(Debug)]
struct Stopped(Outcome);

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stopped: {:?}", self.0)
    }
}

impl Error for Stopped {}

/// The workspace of the programs, and what was measured in it so far.
struct Bench {
    workspace: PathBuf,
    library: PathBuf,
    contests: Vec<Contest>,
}

impl Bench {
    /// All programs with one entity each, and the versions of dependencies that the library uses.
    fn create_workspace(&self) -> Result<()> {
        let programs: Vec<Program> = Profile::ALL
            .into_iter()
            .flat_map(|profile| programs(profile, 1))
            .collect();
        for program in &programs {
            program.write(&self.workspace, &self.library)?;
        }
        let manifest = program::workspace_manifest(&programs);
        program::write(&self.workspace.join("Cargo.toml"), &manifest)?;
        let lock = self.library.join("Cargo.lock");
        fs::copy(&lock, self.workspace.join("Cargo.lock"))
            .with_context(|| format!("copying {}", lock.display()))?;
        Ok(())
    }

    fn measure(&mut self, profile: Profile, entities: usize, rounds: u32) -> Result<()> {
        let programs = programs(profile, entities);
        for program in &programs {
            // The programs have one entity: this builds what they depend on.
            self.cargo("build", program)?;
            program.write(&self.workspace, &self.library)?;
        }
        for round in 1..=rounds {
            for program in in_turn(&programs, round) {
                self.cargo("clean", program)?;
                let seconds = self.timed_build(program)?;
                self.record("compile", profile.name(), "s", program, seconds);
                self.record_sizes(program)?;
                if round == 1 {
                    self.run_once(program)?;
                }
            }
            if profile == Profile::Dev {
                for program in in_turn(&programs, round) {
                    program.edit(&self.workspace, round)?;
                    let seconds = self.timed_build(program)?;
                    self.record("compile", "incremental", "s", program, seconds);
                }
            }
        }
        Ok(())
    }

    fn timed_build(&self, program: &Program) -> Result<f64> {
        let (wall, clock) = (SystemTime::now(), Instant::now());
        self.cargo("build", program)?;
        let seconds = clock.elapsed().as_secs_f64();
        let binary = program.binary(&self.workspace);
        let linked = fs::metadata(&binary).and_then(|file| file.modified());
        let linked = linked.with_context(|| format!("looking at {}", binary.display()))?;
        ensure!(linked >= wall, "cargo had nothing to build");
        println!("xtask: {} took {seconds:.2} s", program.name());
        Ok(seconds)
    }

    /// Whether the program does what it was built for.
    fn run_once(&self, program: &Program) -> Result<()> {
        let mut command = Guarded::command(&program.binary(&self.workspace));
        command.arg("sqlite::memory:");
        pass(&program.name(), command)
    }

    fn record_sizes(&mut self, program: &Program) -> Result<()> {
        let (profile, binary) = (program.profile.name(), program.binary(&self.workspace));
        self.record("binary", profile, "MB", program, megabytes(&binary)?);
        let stripped = binary.with_extension("stripped");
        let strip = Command::new("strip")
            .arg("-o")
            .args([&stripped, &binary])
            .status();
        // Where there is no `strip`, that figure is missing.
        if strip.is_ok_and(|status| status.success()) {
            let case = format!("{profile}_stripped");
            self.record("binary", &case, "MB", program, megabytes(&stripped)?);
            fs::remove_file(&stripped)?;
        }
        Ok(())
    }

    fn cargo(&self, verb: &str, program: &Program) -> Result<()> {
        let name = program.name();
        let mut arguments = vec![verb, "--quiet", "--package", &name];
        if program.profile == Profile::Release {
            arguments.push("--release");
        }
        let mut command = runner::cargo(&self.workspace, arguments);
        command.env("CARGO_TARGET_DIR", self.workspace.join("target"));
        for (variable, _) in env::vars_os() {
            if variable.to_str().is_some_and(changes_a_build) {
                command.env_remove(variable);
            }
        }
        pass(&format!("cargo {verb} {name}"), command)
    }

    fn record(&mut self, what: &str, how: &str, unit: &'static str, of: &Program, sample: f64) {
        let case = format!("{what}_{how}");
        let known = self.contests.iter().position(|known| known.case == case);
        let index = known.unwrap_or_else(|| {
            let samples = Contender::ALL.map(|contender| (contender.name(), Vec::new()));
            self.contests.push(Contest {
                case,
                unit,
                samples: samples.to_vec(),
            });
            self.contests.len() - 1
        });
        let name = of.contender.name();
        for (contender, samples) in &mut self.contests[index].samples {
            if *contender == name {
                samples.push(sample);
            }
        }
    }

    fn report(self, root: &Path, options: &Options) -> Result<()> {
        let mut conditions = describe(&[]);
        let entities = options.profiles.iter().map(|&profile| {
            let entities = options.entities(profile).to_string();
            (format!("entities_{}", profile.name()), entities)
        });
        conditions.extend(entities);
        conditions.push(("library".to_owned(), self.library.display().to_string()));
        for (what, value) in &conditions {
            println!("# {what}: {value}");
        }
        let contests = self.contests.into_iter();
        let figures: Vec<Figure> = contests.flat_map(Contest::into_figures).collect();
        for figure in &figures {
            println!("{figure}");
        }
        for line in figures.iter().filter_map(verdict) {
            println!("# {line}");
        }
        cached_repo_report::write(&root.join(RESULTS), &conditions, &figures)?;
        println!("# written to {RESULTS}");
        Ok(())
    }
}

fn programs(profile: Profile, entities: usize) -> [Program; 2] {
    Contender::ALL.map(|contender| Program {
        contender,
        profile,
        entities,
    })
}

/// Who begins changes with the round.
fn in_turn(programs: &[Program; 2], round: u32) -> [&Program; 2] {
    let [ours, seaorm] = programs;
    if round % 2 == 1 {
        [ours, seaorm]
    } else {
        [seaorm, ours]
    }
}

/// Runs a command without which the bench cannot go on.
fn pass(title: &str, command: Command) -> Result<()> {
    match runner::run(title, command)? {
        Outcome::Passed => Ok(()),
        outcome => Err(Stopped(outcome).into()),
    }
}

fn changes_a_build(variable: &str) -> bool {
    BUILD_VARIABLES.contains(&variable) || variable.starts_with("CARGO_PROFILE_")
}

fn megabytes(file: &Path) -> Result<f64> {
    let file_size = fs::metadata(file).map(|file| file.len());
    let bytes = file_size.with_context(|| format!("measuring {}", file.display()))?;
    Ok(bytes as f64 / 1e6)
}

/// Whether a figure meets its bar, if it has one.
fn verdict(figure: &Figure) -> Option<String> {
    let (_, most) = BARS.iter().find(|(name, _)| *name == figure.name)?;
    let verdict = if figure.median() <= *most {
        "met"
    } else {
        "missed"
    };
    Some(format!("{}: bar at most {most}: {verdict}", figure.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a bar holds for the median, and a figure that has no bar gets no verdict.
    #[test]
    fn a_verdict_is_the_medians() {
        let figure = |name: &str, samples: &[f64]| Figure::new(name, "ratio", samples.to_vec());
        assert_eq!(
            verdict(&figure("compile_dev_vs_seaorm", &[2.5, 9.0, 1.0])).as_deref(),
            Some("compile_dev_vs_seaorm: bar at most 2.5: met")
        );
        assert_eq!(
            verdict(&figure("binary_dev_vs_seaorm", &[2.1, 2.1, 1.0])).as_deref(),
            Some("binary_dev_vs_seaorm: bar at most 2: missed")
        );
        assert_eq!(verdict(&figure("compile_dev_ours", &[3.0])), None);
    }

    /// Goal: every bar is of a figure that is measured, and a ratio is ours divided by SeaORM's.
    #[test]
    fn a_round_of_samples_gives_the_figures_of_the_bars() {
        let mut bench = Bench {
            workspace: PathBuf::new(),
            library: PathBuf::new(),
            contests: Vec::new(),
        };
        let [ours, seaorm] = programs(Profile::Dev, 1);
        for (what, how) in [
            ("compile", "dev"),
            ("compile", "incremental"),
            ("compile", "release"),
            ("binary", "dev"),
        ] {
            for (ours_took, seaorm_took) in [(8.0, 4.0), (9.0, 3.0), (40.0, 10.0)] {
                bench.record(what, how, "s", &seaorm, seaorm_took);
                bench.record(what, how, "s", &ours, ours_took);
            }
        }
        let contests = bench.contests.into_iter();
        let figures: Vec<Figure> = contests.flat_map(Contest::into_figures).collect();
        for (bar, _) in BARS {
            let figure = figures.iter().find(|figure| figure.name == bar);
            assert_eq!(figure.map(Figure::median), Some(3.0), "{bar}");
        }
        let absolute = figures
            .iter()
            .find(|figure| figure.name == "compile_dev_ours");
        assert_eq!(absolute.map(Figure::median), Some(9.0));
    }

    /// Goal: a second run does not replace the programs that the first is building.
    #[test]
    fn a_workspace_in_use_is_refused() {
        let folder = format!("cached-repo-reserve-{}", std::process::id());
        let workspace = env::temp_dir().join(folder);
        let first = reserve(&workspace).expect("nobody uses it");
        let error = reserve(&workspace).expect_err("the first is still there");
        assert!(error.to_string().contains("is in use"), "{error}");
        drop(first);
        assert!(reserve(&workspace).is_ok());
        fs::remove_dir_all(&workspace).expect("it was made");
    }

    /// Goal: neither contender always builds on the machine that the other has warmed up.
    #[test]
    fn who_begins_changes() {
        let programs = programs(Profile::Dev, 1);
        let begins = |round| in_turn(&programs, round)[0].contender;
        assert_eq!(
            [1, 2, 3].map(begins),
            [Contender::Ours, Contender::SeaOrm, Contender::Ours]
        );
    }

    /// Goal: what is measured are Cargo's default profiles, whatever our own CI sets.
    #[test]
    fn the_environment_does_not_change_a_build() {
        for variable in ["RUSTFLAGS", "CARGO_INCREMENTAL", "CARGO_PROFILE_DEV_DEBUG"] {
            assert!(changes_a_build(variable), "{variable}");
        }
        for variable in ["PATH", "CARGO_HOME", "CARGO_BUILD_JOBS"] {
            assert!(!changes_a_build(variable), "{variable}");
        }
    }
}
