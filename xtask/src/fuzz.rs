//! The fuzz targets, a few seconds each: enough to see that they build and that no easy input breaks them.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
};

use crate::step::{Failed, cargo, is_installed, run as step, run_quietly as quiet_step, skipped, succeeds};

/// Runs every target for the number of seconds given, or for 10.
pub(crate) fn run(arguments: &[&str]) -> Result<(), Failed> {
    let seconds = match arguments {
        [] => 10,
        [number] => {
            number.parse::<u32>().map_err(|_| Failed(format!("`{number}` is not a number of seconds")))?
        }
        _ => return Err(Failed("fuzz takes one argument, the seconds for each target".to_owned())),
    };
    if let Some(reason) = obstacle()? {
        skipped("fuzz targets", reason);
        return Ok(());
    }
    step("fuzz targets: build", &mut nightly(["fuzz", "build", WITHOUT_SANITIZER]))?;
    // Each of them keeps one core busy.
    let (targets, cores) = (targets()?, thread::available_parallelism()?.get());
    for side_by_side in targets.chunks(cores) {
        thread::scope(|scope| {
            let runs = side_by_side.iter().map(|target| scope.spawn(move || one(target, seconds)));
            // All are started before the first is waited for.
            runs.collect::<Vec<_>>().into_iter().try_for_each(|run| {
                run.join().unwrap_or_else(|_| Err(Failed("a thread of the fuzz targets crashed".to_owned())))
            })
        })?;
    }
    Ok(())
}

fn one(target: &str, seconds: u32) -> Result<(), Failed> {
    // What is found goes to the first folder; the second, in the repository, is only read.
    let (found, known) = (format!("fuzz/target/corpus/{target}"), format!("fuzz/corpus/{target}"));
    fs::create_dir_all(&found)?;
    let mut command = nightly(["fuzz", "run", WITHOUT_SANITIZER, target, &found]);
    command.args(Path::new(&known).is_dir().then_some(&known)).arg("--");
    command.arg(format!("-max_total_time={seconds}"));
    quiet_step(&format!("fuzz target {target}"), &mut command)
}

/// What the targets reach is safe Rust, where a sanitizer of addresses finds nothing and takes half of the time.
const WITHOUT_SANITIZER: &str = "--sanitizer=none";

/// Why the targets cannot run here, after the attempt to install what they need.
fn obstacle() -> Result<Option<&'static str>, Failed> {
    if !Path::new("fuzz/Cargo.toml").is_file() {
        return Ok(Some("there are none in this tree"));
    }
    if !succeeds("rustup", &["run", "nightly", "rustc", "--version"]) {
        return Ok(Some("they need the nightly toolchain: `rustup toolchain install nightly`"));
    }
    if !is_installed("c++") {
        return Ok(Some("they need a C++ compiler: `apt-get install g++`"));
    }
    if !succeeds("rustup", &["run", "nightly", "cargo", "fuzz", "--version"]) {
        step("cargo-fuzz", &mut cargo(["install", "--locked", "--quiet", "cargo-fuzz"]))?;
    }
    Ok(None)
}

fn targets() -> Result<Vec<String>, Failed> {
    let output = nightly(["fuzz", "list"]).stderr(Stdio::inherit()).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

fn nightly<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo"]).args(arguments);
    // Set by the cargo that runs us, for the stable toolchain.
    for name in ["CARGO", "RUSTC", "RUSTDOC"] {
        command.env_remove(name);
    }
    command
}
