//! The pages that the command writes of itself are in the repository as it writes them today.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

#[test]
fn the_manual_is_drawn_from_the_command_as_it_is() {
    let place = tempfile::tempdir().unwrap();
    generate("man", place.path());
    assert_eq!(pages(&docs().join("man")), pages(place.path()), "{STALE}");
}

#[test]
fn the_table_of_modules_is_drawn_from_the_registry_as_it_is() {
    let place = tempfile::tempdir().unwrap();
    let page = place.path().join("modules.md");
    generate("modules", &page);
    let ours = fs::read_to_string(docs().join("modules.md")).unwrap();
    assert_eq!(ours, fs::read_to_string(page).unwrap(), "{STALE}");
}

#[test]
fn every_shell_gets_completions_that_know_the_commands() {
    let place = tempfile::tempdir().unwrap();
    generate("completions", place.path());
    let pages = pages(place.path());
    assert!(pages.len() >= 4, "bash, elvish, fish, zsh at least");
    for (name, text) in pages {
        assert!(text.contains("explain") && text.contains("password-file"), "{name}");
    }
}

fn generate(what: &str, to: &Path) {
    let command = env!("CARGO_BIN_EXE_countersign");
    let status =
        Command::new(command).args(["generate", what]).arg(to).stdout(std::process::Stdio::null()).status();
    assert!(status.unwrap().success());
}

fn pages(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let page = |entry: fs::DirEntry| {
        (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap())
    };
    entries.map(page).collect()
}

fn docs() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

const STALE: &str = "draw the pages anew: cargo xtask generate";
