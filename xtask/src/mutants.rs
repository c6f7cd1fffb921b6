//! Mutation testing of the code that decides who gets in: it is changed in one small place after the other, and the tests
//! have to notice each time.
//!
//! Which code, and which changes alter nothing that could be noticed, is in `.cargo/mutants.toml`; what came of it the last
//! time in `docs/security.md`. It takes hours, as every change is built and tested by itself.

use std::{fs, io, path::Path};

use crate::step::{Failed, cargo, run as step, succeeds, timed};

/// Runs cargo-mutants on each room, with `arguments` (`--shard 0/8`, `--in-diff FILE`, `--file PATH`), and counts.
pub(crate) fn run(arguments: &[&str]) -> Result<(), Failed> {
    if !succeeds("cargo", &["mutants", "--version"]) {
        step("cargo-mutants", &mut cargo(["install", "--locked", "--quiet", "cargo-mutants"]))?;
    }
    let mut total = Counted::default();
    for room in ROOMS {
        let folder = Path::new("target/mutants").join(room.package);
        fs::create_dir_all(&folder)?;
        let mut command = cargo(["mutants", "--package", room.package, "--output"]);
        command.arg(&folder).args(room.options).args(arguments).arg("--").args(room.judges);
        timed(&format!("mutants of {}", room.package), || match command.status()?.code() {
            // All were noticed; some were not; some took so long that they were.
            Some(0 | 2 | 3) => Ok(()),
            _ => Err(Failed(format!("cargo-mutants could not judge {}: its output says why", room.package))),
        })?;
        total.add(&folder.join("mutants.out"))?;
    }
    total.judged()
}

/// A crate with mutants, what has to be built of it, and which of its tests judge.
struct Room {
    package: &'static str,
    options: &'static [&'static str],
    judges: &'static [&'static str],
}

const ROOMS: &[Room] = &[
    Room { package: "countersign-proto", options: &[], judges: &["--lib", "--tests"] },
    Room { package: "countersign", options: &["--features=ssh", "--cargo-arg=--lib"], judges: &["trust::"] },
];

/// Of a hundred mutants that build, so many have to be noticed.
const LEAST: usize = 90;

/// What became of the mutants that build.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counted {
    noticed: usize,
    missed: Vec<String>,
}

impl Counted {
    /// Adds the lists that cargo-mutants leaves in a folder, one mutant in each line. One that never ends is noticed, for
    /// a test that hangs fails.
    fn add(&mut self, folder: &Path) -> io::Result<()> {
        let lines = |name: &str| -> io::Result<Vec<String>> {
            Ok(fs::read_to_string(folder.join(name))?.lines().map(str::to_owned).collect())
        };
        self.noticed += lines("caught.txt")?.len() + lines("timeout.txt")?.len();
        self.missed.extend(lines("missed.txt")?);
        Ok(())
    }

    fn judged(&self) -> Result<(), Failed> {
        let all = self.noticed + self.missed.len();
        self.missed.iter().for_each(|mutant| eprintln!("not noticed: {mutant}"));
        eprintln!("{} of {all} mutants were noticed", self.noticed);
        match self.noticed * 100 >= all * LEAST {
            true => Ok(()),
            false => Err(Failed(format!("fewer than {LEAST} of a hundred mutants were noticed"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_hang_are_noticed_and_nine_of_ten_are_enough() {
        let folder = std::env::temp_dir().join(format!("countersign-mutants-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let count = |caught: usize, hung: usize, missed: usize| {
            for (name, lines) in [("caught.txt", caught), ("timeout.txt", hung), ("missed.txt", missed)] {
                fs::write(folder.join(name), "src/chain.rs:1:1: replace && with ||\n".repeat(lines)).unwrap();
            }
            let mut counted = Counted::default();
            counted.add(&folder).unwrap();
            (counted.noticed, counted.judged().is_ok())
        };
        assert_eq!(count(17, 1, 2), (18, true));
        assert_eq!(count(16, 1, 2), (17, false));
        assert_eq!(count(0, 0, 0), (0, true));
        fs::remove_dir_all(&folder).unwrap();
        assert!(Counted::default().add(&folder).is_err(), "no list is no score");
    }
}
