//! The pages say what is there, and all of it: `docs/security.md` beside the tests, `ARCHITECTURE.md` beside the files,
//! the example of `README.md` beside the one that is compiled.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

#[test]
fn the_security_page_names_tests_that_exist_and_misses_no_number_that_has_one() {
    let (page, tests) = (read("docs/security.md"), tests());
    let mut wrong = Vec::new();
    let mut shown = BTreeSet::new();
    let mut number = None;
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("**") {
            number = numbers(rest, "S-").first().copied();
        } else if line.starts_with('#') {
            number = None;
        }
        let Some(name) = line.strip_prefix("- `").and_then(|rest| rest.strip_suffix('`')) else { continue };
        match (number, tests.get(name)) {
            (_, None) => wrong.push(format!("it names `{name}`, which is no test")),
            (Some(number), Some(carries)) if carries.contains(&number) => _ = shown.insert(number),
            _ => wrong.push(format!("`{name}` stands under a number that it does not carry")),
        }
    }
    for (name, carries) in &tests {
        for number in carries.difference(&shown) {
            wrong.push(format!("S-{number:02} has a test and no line with tests: add `{name}`"));
        }
    }
    assert!(wrong.is_empty(), "docs/security.md:\n{}", wrong.join("\n"));
}

#[test]
fn every_number_that_is_mentioned_is_explained() {
    let page = read("docs/security.md");
    let known = |prefix| numbers(&page, prefix).into_iter().collect::<BTreeSet<_>>();
    let (requirements, weaknesses, others) = (known("S-"), known("W"), known("M"));
    let mut used = BTreeSet::new();
    for path in tree(&["rs", "toml", "md"]) {
        let text = fs::read_to_string(root().join(&path)).unwrap();
        if path.ends_with("docs/security.md") || path.ends_with("CHANGELOG.md") || path == this_file() {
            continue;
        }
        for (prefix, known) in [("S-", &requirements), ("W", &weaknesses), ("M", &others)] {
            for number in numbers(&text, prefix) {
                let place = path.display();
                assert!(
                    known.contains(&number),
                    "{place}: docs/security.md does not know {prefix}{number:02}"
                );
            }
        }
        used.extend(numbers(&text, "W"));
    }
    let unused: Vec<_> = weaknesses.difference(&used).collect();
    assert!(unused.is_empty(), "docs/security.md explains W-numbers that nothing mentions: {unused:?}");
}

#[test]
fn the_map_of_the_code_has_every_file_and_no_other() {
    let map = read("ARCHITECTURE.md");
    let mut named = BTreeSet::new();
    let mut folder = None;
    for line in map.lines() {
        if let Some(title) = line.strip_prefix("### `") {
            folder = title.split('`').next();
        } else if let (Some(folder), Some(row)) = (folder, line.strip_prefix("| `")) {
            let cell = row.split(" | ").next().unwrap_or_default();
            for file in cell.split('`').filter(|file| file.ends_with(".rs")) {
                let file = format!("{folder}{file}");
                assert!(!named.contains(&file), "ARCHITECTURE.md: {file} stands there twice");
                named.insert(file);
            }
        }
    }
    // Tests in a file of their own belong to the file they test.
    let files: BTreeSet<String> = tree(&["rs"])
        .iter()
        .filter(|path| path.starts_with("crates") && path.components().any(|part| part.as_os_str() == "src"))
        .map(|path| path.display().to_string())
        .filter(|path| !path.ends_with("/tests.rs"))
        .collect();
    let missing: Vec<_> = files.difference(&named).collect();
    let gone: Vec<_> = named.difference(&files).collect();
    assert!(missing.is_empty() && gone.is_empty(), "ARCHITECTURE.md: missing {missing:#?}, gone {gone:#?}");
}

#[test]
fn every_page_that_is_pointed_at_exists() {
    for path in tree(&["rs", "toml", "md"]) {
        let text = fs::read_to_string(root().join(&path)).unwrap();
        for (position, _) in text.match_indices("docs/") {
            let rest = &text[position..];
            let end =
                rest.find(|c: char| !(c.is_ascii_alphanumeric() || "/._-".contains(c))).unwrap_or(rest.len());
            let page = &rest[..end];
            let whole =
                position == 0 || !text[..position].ends_with(|c: char| c.is_alphanumeric() || c == '/');
            if whole && page.ends_with(".md") {
                assert!(root().join(page).exists(), "{}: there is no {page}", path.display());
            }
        }
    }
}

#[test]
fn the_example_of_the_readme_is_the_one_that_is_compiled() {
    let (readme, library) = (read("README.md"), read("crates/countersign/src/lib.rs"));
    let block = |text: &str, start: &str, end: &str| {
        let inside = text.split_once(start).and_then(|(_, rest)| rest.split_once(end));
        inside.map(|(block, _)| block.to_owned()).unwrap_or_default()
    };
    let compiled: String = block(&library, "//! ```no_run\n", "//! ```\n")
        .lines()
        .map(|line| line.strip_prefix("//!").map_or(line, |line| line.strip_prefix(' ').unwrap_or(line)))
        .filter(|line| !line.starts_with("# "))
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(compiled.contains("Acceptor"));
    assert_eq!(block(&readme, "```rust,ignore\n", "```\n"), compiled);
}

/// Every test of the repository with the numbers that its name or the comment above it carries.
fn tests() -> BTreeMap<String, BTreeSet<u16>> {
    let mut tests = BTreeMap::<_, BTreeSet<_>>::new();
    for path in tree(&["rs"]) {
        let text = fs::read_to_string(root().join(path)).unwrap();
        let (mut is_test, mut carries) = (false, BTreeSet::new());
        for line in text.lines().map(str::trim) {
            if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                is_test = true;
            } else if line.starts_with("///") {
                carries.extend(numbers(line, "S-"));
            } else if !line.starts_with("#[") {
                let start = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
                if let (true, Some(start)) = (is_test, start) {
                    let name = start.split('(').next().unwrap_or_default();
                    carries.extend(numbers(name, "s_"));
                    tests.entry(name.to_owned()).or_default().append(&mut carries);
                }
                (is_test, carries) = (false, BTreeSet::new());
            }
        }
    }
    tests
}

/// The numbers behind each `prefix` that stands at the start of a word: `S-26`, `s_026`, `W17`.
fn numbers(text: &str, prefix: &str) -> Vec<u16> {
    let digits = |rest: &str| rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let starts_a_word =
        |position| !text[..position].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '-');
    text.match_indices(prefix)
        .filter(|(position, _)| starts_a_word(*position))
        .filter_map(|(position, _)| {
            let rest = &text[position + prefix.len()..];
            let (number, after) = rest.split_at(digits(rest));
            let ends = !after.starts_with(|c: char| c.is_ascii_alphabetic());
            if ends && (2..=3).contains(&number.len()) { number.parse().ok() } else { None }
        })
        .collect()
}

/// The files of the repository that end so, by their path from its root, without what is built or foreign.
fn tree(endings: &[&str]) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let (path, name) = (folder.join(entry.file_name()), entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                if name != "target" && !name.to_string_lossy().starts_with('.') {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|ending| endings.iter().any(|wanted| ending == *wanted)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read(page: &str) -> String {
    fs::read_to_string(root().join(page)).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// It speaks of numbers without meaning any.
fn this_file() -> PathBuf {
    PathBuf::from("xtask/tests/pages.rs")
}
