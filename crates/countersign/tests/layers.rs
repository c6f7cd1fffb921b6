//! Which folder of the library may use which: dependencies point one way (`ARCHITECTURE.md`).

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Each folder with the folders of this crate that its files may name. What the crate re-exports
/// from proto is everybody's, and so is `error`.
const LAYERS: &[(&str, &[&str])] = &[
    ("sys", &[]),
    ("options", &[]),
    ("helper", &["sys"]),
    ("needs", &["options"]),
    ("users", &["sys"]),
    ("keys", &["sys"]),
    ("transport", &["sys"]),
    ("trust", &["sys", "transport", "users"]),
    ("trail", &["sys", "trust"]),
    ("oauth", &["options", "transport"]),
    ("modules", &["helper", "keys", "oauth", "needs", "options", "sys", "trust", "users"]),
    ("handlers", &["keys", "oauth", "options", "sys"]),
    ("backend", &["helper", "needs", "options", "sys", "transport", "users"]),
    ("config", &["backend", "handlers", "modules", "needs", "options", "sys", "trail", "transport", "trust"]),
    ("source", &[]),
    ("penalties", &["config", "source", "sys", "trust"]),
    ("control", &["penalties", "source", "sys", "trail", "transport", "trust"]),
    (
        "gateway",
        &[
            "backend",
            "config",
            "control",
            "helper",
            "modules",
            "options",
            "penalties",
            "source",
            "sys",
            "trail",
            "transport",
            "trust",
        ],
    ),
    (
        "connect",
        &["backend", "config", "gateway", "handlers", "modules", "options", "sys", "transport", "trust"],
    ),
];

#[test]
fn every_folder_uses_only_what_is_below_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for (folder, may_use) in LAYERS {
        for file in files(&source, folder) {
            let text = fs::read_to_string(&file).unwrap();
            // Tests at the bottom of a file may look at anything.
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            if file.ends_with("tests.rs") {
                continue;
            }
            for used in used_folders(code) {
                if used != *folder && !may_use.contains(&used.as_str()) {
                    wrong.push(format!("{}: {folder} may not use {used}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_folder_of_the_library_is_in_the_table() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let known: BTreeSet<&str> = LAYERS.iter().map(|(folder, _)| *folder).chain(["lib", "error"]).collect();
    for entry in fs::read_dir(source).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(known.contains(name), "{} is in no layer", path.display());
    }
}

#[test]
fn unsafe_code_is_forbidden_outside_sys() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (folder, _) in LAYERS.iter().filter(|(folder, _)| *folder != "sys") {
        let root = [source.join(folder).join("mod.rs"), source.join(format!("{folder}.rs"))];
        let root = root.iter().find(|path| path.exists()).unwrap();
        let text = fs::read_to_string(root).unwrap();
        assert!(text.contains("#![forbid(unsafe_code)]"), "{}", root.display());
    }
}

/// The folders named by `crate::NAME` or inside `use crate::{...}`.
fn used_folders(code: &str) -> BTreeSet<String> {
    let names: BTreeSet<&str> = LAYERS.iter().map(|(folder, _)| *folder).collect();
    let mut used = BTreeSet::new();
    for (position, _) in code.match_indices("crate::") {
        let rest = &code[position + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            used.extend(heads(group).into_iter().filter(|head| names.contains(head.as_str())));
        } else {
            let head: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            used.extend(Some(head).filter(|head| names.contains(head.as_str())));
        }
    }
    used
}

/// The first words of the items of a `{...}` group, nested groups left out.
fn heads(group: &str) -> Vec<String> {
    let (mut depth, mut heads, mut word, mut first) = (1_usize, Vec::new(), String::new(), true);
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => {
                heads.push(std::mem::take(&mut word));
                first = true;
                continue;
            }
            _ if depth == 1 && first && (c.is_ascii_alphanumeric() || c == '_') => word.push(c),
            ':' if depth == 1 => first = false,
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    heads.push(word);
    heads
}

fn files(source: &Path, folder: &str) -> Vec<PathBuf> {
    let mut found = vec![source.join(format!("{folder}.rs"))];
    let mut folders = vec![source.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.retain(|path| path.exists());
    found
}
