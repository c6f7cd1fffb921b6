//! What something configured opens while the gateway runs, beside what every process may: what the sandbox is made of.
//!
//! Modules, backends and sockets state it, the configuration puts it together, and the gateway's start has the kernel
//! hold the process to it.
#![forbid(unsafe_code)]

use std::path::{Component, Path, PathBuf, absolute};

use crate::options::{OptionSpec, Options};

/// One thing that is needed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Need {
    /// To read what is in a directory, now or later: files are replaced by others of the same name.
    Read(PathBuf),
    /// To make, write and remove what is in a directory.
    Write(PathBuf),
    /// To have the privileged helper; without one, to do its work.
    Helper,
    /// To start programs. They inherit every limit, and nobody knows what they need.
    Programs,
}

/// What options need whose values are files or directories, as their table says.
pub fn of_files(known: &[OptionSpec], options: &Options) -> Vec<Need> {
    let files = known.iter().filter(|option| option.value.contains("FILE"));
    let directories = known.iter().filter(|option| option.value.contains("DIR"));
    let files = files.flat_map(|option| options.written(option.name)).map(|path| Need::Read(place_of(path)));
    let inside = |path: &str| Need::Read(fixed(Path::new(path)));
    files.chain(directories.flat_map(|option| options.written(option.name)).map(inside)).collect()
}

/// The directory of a file, up to the first part of its path that differs by user.
pub fn place_of(path: &str) -> PathBuf {
    let path = Path::new(path);
    fixed(match path.parent() {
        Some(parent) if path.components().count() > 1 => parent,
        _ if has_signs(path) => Path::new("/"),
        _ => Path::new("."),
    })
}

/// A path up to its first part with a sign to fill in.
fn fixed(path: &Path) -> PathBuf {
    let parts: PathBuf = path.components().take_while(|part| !is_sign(part)).collect();
    // `%h/.ssh`: anywhere.
    if parts.as_os_str().is_empty() && has_signs(path) {
        return PathBuf::from("/");
    }
    let parts = if parts.as_os_str().is_empty() { PathBuf::from(".") } else { parts };
    absolute(&parts).unwrap_or(parts)
}

fn has_signs(path: &Path) -> bool {
    path.components().any(|part| is_sign(&part))
}

fn is_sign(part: &Component<'_>) -> bool {
    part.as_os_str().as_encoded_bytes().iter().any(|byte| matches!(byte, b'%' | b'{'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_needs_its_directory_and_one_of_each_user_all_of_theirs() {
        let here = std::env::current_dir().unwrap();
        for (path, place) in [
            ("/etc/app/pw", "/etc/app"),
            ("/srv/keys/%u/authorized_keys", "/srv/keys"),
            ("/srv/keys/%u", "/srv/keys"),
            ("%h/.ssh/authorized_keys", "/"),
            ("%h", "/"),
            ("/pw", "/"),
        ] {
            assert_eq!(place_of(path), Path::new(place), "{path}");
        }
        assert_eq!(place_of("app.pw"), here);
        assert_eq!(place_of("sub/app.pw"), here.join("sub"));
    }

    #[test]
    fn the_table_of_options_says_which_are_files() {
        let known = [
            OptionSpec::new("filename", "FILE", "", ""),
            OptionSpec::new("keys", "DIR", "", ""),
            OptionSpec::new("text", "TEXT", "", ""),
        ];
        let written = [("filename", "/a/pw"), ("keys", "/b/keys"), ("text", "/c/d")];
        let options = Options::new("m", written.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert_eq!(of_files(&known, &options), [Need::Read("/a".into()), Need::Read("/b/keys".into())]);
        assert_eq!(of_files(&known, &Options::new("m", [])), []);
    }
}
