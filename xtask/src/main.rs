//! The project's own commands: `cargo xtask test` runs every check on a fresh Debian machine.
//!
//! Each step is a file here; a step prints one line when it starts and one when it is done, and the first one that
//! fails ends the run.

mod deb;
mod deps;
mod fuzz;
mod mutants;
mod step;
mod suite;
mod vsock;
mod xpra;

use std::{
    env, fs,
    path::Path,
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};

use step::{Failed, cargo, run, timed};

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    let Some((name, rest)) =
        words.split_first().filter(|(name, _)| !matches!(**name, "-h" | "--help" | "help"))
    else {
        return help();
    };
    let Some(command) = COMMANDS.iter().find(|command| command.name == *name) else {
        eprintln!("error: no command `{name}`\nhelp: `cargo xtask --help` lists them");
        return ExitCode::from(2);
    };
    if rest.iter().any(|word| matches!(*word, "-h" | "--help")) {
        return help();
    }
    match at_the_root().and_then(|()| (command.run)(rest)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            eprintln!("\nerror: {failed}");
            ExitCode::FAILURE
        }
    }
}

/// A command: what it is called, what it does, and the arguments after its name.
struct Command {
    name: &'static str,
    summary: &'static str,
    run: fn(&[&str]) -> Result<(), Failed>,
}

const COMMANDS: &[Command] = &[
    Command { name: "test", summary: "install what is missing, then every check and every test", run: test },
    Command {
        name: "deps",
        summary: "install the programs that the tests run against, if missing",
        run: |_| deps::install(),
    },
    Command {
        name: "xpra",
        summary: "versions of Xpra that Debian does not have, built for the tests, if missing",
        run: |_| xpra::build(),
    },
    Command { name: "fmt", summary: "the formatting, as `cargo fmt` leaves it", run: |_| fmt() },
    Command { name: "clippy", summary: "the lints, warnings denied", run: |_| clippy() },
    Command { name: "doc", summary: "the documentation, warnings denied", run: |_| doc() },
    Command { name: "doctest", summary: "the examples in the documentation", run: |_| doctest() },
    Command {
        name: "suite",
        summary: "the test suite alone; more arguments go to the test runner",
        run: suite::run,
    },
    Command {
        name: "fuzz",
        summary: "each fuzz target for 10 seconds, or for as many as given",
        run: fuzz::run,
    },
    Command {
        name: "grid",
        summary: "every cell of docs/interop.md, Xpra with Xpra too; arguments choose tests, as `xpra_6`",
        run: grid,
    },
    Command {
        name: "vsock",
        summary: "the login over vsock, played in a virtual machine: for kernels without vsock_loopback",
        run: vsock::play,
    },
    Command {
        name: "mutants",
        summary: "whether tests notice each change of what lets people in (hours); more go to cargo-mutants",
        run: mutants::run,
    },
    Command {
        name: "windows",
        summary: "the library type-checked for Windows, where rustup has x86_64-pc-windows-gnu",
        run: |_| windows(),
    },
    Command {
        name: "bench",
        summary: "what logins and the hand-over cost; more arguments go to `cargo bench`",
        run: bench,
    },
    Command {
        name: "deb",
        summary: "the Debian package; --binary FILE packs a program that is built, --to FOLDER says where",
        run: deb::build,
    },
    Command {
        name: "generate",
        summary: "the generated pages (manual, table of modules, grid of programs) written anew",
        run: |_| generate(),
    },
];

fn help() -> ExitCode {
    println!("The project's own commands.\n\nUsage: cargo xtask COMMAND [ARGUMENTS]\n\nCommands:");
    for command in COMMANDS {
        println!("  {:<10}{}", command.name, command.summary);
    }
    println!(
        "\n`cargo xtask test` needs Debian 12 or later, Rust and a C compiler; it installs the rest with apt-get."
    );
    ExitCode::SUCCESS
}

/// Every step speaks of files by their path from the root of the repository.
fn at_the_root() -> Result<(), Failed> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(env::set_current_dir(own.parent().unwrap_or(own))?)
}

fn test(_: &[&str]) -> Result<(), Failed> {
    let started = Instant::now();
    deps::install()?;
    xpra::build()?;
    fmt()?;
    clippy()?;
    doc()?;
    doctest()?;
    fuzz::run(&[])?;
    suite::run(&[])?;
    eprintln!("every step passed in {}", minutes(started.elapsed()));
    Ok(())
}

fn fmt() -> Result<(), Failed> {
    run("formatting", &mut cargo(["fmt", "--all", "--", "--check"]))
}

/// The lints on the default features and, where a crate has features, on none and on all of them.
fn clippy() -> Result<(), Failed> {
    let base = ["clippy", "--workspace", "--all-targets"];
    run("lints", cargo(base).args(["--", "-D", "warnings"]))?;
    if step::has_features()? {
        run("lints without features", cargo(base).args(["--no-default-features", "--", "-D", "warnings"]))?;
        run("lints with all features", cargo(base).args(["--all-features", "--", "-D", "warnings"]))?;
    }
    Ok(())
}

/// The library and what is tested of it there. The C code in it needs mingw's compiler.
fn windows() -> Result<(), Failed> {
    let what = ["check", "-p", "countersign", "--lib", "--test", "windows"];
    run("the library for Windows", cargo(what).args(["--target", "x86_64-pc-windows-gnu"]))
}

/// Once as readers get it, so that nothing public points at something private, and once with everything.
fn doc() -> Result<(), Failed> {
    for more in [None, Some("--document-private-items")] {
        let mut command = cargo(["doc", "--workspace", "--no-deps"]);
        let title = more.map_or("documentation", |_| "documentation of private items");
        run(title, command.args(more).env("RUSTDOCFLAGS", "-D warnings"))?;
    }
    Ok(())
}

fn doctest() -> Result<(), Failed> {
    run("examples in the documentation", &mut cargo(["test", "--workspace", "--doc"]))
}

/// The suite plays a part of the grid. Here no test runner looks at the clock.
fn grid(arguments: &[&str]) -> Result<(), Failed> {
    deps::install()?;
    xpra::build()?;
    run("the command", &mut cargo(["build", "--package", "countersign-cli", "--bins"]))?;
    let mut command = cargo(["test", "--package", "countersign-interop", "--test", "grid", "--"]);
    command.args(["--nocapture", "--test-threads=2"]).args(arguments);
    run("the whole grid", command.env("COUNTERSIGN_GRID_WHOLE", "yes"))
}

fn bench(arguments: &[&str]) -> Result<(), Failed> {
    run("measurements", cargo(["bench", "--workspace", "--bench", "*"]).args(arguments))
}

/// The command writes its own pages; a test compares them with what lies in the repository.
fn generate() -> Result<(), Failed> {
    for page in [["man", "docs/man"], ["modules", "docs/modules.md"]] {
        let arguments = ["run", "--quiet", "--package", "countersign-cli", "--", "generate"];
        run(&format!("generated pages: {}", page[1]), cargo(arguments).args(page))?;
    }
    timed("generated pages: docs/interop.md", || {
        let mut command = cargo(["run", "--quiet", "--bin", "countersign-interop"]);
        let output = command.stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            return Err(Failed("docs/interop.md cannot be drawn".to_owned()));
        }
        Ok(fs::write("docs/interop.md", output.stdout)?)
    })
}

fn minutes(time: Duration) -> String {
    format!("{} min {:02} s", time.as_secs() / 60, time.as_secs() % 60)
}
