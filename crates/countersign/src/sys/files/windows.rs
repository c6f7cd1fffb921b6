//! Files by their owner and access control list.
//!
//! Trusted are the user that this runs as, SYSTEM, Administrators and TrustedInstaller. Whoever else an entry
//! of the list lets in is one of the others; a list that is missing lets in everybody, and an entry of a kind
//! that is not understood counts as one for everybody.
#![allow(unsafe_code)]

use std::{
    fmt,
    fs::{File, OpenOptions},
    io,
    mem::zeroed,
    os::windows::{
        fs::{MetadataExt as _, OpenOptionsExt as _},
        io::AsRawHandle as _,
    },
    path::Path,
};

use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, CREATE_NEW, FILE_APPEND_DATA, FILE_ATTRIBUTE_DIRECTORY,
    FILE_ATTRIBUTE_REPARSE_POINT, FILE_BASIC_INFO, FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_OPEN_REPARSE_POINT,
    FILE_READ_ATTRIBUTES, FILE_TYPE_DISK, FileBasicInfo, GetFileInformationByHandle,
    GetFileInformationByHandleEx, GetFileType, OPEN_ALWAYS, OPEN_EXISTING, READ_CONTROL, SYNCHRONIZE,
};

use super::Kind;
use crate::sys::security::{self, Access, For, READ_AND_WRITE, Sid};

/// What a file is, whose, and who can do what with it.
pub(super) struct Facts {
    /// `None` for what is on no disk.
    attributes: Option<u32>,
    owner: Option<Sid>,
    strangers: Option<Rights>,
    writers: Option<Rights>,
    exchangers: Option<Rights>,
}

impl Facts {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        // SAFETY: the handle is open while it is borrowed.
        let on_disk = unsafe { GetFileType(file.as_raw_handle()) } == FILE_TYPE_DISK;
        let attributes = if on_disk { Some(file.metadata()?.file_attributes()) } else { None };
        let access = Access::of(file)?;
        Ok(Self {
            attributes,
            owner: access.foreign_owner()?,
            strangers: access.strangers()?.map(Rights),
            writers: access.writers()?.map(Rights),
            exchangers: access.exchangers()?.map(Rights),
        })
    }

    /// Links are followed.
    pub(super) fn of_directory(path: &Path) -> io::Result<Self> {
        Self::of(&looked_at(path, 0)?)
    }

    /// No link is followed.
    pub(super) fn of_entry(path: &Path) -> io::Result<Self> {
        Self::of(&looked_at(path, FILE_FLAG_OPEN_REPARSE_POINT)?)
    }

    pub(super) fn is_file(&self) -> bool {
        self.attributes
            .is_some_and(|has| has & (FILE_ATTRIBUTE_DIRECTORY | FILE_ATTRIBUTE_REPARSE_POINT) == 0)
    }

    pub(super) fn is_directory(&self) -> bool {
        let asked = FILE_ATTRIBUTE_DIRECTORY | FILE_ATTRIBUTE_REPARSE_POINT;
        self.attributes.is_some_and(|has| has & asked == FILE_ATTRIBUTE_DIRECTORY)
    }

    /// The owner, if that is neither an administrator nor us. Nobody is `but`: no account has a number.
    pub(super) fn foreign_owner(&self, _but: Option<u32>) -> Option<Owner> {
        self.owner.clone().map(Owner)
    }

    pub(super) fn open_to_others(&self) -> Option<Rights> {
        self.strangers.clone()
    }

    pub(super) fn writable_by_others(&self) -> Option<Rights> {
        self.writers.clone()
    }

    pub(super) fn exchangeable_by_others(&self) -> Option<Rights> {
        self.exchangers.clone()
    }
}

/// Whose a file is.
#[derive(Debug)]
pub(super) struct Owner(Sid);

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Who can do what with a file: one of the others that its list lets in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights(String);

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who may own what we trust, beside us.
pub(super) const ROOT: &str = "an administrator";

/// How to make a file ours.
pub(super) fn to_own(path: &Path) -> String {
    format!("icacls \"{}\" /setowner {}", path.display(), us())
}

/// How to take from others every right to a file.
pub(super) fn to_hide(path: &Path) -> String {
    let (path, us) = (path.display(), us());
    format!("icacls \"{path}\" /reset, then icacls \"{path}\" /inheritance:r /grant:r {us}:F SYSTEM:F")
}

/// How to take from others every right to a directory.
pub fn to_close(path: &Path) -> String {
    let (path, us) = (path.display(), us());
    format!(
        "icacls \"{path}\" /reset, then icacls \"{path}\" /inheritance:r /grant:r {us}:(OI)(CI)F SYSTEM:(OI)(CI)F"
    )
}

/// How to take from others the right to write.
pub(super) fn to_protect(path: &Path) -> String {
    format!("look at icacls \"{}\", and leave F, M, W and D to {} and administrators", path.display(), us())
}

fn us() -> String {
    Sid::own().map_or_else(|_| "%USERNAME%".to_owned(), |sid| format!("\"{sid}\""))
}

/// A link in its place is opened itself, and seen to be one.
pub(super) fn open(path: &Path) -> Result<File, Kind> {
    let file = opened(path, FILE_FLAG_OPEN_REPARSE_POINT).map_err(Kind::Io)?;
    let attributes = file.metadata().map_err(Kind::Io)?.file_attributes();
    if attributes & FILE_ATTRIBUTE_REPARSE_POINT == 0 { Ok(file) } else { Err(Kind::Link) }
}

pub(super) fn open_following(path: &Path) -> Result<File, Kind> {
    opened(path, 0).map_err(Kind::Io)
}

pub(super) fn open_directory(path: &Path) -> Result<File, Kind> {
    let directory = looked_at(path, FILE_FLAG_OPEN_REPARSE_POINT).map_err(Kind::Io)?;
    let attributes = directory.metadata().map_err(Kind::Io)?.file_attributes();
    let asked = FILE_ATTRIBUTE_DIRECTORY | FILE_ATTRIBUTE_REPARSE_POINT;
    if attributes & asked == FILE_ATTRIBUTE_DIRECTORY { Ok(directory) } else { Err(Kind::Link) }
}

/// A directory in the file's place is opened too, so that it is seen to be one.
fn opened(path: &Path, flags: u32) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(flags | FILE_FLAG_BACKUP_SEMANTICS).open(path)
}

/// Opened for its attributes and its list, not its content.
fn looked_at(path: &Path, flags: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.access_mode(READ_CONTROL | FILE_READ_ATTRIBUTES).custom_flags(flags | FILE_FLAG_BACKUP_SEMANTICS);
    options.open(path)
}

/// Takes from others every right to what is open.
pub(super) fn keep_to_ourselves(file: &File, _mode: u32) -> io::Result<()> {
    security::keep_to_ourselves(file, file.metadata()?.is_dir())
}

/// Creates a file that nobody else can read, not even for a moment. It must not exist.
///
/// # Errors
/// It exists, or cannot be created.
pub fn create_private(path: &Path) -> io::Result<File> {
    security::create_file(path, READ_AND_WRITE, CREATE_NEW, For::Us)
}

/// The same, readable for everybody if `mode` says so for others.
///
/// # Errors
/// As [`create_private`].
pub fn create_with(path: &Path, mode: u32) -> io::Result<File> {
    let readers = if mode & 0o077 == 0 { For::Us } else { For::AllToRead };
    security::create_file(path, READ_AND_WRITE, CREATE_NEW, readers)
}

/// Creates a file that all may read and nobody else can write. It must not exist.
///
/// # Errors
/// As [`create_private`].
pub fn create_unforged(path: &Path) -> io::Result<File> {
    security::create_file(path, READ_AND_WRITE, CREATE_NEW, For::AllToRead)
}

/// Opens a file of ours to read and write it. It is not judged.
///
/// # Errors
/// It is a link, or cannot be opened.
pub fn open_to_write(path: &Path) -> io::Result<File> {
    no_link(security::create_file(path, READ_AND_WRITE, OPEN_EXISTING, For::Us)?)
}

/// Opens a file of ours to read and write it; where there is none, nobody else can read the one that is
/// created. A file that was there is not judged.
///
/// # Errors
/// It is a link, or can be neither opened nor created.
pub fn open_or_create_private(path: &Path) -> io::Result<File> {
    no_link(security::create_file(path, READ_AND_WRITE, OPEN_ALWAYS, For::Us)?)
}

/// The same, to add to its end.
///
/// # Errors
/// As [`open_or_create_private`].
pub fn append_private(path: &Path) -> io::Result<File> {
    let access = FILE_APPEND_DATA | FILE_READ_ATTRIBUTES | READ_CONTROL | SYNCHRONIZE;
    no_link(security::create_file(path, access, OPEN_ALWAYS, For::Us)?)
}

fn no_link(file: File) -> io::Result<File> {
    match file.metadata()?.file_attributes() & FILE_ATTRIBUTE_REPARSE_POINT {
        0 => Ok(file),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a link")),
    }
}

/// Makes a directory that nobody else can enter, and those above it, unless it is there.
///
/// # Errors
/// It cannot be made.
pub fn create_private_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create_private_directory(parent)?;
    }
    match security::create_directory(path, For::Us) {
        // Somebody else was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made,
    }
}

/// Makes a directory with the rights of the one above it.
///
/// # Errors
/// It exists, or cannot be made.
pub fn create_directory(path: &Path) -> io::Result<()> {
    std::fs::create_dir(path)
}

/// Makes a directory that others can look into and not change.
///
/// # Errors
/// As [`create_directory`].
pub fn create_unforged_directory(path: &Path) -> io::Result<()> {
    security::create_directory(path, For::AllToRead)
}

/// Windows has no call for it: NTFS keeps a journal of its names.
///
/// # Errors
/// Never.
pub fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Files belong to no number.
pub fn owner_of(_: &Path) -> Option<u32> {
    None
}

/// What tells one state of a file from another: a replaced, grown, rewritten or touched file differs (S-79).
/// The default one is no file's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    volume: u32,
    index: (u32, u32),
    size: (u32, u32),
    modified: i64,
    changed: i64,
}

impl Stamp {
    /// The state of an opened file.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn of(file: &File) -> io::Result<Self> {
        // SAFETY: all bits zero are a valid value of either, which are numbers.
        let (mut known, mut times): (BY_HANDLE_FILE_INFORMATION, FILE_BASIC_INFO) =
            unsafe { (zeroed(), zeroed()) };
        let size = u32::try_from(size_of::<FILE_BASIC_INFO>()).unwrap_or_default();
        // SAFETY: the handle is open while it is borrowed; the pointers are to values of the types that are
        // asked for.
        let told = unsafe {
            GetFileInformationByHandle(file.as_raw_handle(), &raw mut known) != 0
                && GetFileInformationByHandleEx(
                    file.as_raw_handle(),
                    FileBasicInfo,
                    (&raw mut times).cast(),
                    size,
                ) != 0
        };
        if !told {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            volume: known.dwVolumeSerialNumber,
            index: (known.nFileIndexHigh, known.nFileIndexLow),
            size: (known.nFileSizeHigh, known.nFileSizeLow),
            modified: times.LastWriteTime,
            changed: times.ChangeTime,
        })
    }
}
