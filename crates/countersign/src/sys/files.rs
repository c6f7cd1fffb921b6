//! Files that hold secrets: opened only if nobody else can read or replace them, created for nobody else.
//!
//! Called by the modules and tables that keep secrets in files. All checks are made on the opened
//! file, and a symbolic link in the last component is not followed (S-61).
//!
//! | file | holds |
//! |---|---|
//! | `unix` | owners and modes |
//! | `windows` | owners and access control lists |

use std::{
    borrow::Cow,
    fmt,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, SystemTime},
};

#[cfg_attr(unix, path = "files/unix.rs")]
#[cfg_attr(windows, path = "files/windows.rs")]
mod system;

use system::Facts;
pub use system::{
    Rights, Stamp, append_private, create_directory, create_private, create_private_directory,
    create_unforged, create_unforged_directory, create_with, open_or_create_private, open_to_write, owner_of,
    same_file, sync_directory, to_close,
};

/// Opens a file of ours for reading.
///
/// With `insecure`, others may be able to read, own or replace it; everything else still holds.
///
/// # Errors
/// The file is absent, is a link or no regular file, or others can get at it.
pub fn open_private(path: &Path, insecure: bool) -> Result<File, FileFault> {
    let fault = |kind| FileFault { path: path.to_owned(), kind };
    let file = system::open(path).map_err(fault)?;
    let facts = Facts::of_file(&file).map_err(fault)?;
    if !insecure {
        facts.check_private().map_err(fault)?;
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
    let file = system::open_following(path).map_err(fault)?;
    let facts = Facts::of_file(&file).map_err(fault)?;
    facts.check_owner(owner).map_err(fault)?;
    if let Some(rights) = facts.writable_by_others() {
        return Err(fault(Kind::Writable(rights)));
    }
    check_directory_of(path, owner)?;
    Ok(file)
}

/// Opens a private key for reading, wherever a link leads: certbot's `live/` consists of them. What it
/// leads to is judged, and no directory.
///
/// # Errors
/// It is absent or no regular file, or others can get at it.
pub fn open_key(path: &Path) -> Result<File, FileFault> {
    let fault = |kind| FileFault { path: path.to_owned(), kind };
    let file = system::open_following(path).map_err(fault)?;
    Facts::of_file(&file).and_then(|facts| facts.check_private()).map_err(fault)?;
    Ok(file)
}

/// Opens a file of ours for reading, after others lost every right that they had to it. The rights that
/// they had come with it.
///
/// # Errors
/// As [`open_private`], and where the rights cannot be taken.
pub fn open_narrowed(path: &Path) -> Result<(File, Option<Rights>), FileFault> {
    let file = open_private(path, true)?;
    let fault = |kind| FileFault { path: path.to_owned(), kind };
    let narrowed = narrow(&file, 0o600).map_err(fault)?;
    check_directory(path)?;
    Ok((file, narrowed))
}

/// Takes from others every right to a directory of ours, and says which they had.
///
/// # Errors
/// It is absent, no directory, a link, somebody else's, or cannot be changed.
pub fn narrow_directory(path: &Path) -> Result<Option<Rights>, FileFault> {
    let fault = |kind| FileFault { path: path.to_owned(), kind };
    let directory = system::open_directory(path).map_err(fault)?;
    narrow(&directory, 0o700).map_err(fault)
}

/// Gives an opened file or directory of ours this mode, if others have a right to it.
fn narrow(file: &File, mode: u32) -> Result<Option<Rights>, Kind> {
    let facts = Facts::of(file).map_err(Kind::Io)?;
    facts.check_owner(None)?;
    let Some(had) = facts.open_to_others() else { return Ok(None) };
    match system::keep_to_ourselves(file, mode) {
        Ok(()) => Ok(Some(had)),
        Err(_) => Err(Kind::Mode(had)),
    }
}

/// Whether a path is a directory, no link, that only we can enter.
///
/// # Errors
/// It is absent, or the system does not tell.
pub fn is_private_directory(path: &Path) -> io::Result<bool> {
    let facts = Facts::of_entry(path)?;
    Ok(facts.is_directory() && facts.check_private().is_ok())
}

/// Refuses a path in whose directory somebody else could put another file.
///
/// # Errors
/// The directory is absent, belongs to another user, or others can exchange what is in it.
pub fn check_directory(path: &Path) -> Result<(), FileFault> {
    check_directory_of(path, gateways())
}

fn check_directory_of(path: &Path, owner: Option<u32>) -> Result<(), FileFault> {
    let directory = directory_of(path);
    let fault = |kind| FileFault { path: directory.to_owned(), kind };
    let facts = Facts::of_directory(directory).map_err(|error| fault(Kind::Io(error)))?;
    facts.check_owner(owner).map_err(fault)?;
    match facts.exchangeable_by_others() {
        Some(rights) => Err(fault(Kind::Directory(rights))),
        None => Ok(()),
    }
}

impl Facts {
    fn of_file(file: &File) -> Result<Self, Kind> {
        let facts = Self::of(file).map_err(Kind::Io)?;
        if facts.is_file() { Ok(facts) } else { Err(Kind::NotAFile) }
    }

    fn check_owner(&self, but: Option<u32>) -> Result<(), Kind> {
        self.foreign_owner(but).map_or(Ok(()), |owner| Err(Kind::Owner(owner)))
    }

    fn check_private(&self) -> Result<(), Kind> {
        self.check_owner(gateways())?;
        self.open_to_others().map_or(Ok(()), |rights| Err(Kind::Mode(rights)))
    }
}

/// From now on files with secrets may also be this user's: in the privileged helper, the gateway's. What anybody
/// but root could have the helper do, as services of PAM, may not.
pub fn share_secrets_with(uid: u32) {
    GATEWAYS.store(uid, Ordering::Relaxed);
}

fn gateways() -> Option<u32> {
    Some(GATEWAYS.load(Ordering::Relaxed)).filter(|uid| *uid != NOBODYS)
}

/// The directory that holds `path`.
pub fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
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
    Owner(system::Owner),
    Mode(Rights),
    Writable(Rights),
    Directory(Rights),
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
            Kind::Owner(_) => system::to_own(&self.path),
            Kind::Mode(_) => system::to_hide(&self.path),
            Kind::Writable(_) | Kind::Directory(_) => system::to_protect(&self.path),
        }
    }

    /// Why, without the path.
    pub fn why(&self) -> Cow<'static, str> {
        match &self.kind {
            Kind::Io(error) if error.kind() == io::ErrorKind::NotFound => "there is no such file".into(),
            Kind::Io(error) => format!("it cannot be opened: {error}").into(),
            Kind::Link => "it is a symbolic link, which could be turned elsewhere".into(),
            Kind::NotAFile => "it is no regular file".into(),
            Kind::Owner(owner) => format!("it belongs to {owner}, not to us or {}", system::ROOT).into(),
            Kind::Mode(rights) => format!("others than its owner can get at it ({rights})").into(),
            Kind::Writable(rights) => format!("others than its owner can write it ({rights})").into(),
            Kind::Directory(rights) => {
                format!("others can put another file in this directory ({rights})").into()
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

/// The user whose files count as ours.
static GATEWAYS: AtomicU32 = AtomicU32::new(NOBODYS);

/// The number that is no user's.
const NOBODYS: u32 = u32::MAX;

/// Kernels count a file's time in ticks of up to 10 ms, some file systems in seconds.
const SETTLED: Duration = Duration::from_secs(3);
