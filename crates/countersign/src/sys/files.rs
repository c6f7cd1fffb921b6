//! Files that hold secrets: opened only if nobody else can read or replace them, created for nobody else.
//!
//! Called by the modules and tables that keep secrets in files. All checks are made on the opened
//! descriptor, and a symbolic link in the last component is not followed (S-61).

use std::{
    borrow::Cow,
    fmt,
    fs::{File, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// Opens a file of ours for reading.
///
/// With `insecure`, others may be able to read, own or replace it; everything else still holds.
///
/// # Errors
/// The file is absent, is a link or no regular file, or others can get at it.
pub fn open_private(path: &Path, insecure: bool) -> Result<File, FileFault> {
    let fault = |kind| FileFault { path: path.to_owned(), kind };
    // Non-blocking, so that a FIFO in its place does not hang us before it is seen to be one.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP) => fault(Kind::Link),
        _ => fault(Kind::Io(error)),
    })?;
    let facts = file.metadata().map_err(|error| fault(Kind::Io(error)))?;
    if !facts.is_file() {
        return Err(fault(Kind::NotAFile));
    }
    if !insecure {
        if !is_trusted(facts.uid()) {
            return Err(fault(Kind::Owner(facts.uid())));
        }
        if facts.mode() & 0o077 != 0 {
            return Err(fault(Kind::Mode(facts.mode() & 0o7777)));
        }
        check_directory(path)?;
    }
    Ok(file)
}

/// Opens a file that others may read and nobody but us or root can change: a list of authorities.
///
/// Links are followed, for the system's own lists consist of them; what they lead to is judged.
///
/// # Errors
/// The file is absent or no regular file, or others can write it or put another in its place.
pub fn open_unforged(path: &Path) -> Result<File, FileFault> {
    open_unforged_by(path, None)
}

/// The same for a file that may also be this user's: what users decide for themselves.
///
/// # Errors
/// As [`open_unforged`].
pub fn open_unforged_by(path: &Path, owner: Option<u32>) -> Result<File, FileFault> {
    let fault = |kind| FileFault { path: path.to_owned(), kind };
    let flags = libc::O_NONBLOCK | libc::O_CLOEXEC;
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = opened.map_err(|error| fault(Kind::Io(error)))?;
    let facts = file.metadata().map_err(|error| fault(Kind::Io(error)))?;
    if !facts.is_file() {
        return Err(fault(Kind::NotAFile));
    }
    if !is_trusted(facts.uid()) && Some(facts.uid()) != owner {
        return Err(fault(Kind::Owner(facts.uid())));
    }
    if facts.mode() & 0o022 != 0 {
        return Err(fault(Kind::Writable(facts.mode() & 0o7777)));
    }
    check_directory_of(path, owner)?;
    Ok(file)
}

/// Opens a file of ours for reading, after others lost every right that they had to it. The mode that
/// it had comes with it, if it was wider.
///
/// # Errors
/// As [`open_private`], and where the rights cannot be taken.
pub fn open_narrowed(path: &Path) -> Result<(File, Option<u32>), FileFault> {
    let file = open_private(path, true)?;
    let fault = |kind| FileFault { path: path.to_owned(), kind };
    let narrowed = narrow(&file, 0o600).map_err(fault)?;
    check_directory(path)?;
    Ok((file, narrowed))
}

/// Takes from others every right to a directory of ours, and says which mode it had if it was wider.
///
/// # Errors
/// It is absent, no directory, a link, somebody else's, or cannot be changed.
pub fn narrow_directory(path: &Path) -> Result<Option<u32>, FileFault> {
    let fault = |kind| FileFault { path: path.to_owned(), kind };
    let flags = libc::O_NOFOLLOW | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let directory = opened.map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP | libc::ENOTDIR) => fault(Kind::Link),
        _ => fault(Kind::Io(error)),
    })?;
    narrow(&directory, 0o700).map_err(fault)
}

/// Makes a directory that nobody else can enter, and those above it, unless it is there.
///
/// # Errors
/// It cannot be made.
pub fn create_private_directory(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Gives an opened file or directory of ours this mode, if others have a right to it.
fn narrow(file: &File, mode: u32) -> Result<Option<u32>, Kind> {
    let facts = file.metadata().map_err(Kind::Io)?;
    if !is_trusted(facts.uid()) {
        return Err(Kind::Owner(facts.uid()));
    }
    let had = facts.mode() & 0o7777;
    if had & 0o077 == 0 {
        return Ok(None);
    }
    file.set_permissions(Permissions::from_mode(mode)).map_err(|_| Kind::Mode(had))?;
    Ok(Some(had))
}

/// Refuses a path in whose directory somebody else could put another file.
///
/// # Errors
/// The directory is absent, belongs to another user, or is writable by others and not sticky.
pub fn check_directory(path: &Path) -> Result<(), FileFault> {
    check_directory_of(path, None)
}

fn check_directory_of(path: &Path, owner: Option<u32>) -> Result<(), FileFault> {
    let directory = directory_of(path);
    let fault = |kind| FileFault { path: directory.to_owned(), kind };
    let facts = std::fs::metadata(directory).map_err(|error| fault(Kind::Io(error)))?;
    if !is_trusted(facts.uid()) && Some(facts.uid()) != owner {
        return Err(fault(Kind::Owner(facts.uid())));
    }
    let mode = facts.mode() & 0o7777;
    if mode & 0o022 != 0 && mode & 0o1000 == 0 {
        return Err(fault(Kind::Directory(mode)));
    }
    Ok(())
}

/// Creates a file that nobody else can read, not even for a moment. It must not exist.
///
/// # Errors
/// It exists, or cannot be created.
pub fn create_private(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC;
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).custom_flags(flags).open(path)
}

/// The directory that holds `path`.
pub fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// What tells one state of a file from another: a replaced, grown, rewritten or touched file differs (S-79).
/// The default one is no file's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// The state of an opened file that was last written long enough ago that another write would show in
    /// its time; else no file's, so that the next look finds it changed.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn settled(file: &File) -> io::Result<Self> {
        let age =
            file.metadata()?.modified().ok().and_then(|time| SystemTime::now().duration_since(time).ok());
        if age.is_some_and(|age| age > SETTLED) { Self::of(file) } else { Ok(Self::default()) }
    }

    /// The state of an opened file.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn of(file: &File) -> io::Result<Self> {
        let facts = file.metadata()?;
        Ok(Self {
            device: facts.dev(),
            inode: facts.ino(),
            size: facts.size(),
            modified: (facts.mtime(), facts.mtime_nsec()),
            changed: (facts.ctime(), facts.ctime_nsec()),
        })
    }
}

/// Why a file that should hold secrets is not used. Reads `FILE: why`; see [`FileFault::fix`].
#[derive(Debug)]
pub struct FileFault {
    path: PathBuf,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Io(io::Error),
    Link,
    NotAFile,
    Owner(u32),
    Mode(u32),
    Writable(u32),
    Directory(u32),
}

impl FileFault {
    /// What to do about it.
    pub fn fix(&self) -> String {
        let path = self.path.display();
        match &self.kind {
            Kind::Io(error) if error.kind() == io::ErrorKind::NotFound => {
                "create it, or write the path of the right one".to_owned()
            }
            Kind::Io(_) => format!("make {path} readable for the user that runs this"),
            Kind::Link => "write the path that the link leads to".to_owned(),
            Kind::NotAFile => "write the path of a regular file".to_owned(),
            Kind::Owner(_) => format!("chown {} {path}", nix::unistd::geteuid()),
            Kind::Mode(_) => format!("chmod 600 {path}"),
            Kind::Writable(_) | Kind::Directory(_) => format!("chmod go-w {path}"),
        }
    }

    /// Why, without the path.
    pub fn why(&self) -> Cow<'static, str> {
        match &self.kind {
            Kind::Io(error) if error.kind() == io::ErrorKind::NotFound => "there is no such file".into(),
            Kind::Io(error) => format!("it cannot be opened: {error}").into(),
            Kind::Link => "it is a symbolic link, which could be turned elsewhere".into(),
            Kind::NotAFile => "it is no regular file".into(),
            Kind::Owner(uid) => format!("it belongs to uid {uid}, not to us or root").into(),
            Kind::Mode(mode) => format!("others than its owner can get at it (mode {mode:o})").into(),
            Kind::Writable(mode) => format!("others than its owner can write it (mode {mode:o})").into(),
            Kind::Directory(mode) => {
                format!("others can put another file in this directory (mode {mode:o})").into()
            }
        }
    }
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.why())
    }
}

impl std::error::Error for FileFault {}

/// Kernels count a file's time in ticks of up to 10 ms, some file systems in seconds.
const SETTLED: Duration = Duration::from_secs(3);

fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == nix::unistd::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn s_061_s_079_what_others_can_read_or_replace_is_refused_with_the_repair() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, "x").unwrap();
        for (mode, opens) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o602, false)] {
            set_mode(&path, mode);
            assert_eq!(open_private(&path, false).is_ok(), opens, "{mode:o}");
            assert!(open_private(&path, true).is_ok());
        }
        let fault = open_private(&path, false).unwrap_err();
        assert_eq!(fault.fix(), format!("chmod 600 {}", path.display()));
        set_mode(&path, 0o600);
        set_mode(folder.path(), 0o777);
        assert_eq!(
            open_private(&path, false).unwrap_err().fix(),
            format!("chmod go-w {}", folder.path().display())
        );
        set_mode(folder.path(), 0o1777);
        assert!(open_private(&path, false).is_ok());
    }

    #[test]
    fn s_061_links_pipes_and_directories_are_no_secret_files_even_if_insecure() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link, pipe) =
            (folder.path().join("real"), folder.path().join("link"), folder.path().join("pipe"));
        create_private(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for insecure in [false, true] {
            for path in [&link, &pipe, folder.path(), &folder.path().join("absent")] {
                assert!(open_private(path, insecure).is_err(), "{}", path.display());
            }
        }
    }

    #[test]
    fn s_061_a_list_of_authorities_may_be_read_by_all_and_written_by_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("ca.pem"), folder.path().join("link"));
        fs::write(&path, "x").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for (mode, opens) in [(0o644, true), (0o600, true), (0o664, false), (0o646, false)] {
            set_mode(&path, mode);
            assert_eq!(open_unforged(&link).is_ok(), opens, "{mode:o}");
        }
        assert_eq!(open_unforged(&path).unwrap_err().fix(), format!("chmod go-w {}", path.display()));
        set_mode(&path, 0o644);
        set_mode(folder.path(), 0o777);
        assert!(open_unforged(&path).is_err() && open_unforged(Path::new("/dev/null")).is_err());
    }

    #[test]
    fn a_created_file_is_for_us_alone_and_never_replaces_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new");
        let file = create_private(&path).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o600);
        assert_eq!(create_private(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}
