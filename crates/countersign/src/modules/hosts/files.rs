//! The tables as they are on disk now: read at start, and again whenever a file has changed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

use super::rules::Table;

/// Both tables, read at one time.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) allow: Table,
    pub(super) deny: Table,
}

/// Where the tables are, and what was read last.
pub(super) struct Files {
    allow: PathBuf,
    deny: PathBuf,
    names: Vec<String>,
    last: Mutex<Reading>,
}

/// One reading: what it found, and of which files.
struct Reading {
    tables: Result<Arc<Tables>, String>,
    /// Every file that was looked for, pattern files too.
    stamps: Vec<(PathBuf, Option<Stamp>)>,
}

/// What tells one content of a path from another (W14): a change within one clock tick changes the
/// size or the inode, unless somebody takes pains to hide it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Files {
    /// Reads both tables for the daemon `names`.
    ///
    /// # Errors
    /// Every mistake in them with its line, in one text.
    pub(super) fn load(allow: PathBuf, deny: PathBuf, names: Vec<String>) -> Result<Self, String> {
        let reading = Reading::of(&allow, &deny, &names);
        match &reading.tables {
            Ok(_) => Ok(Self { allow, deny, names, last: Mutex::new(reading) }),
            Err(mistakes) => Err(mistakes.clone()),
        }
    }

    /// The tables as they are now.
    ///
    /// # Errors
    /// They were changed into something that cannot be read: nobody gets in until that is mended.
    /// It is logged once for each change.
    pub(super) fn current(&self) -> Result<Arc<Tables>, String> {
        let mut last = self.last.lock();
        if !last.is_fresh() {
            *last = Reading::of(&self.allow, &self.deny, &self.names);
            match &last.tables {
                Ok(_) => tracing::info!("the hosts tables were read again"),
                Err(mistakes) => {
                    tracing::error!(mistakes, "the hosts tables cannot be read: everybody is refused")
                }
            }
        }
        last.tables.clone()
    }
}

impl Reading {
    fn of(allow: &Path, deny: &Path, names: &[String]) -> Self {
        let mut stamps = Vec::new();
        let mut mistakes = Vec::new();
        let mut table = |path: &Path, which: &str| {
            let found = read(path, &mut stamps);
            let text = found.unwrap_or_else(|error| {
                mistakes.push(format!("the {which} file: {error}"));
                None
            });
            let mut pattern_file = |path: &str| match read(Path::new(path), &mut stamps) {
                Ok(Some(text)) => Ok(text),
                Ok(None) => Err("this file is missing".to_owned()),
                Err(error) => Err(error.to_string()),
            };
            Table::parse(&text.unwrap_or_default(), names, &mut pattern_file).unwrap_or_else(|wrong| {
                mistakes.extend(wrong.iter().map(|mistake| format!("the {which} file, {mistake}")));
                Table::default()
            })
        };
        let tables = Tables { allow: table(allow, "allow"), deny: table(deny, "deny") };
        let tables = if mistakes.is_empty() { Ok(Arc::new(tables)) } else { Err(mistakes.join("; ")) };
        Self { tables, stamps }
    }

    fn is_fresh(&self) -> bool {
        self.stamps.iter().all(|(path, stamp)| match (fs::metadata(path), stamp) {
            (Ok(meta), Some(stamp)) => Stamp::of(&meta) == *stamp,
            (Err(error), None) => error.kind() == io::ErrorKind::NotFound,
            _ => false,
        })
    }
}

impl Stamp {
    fn of(meta: &fs::Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// The text of a file, `None` if there is none, and its stamp as of before it was read.
fn read(path: &Path, stamps: &mut Vec<(PathBuf, Option<Stamp>)>) -> io::Result<Option<String>> {
    /// Longer tables are a mistake, and would be parsed again at every change.
    const LONGEST: u64 = 1024 * 1024;
    // Without `O_NONBLOCK` a FIFO in the file's place would stop the gateway.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            stamps.push((path.to_owned(), None));
            return Ok(None);
        }
        Err(error) => {
            stamps.push((path.to_owned(), None));
            return Err(error);
        }
    };
    let meta = file.metadata()?;
    stamps.push((path.to_owned(), Some(Stamp::of(&meta))));
    trusted(&meta)?;
    let mut bytes = Vec::new();
    File::take(file, LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        return Err(io::Error::other("it is longer than 1 MiB"));
    }
    // Comments may be in any encoding; outside of them the replacement character fits no pattern.
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Whoever may write the table decides who gets in (S-61).
fn trusted(meta: &fs::Metadata) -> io::Result<()> {
    let own = rustix::process::geteuid().as_raw();
    if !meta.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    if meta.uid() != 0 && meta.uid() != own {
        return Err(io::Error::other(format!(
            "it belongs to uid {}, neither root nor the gateway",
            meta.uid()
        )));
    }
    if meta.mode() & 0o022 != 0 {
        return Err(io::Error::other("others can write it: run chmod go-w on it"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn at(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.at(name), text).unwrap();
        }

        fn load(&self) -> Result<Files, String> {
            Files::load(self.at("allow"), self.at("deny"), vec!["countersign".into()])
        }
    }

    #[test]
    fn missing_files_are_empty_and_count_as_soon_as_they_appear() {
        let folder = Folder::new();
        let files = folder.load().unwrap();
        let first = files.current().unwrap();
        assert!(Arc::ptr_eq(&first, &files.current().unwrap()), "nothing changed, nothing is read again");
        folder.write("deny", "ALL: ALL\n");
        let second = files.current().unwrap();
        assert_eq!(second.allow, Table::default());
        assert_ne!(second.deny, Table::default());
        fs::remove_file(folder.at("deny")).unwrap();
        assert_eq!(files.current().unwrap().deny, Table::default());
    }

    #[test]
    fn s_078_a_change_for_the_worse_refuses_everybody_until_it_is_mended() {
        let folder = Folder::new();
        folder.write("allow", "ALL: 10.\n");
        let files = folder.load().unwrap();
        folder.write("allow", "ALL: 10.\n\nALL 11.\n");
        let error = files.current().unwrap_err();
        assert_eq!(error, "the allow file, line 3: there is no colon between daemons and clients");
        assert_eq!(files.current().unwrap_err(), error);
        folder.write("allow", "ALL: 10. 11.\n");
        assert!(files.current().is_ok());
    }

    #[test]
    fn a_pattern_file_that_changes_is_read_again() {
        let folder = Folder::new();
        folder.write("patterns", "10.\n");
        folder.write("deny", &format!("ALL: {}\n", folder.at("patterns").display()));
        let files = folder.load().unwrap();
        let before = files.current().unwrap();
        folder.write("patterns", "10. 11.\n");
        assert_ne!(files.current().unwrap().deny, before.deny);
        fs::remove_file(folder.at("patterns")).unwrap();
        assert!(files.current().unwrap_err().contains("this file is missing"));
    }

    #[test]
    fn s_061_a_table_that_others_can_write_or_that_is_no_file_is_refused() {
        let folder = Folder::new();
        folder.write("allow", "");
        for mode in [0o666, 0o620] {
            fs::set_permissions(folder.at("allow"), fs::Permissions::from_mode(mode)).unwrap();
            assert!(folder.load().err().unwrap().contains("the allow file: others can write it"));
        }
        fs::remove_file(folder.at("allow")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, folder.at("allow"), rustix::fs::Mode::RWXU).unwrap();
        assert!(folder.load().err().unwrap().contains("no regular file"));
        fs::remove_file(folder.at("allow")).unwrap();
        folder.write("allow", &"#".repeat(1024 * 1024 + 1));
        assert!(folder.load().err().unwrap().contains("longer than 1 MiB"));
        if rustix::process::geteuid().is_root() {
            folder.write("allow", "");
            std::os::unix::fs::chown(folder.at("allow"), Some(12345), None).unwrap();
            assert!(folder.load().err().unwrap().contains("belongs to uid 12345"));
        }
    }
}
