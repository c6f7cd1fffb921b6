//! Whether a service of PAM asks anything at all. Looked at once, at start (S-71).
//!
//! Without a file of its own a service is the one called `other`, which refuses everybody on a well-kept
//! system and passes everybody on another: neither is what was meant.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use crate::sys::files::{FileFault, open_unforged};

/// What is wrong with a service.
#[derive(Debug)]
pub(super) enum Fault {
    /// It has no file.
    Missing,
    /// Its file, or one that it includes, cannot be used.
    File(FileFault),
    /// It asks nobody for anything.
    AsksNothing,
}

/// Judges the service `name` by its file, in `directory` or where this system has such files.
///
/// # Errors
/// It does not authenticate.
pub(super) fn check(name: &str, directory: Option<&Path>) -> Result<(), Fault> {
    // As libpam reads it.
    let name = name.to_ascii_lowercase();
    let places: Vec<&Path> = match directory {
        Some(directory) => vec![directory],
        None => SYSTEM.iter().map(Path::new).collect(),
    };
    let Some(file) = find(&name, &places) else {
        return match directory {
            None if !Path::new(SYSTEM[0]).exists() => check_single(&name, Path::new(SINGLE)),
            _ => Err(Fault::Missing),
        };
    };
    if authenticates(&file, &places, 0)? { Ok(()) } else { Err(Fault::AsksNothing) }
}

/// Whether a file has a line of the type `auth`, itself or by what it includes.
fn authenticates(file: &Path, places: &[&Path], depth: usize) -> Result<bool, Fault> {
    // Files that include each other end somewhere, as they do in libpam.
    if depth > DEEPEST {
        return Ok(false);
    }
    for line in lines(&read(file)?) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let included = match *words.as_slice() {
            ["@include", name, ..] => name,
            [kind, "include" | "substack", name, ..] if is_auth(kind) => name,
            [kind, ..] if is_auth(kind) => return Ok(true),
            _ => continue,
        };
        if let Some(included) = find(included, places)
            && authenticates(&included, places, depth + 1)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The same for a system with one file for all services, whose lines begin with the service.
fn check_single(name: &str, file: &Path) -> Result<(), Fault> {
    if !file.exists() {
        return Err(Fault::Missing);
    }
    let text = read(file)?;
    let all = lines(&text);
    let mut own = all.iter().map(|line| line.split_ascii_whitespace()).filter_map(|mut words| {
        let service = words.next()?;
        service.eq_ignore_ascii_case(name).then(|| words.next().is_some_and(is_auth))
    });
    match own.next() {
        None => Err(Fault::Missing),
        Some(first) if first || own.any(|auth| auth) => Ok(()),
        Some(_) => Err(Fault::AsksNothing),
    }
}

/// A type may have a dash in front: its module may be missing.
fn is_auth(kind: &str) -> bool {
    kind.trim_start_matches('-').eq_ignore_ascii_case("auth")
}

fn find(name: &str, places: &[&Path]) -> Option<PathBuf> {
    places.iter().map(|place| place.join(name)).find(|path| path.exists())
}

fn read(path: &Path) -> Result<String, Fault> {
    let mut text = String::new();
    let file = open_unforged(path).map_err(Fault::File)?;
    // Half of a file that is no text, or longer than any, is judged by what was read.
    let _ = file.take(MOST_BYTES).read_to_string(&mut text);
    Ok(text)
}

/// Lines without comments; a backslash at the end goes on in the next.
fn lines(text: &str) -> Vec<String> {
    let joined = text.replace("\\\n", " ");
    joined.lines().map(|line| line.split('#').next().unwrap_or_default().to_owned()).collect()
}

/// Where Linux-PAM looks, in its order; distributions choose among the later ones.
const SYSTEM: [&str; 4] = ["/etc/pam.d", "/usr/lib/pam.d", "/usr/share/pam.d", "/usr/etc/pam.d"];

/// Read where there is no directory.
const SINGLE: &str = "/etc/pam.conf";

const DEEPEST: usize = 32;

const MOST_BYTES: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn judged(files: &[(&str, &str)]) -> Result<(), Fault> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        check("App", Some(folder.path()))
    }

    #[test]
    fn s_071_a_service_authenticates_itself_or_by_what_it_includes() {
        for good in [
            &[("app", "auth required pam_unix.so\n")][..],
            &[("app", "# an application\naccount required pam_permit.so\n-AUTH \\\n sufficient pam_x.so")],
            &[("app", "@include common\n"), ("common", "\n auth\trequired pam_unix.so")],
            &[("app", "auth include a"), ("a", "auth substack b"), ("b", "auth [default=die] pam_x.so")],
        ] {
            assert!(judged(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn s_071_a_service_without_an_auth_stack_is_told_from_one_that_is_missing() {
        assert!(matches!(judged(&[("other", "auth required pam_permit.so")]), Err(Fault::Missing)));
        for silent in [
            &[("app", "")][..],
            &[("app", "account required pam_unix.so\nsession required pam_unix.so")],
            &[("app", "#auth required pam_unix.so")],
            &[("app", "@include common"), ("common", "account required pam_unix.so")],
            &[("app", "@include app")],
            &[("app", "auth include nothing")],
            &[("app", "account include other"), ("other", "auth required pam_unix.so")],
        ] {
            assert!(matches!(judged(silent), Err(Fault::AsksNothing)), "{silent:?}");
        }
    }

    #[test]
    fn s_061_a_service_that_others_can_write_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("app");
        fs::write(&file, "auth required pam_unix.so").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(check("app", Some(folder.path())), Err(Fault::File(_))));
    }

    #[test]
    fn a_single_file_is_read_by_its_first_words() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pam.conf");
        assert!(matches!(check_single("app", &file), Err(Fault::Missing)));
        fs::write(
            &file,
            "other auth required x\nApp account required x\nAPP auth required x\nb account y z\n",
        )
        .unwrap();
        assert!(check_single("app", &file).is_ok());
        assert!(matches!(check_single("b", &file), Err(Fault::AsksNothing)));
        assert!(matches!(check_single("c", &file), Err(Fault::Missing)));
    }
}
