//! Files by their owner and mode.

use std::{
    fmt,
    fs::{DirBuilder, File, Metadata, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use super::Kind;
use crate::sys::accounts::own_uid;

/// What a file is, whose, and who can do what with it.
pub(super) struct Facts(Metadata);

impl Facts {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        file.metadata().map(Self)
    }

    /// Links are followed.
    pub(super) fn of_directory(path: &Path) -> io::Result<Self> {
        std::fs::metadata(path).map(Self)
    }

    /// No link is followed.
    pub(super) fn of_entry(path: &Path) -> io::Result<Self> {
        std::fs::symlink_metadata(path).map(Self)
    }

    pub(super) fn is_file(&self) -> bool {
        self.0.is_file()
    }

    pub(super) fn is_directory(&self) -> bool {
        self.0.is_dir()
    }

    /// The owner, if that is neither root nor us nor `but`.
    pub(super) fn foreign_owner(&self, but: Option<u32>) -> Option<Owner> {
        let uid = self.0.uid();
        (uid != 0 && uid != own_uid() && Some(uid) != but).then_some(Owner(uid))
    }

    /// The rights, if others have any.
    pub(super) fn open_to_others(&self) -> Option<Rights> {
        self.allowing(0o077)
    }

    pub(super) fn writable_by_others(&self) -> Option<Rights> {
        self.allowing(0o022)
    }

    /// The rights to a directory, if others can put another file in the place of one of ours. In a sticky
    /// one they cannot.
    pub(super) fn exchangeable_by_others(&self) -> Option<Rights> {
        self.writable_by_others().filter(|rights| rights.0 & 0o1000 == 0)
    }

    fn allowing(&self, bits: u32) -> Option<Rights> {
        let mode = self.0.mode() & 0o7777;
        (mode & bits != 0).then_some(Rights(mode))
    }
}

/// Whose a file is.
#[derive(Debug)]
pub(super) struct Owner(u32);

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uid {}", self.0)
    }
}

/// Who can do what with a file: its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights(u32);

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mode {:o}", self.0)
    }
}

/// Who may own what we trust, beside us.
pub(super) const ROOT: &str = "root";

/// How to make a file ours.
pub(super) fn to_own(path: &Path) -> String {
    format!("chown {} {}", own_uid(), path.display())
}

/// How to take from others every right to a directory.
pub fn to_close(path: &Path) -> String {
    format!("chmod 700 {}", path.display())
}

/// How to take from others every right to a file.
pub(super) fn to_hide(path: &Path) -> String {
    format!("chmod 600 {}", path.display())
}

/// How to take from others the right to write.
pub(super) fn to_protect(path: &Path) -> String {
    format!("chmod go-w {}", path.display())
}

pub(super) fn open(path: &Path) -> Result<File, Kind> {
    opened(path, libc::O_NOFOLLOW).map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP) => Kind::Link,
        _ => Kind::Io(error),
    })
}

pub(super) fn open_following(path: &Path) -> Result<File, Kind> {
    opened(path, 0).map_err(Kind::Io)
}

pub(super) fn open_directory(path: &Path) -> Result<File, Kind> {
    opened(path, libc::O_NOFOLLOW | libc::O_DIRECTORY).map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP | libc::ENOTDIR) => Kind::Link,
        _ => Kind::Io(error),
    })
}

/// Non-blocking, so that a FIFO in the file's place does not hang us before it is seen to be one.
fn opened(path: &Path, flags: i32) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(flags | libc::O_NONBLOCK | libc::O_CLOEXEC).open(path)
}

/// Takes from others every right to what is open.
pub(super) fn keep_to_ourselves(file: &File, mode: u32) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(mode))
}

/// Creates a file that nobody else can read, not even for a moment. It must not exist.
///
/// # Errors
/// It exists, or cannot be created.
pub fn create_private(path: &Path) -> io::Result<File> {
    ours().read(true).write(true).create_new(true).open(path)
}

/// The same, readable as `mode` says from its first moment.
///
/// # Errors
/// As [`create_private`].
pub fn create_with(path: &Path, mode: u32) -> io::Result<File> {
    ours().write(true).create_new(true).mode(mode).open(path)
}

/// Creates a file that all may read and nobody else can write, whatever the umask. It must not exist.
///
/// # Errors
/// As [`create_private`].
pub fn create_unforged(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.set_permissions(Permissions::from_mode(0o644))?;
    Ok(file)
}

/// Opens a file of ours to read and write it. It is not judged.
///
/// # Errors
/// It is a link, or cannot be opened.
pub fn open_to_write(path: &Path) -> io::Result<File> {
    ours().read(true).write(true).open(path)
}

/// Opens a file of ours to read and write it; where there is none, nobody else can read the one that is
/// created. A file that was there is not judged.
///
/// # Errors
/// It is a link, or can be neither opened nor created.
pub fn open_or_create_private(path: &Path) -> io::Result<File> {
    ours().read(true).write(true).create(true).truncate(false).open(path)
}

/// The same, to add to its end.
///
/// # Errors
/// As [`open_or_create_private`].
pub fn append_private(path: &Path) -> io::Result<File> {
    ours().append(true).create(true).open(path)
}

/// Whether what is open is what has this name now.
pub fn same_file(path: &Path, file: &File) -> bool {
    let facts = (std::fs::symlink_metadata(path), file.metadata());
    matches!(facts, (Ok(named), Ok(open)) if (named.dev(), named.ino()) == (open.dev(), open.ino()))
}

/// No link is followed, and what is created is for us alone.
fn ours() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
    options
}

/// Makes a directory that nobody else can enter, and those above it, unless it is there.
///
/// # Errors
/// It cannot be made.
pub fn create_private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes a directory that others can look into and not change, as far as the umask lets them.
///
/// # Errors
/// It exists, or cannot be made.
pub fn create_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o755).create(path)
}

/// Makes a directory that others can look into and not change, whatever the umask.
///
/// # Errors
/// As [`create_directory`].
pub fn create_unforged_directory(path: &Path) -> io::Result<()> {
    std::fs::create_dir(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o755))
}

/// Sees to it that the names in a directory survive a crash.
///
/// # Errors
/// It is absent, or the disk fails.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The uid that a file belongs to; `None` if there is none or it cannot be seen.
pub fn owner_of(path: &Path) -> Option<u32> {
    std::fs::metadata(path).ok().map(|facts| facts.uid())
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{super::*, *};

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
