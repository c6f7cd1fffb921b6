//! Who somebody is on Windows, and who may do what with a file: security identifiers and access control lists.
//!
//! Called by `files`, `accounts` and `logon`.
#![allow(unsafe_code)]

use std::{
    ffi::c_void,
    fmt,
    fs::File,
    io,
    iter::once,
    os::windows::{
        ffi::OsStrExt as _,
        io::{AsHandle, AsRawHandle as _, BorrowedHandle, FromRawHandle as _, OwnedHandle},
    },
    path::Path,
    ptr::{null, null_mut},
    sync::LazyLock,
};

use windows_sys::Win32::{
    Foundation::{GENERIC_ALL, GENERIC_READ, GENERIC_WRITE, HANDLE, INVALID_HANDLE_VALUE, LocalFree},
    Security::{
        ACCESS_ALLOWED_ACE, ACE_HEADER, ACL,
        Authorization::{
            ConvertSidToStringSidW, ConvertStringSecurityDescriptorToSecurityDescriptorW,
            ConvertStringSidToSidW, GetSecurityInfo, SDDL_REVISION_1, SE_FILE_OBJECT,
        },
        DACL_SECURITY_INFORMATION, GetAce, GetTokenInformation, INHERIT_ONLY_ACE, LookupAccountSidW,
        OWNER_SECURITY_INFORMATION, PROTECTED_DACL_SECURITY_INFORMATION, PSID, SECURITY_ATTRIBUTES,
        SetKernelObjectSecurity, TOKEN_QUERY, TOKEN_USER, TokenUser,
    },
    Storage::FileSystem::{
        CreateDirectoryW, CreateFileW, DELETE, FILE_ATTRIBUTE_NORMAL, FILE_DELETE_CHILD,
        FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_OPEN_REPARSE_POINT, FILE_READ_ATTRIBUTES, FILE_SHARE_DELETE,
        FILE_SHARE_READ, FILE_SHARE_WRITE, READ_CONTROL, ReOpenFile, SYNCHRONIZE, WRITE_DAC, WRITE_OWNER,
    },
    System::{
        SystemServices::{
            ACCESS_ALLOWED_ACE_TYPE, ACCESS_DENIED_ACE_TYPE, ACCESS_DENIED_CALLBACK_ACE_TYPE,
            ACCESS_DENIED_CALLBACK_OBJECT_ACE_TYPE, ACCESS_DENIED_OBJECT_ACE_TYPE,
        },
        Threading::{GetCurrentProcess, OpenProcessToken},
    },
};

/// A security identifier: who somebody is, as text (`S-1-5-18`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sid(String);

impl Sid {
    /// Whom a token stands for.
    ///
    /// # Errors
    /// The token does not tell.
    pub fn of_token(token: BorrowedHandle<'_>) -> io::Result<Self> {
        // Room for a TOKEN_USER and the longest SID behind it (15 numbers), aligned for both.
        let mut room = [0_u64; 16];
        let (mut length, size) = (0, u32::try_from(size_of_val(&room)).unwrap_or_default());
        // SAFETY: the token is open while it is borrowed; the buffer is valid for writing `size` bytes.
        let told = unsafe {
            GetTokenInformation(
                token.as_raw_handle(),
                TokenUser,
                room.as_mut_ptr().cast(),
                size,
                &raw mut length,
            )
        };
        if told == 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so the buffer begins with a TOKEN_USER, whose SID is behind it in there.
        unsafe { Self::read((*room.as_ptr().cast::<TOKEN_USER>()).User.Sid) }
    }

    /// Whom this process acts as.
    ///
    /// # Errors
    /// Its token does not tell.
    pub fn own() -> io::Result<Self> {
        static OWN: LazyLock<Option<Sid>> = LazyLock::new(|| process_user().ok());
        OWN.clone().ok_or_else(|| io::Error::other("the system does not tell which user this is"))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The account's domain, or the machine's name, and its name there.
    ///
    /// # Errors
    /// There is none of this SID, or whoever would know cannot be asked.
    pub fn account(&self) -> io::Result<(String, String)> {
        let text: Vec<u16> = self.0.encode_utf16().chain(once(0)).collect();
        let mut sid = null_mut();
        // SAFETY: the text ends with a NUL; the pointer is to a pointer that lives here.
        if unsafe { ConvertStringSidToSidW(text.as_ptr(), &raw mut sid) } == 0 {
            return Err(io::Error::last_os_error());
        }
        let sid = Local(sid);
        let (mut name, mut domain) = ([0_u16; 512], [0_u16; 512]);
        let (mut name_length, mut domain_length, mut kind) = (512, 512, 0);
        // SAFETY: the SID was made by the call above; both buffers have as many units as is said.
        let found = unsafe {
            LookupAccountSidW(
                null(),
                sid.0,
                name.as_mut_ptr(),
                &raw mut name_length,
                domain.as_mut_ptr(),
                &raw mut domain_length,
                &raw mut kind,
            )
        };
        if found == 0 {
            return Err(io::Error::last_os_error());
        }
        Ok((until_nul(&domain)?, until_nul(&name)?))
    }

    /// `DOMAIN\NAME`, or the SID where it has none.
    pub fn called(&self) -> String {
        match self.account() {
            Ok((domain, name)) if domain.is_empty() => name,
            Ok((domain, name)) => format!("{domain}\\{name}"),
            Err(_) => self.0.clone(),
        }
    }

    /// Whether this is us, or who may do everything on this machine anyway.
    fn is_trusted(&self) -> io::Result<bool> {
        Ok(TRUSTED.contains(&self.as_str()) || *self == Self::own()?)
    }

    /// # Safety
    /// `sid` points to a SID.
    unsafe fn read(sid: PSID) -> io::Result<Self> {
        let mut text = null_mut();
        // SAFETY: the caller vouches for the SID; the pointer is to a pointer that lives here.
        if unsafe { ConvertSidToStringSidW(sid, &raw mut text) } == 0 {
            return Err(io::Error::last_os_error());
        }
        let text = Local(text.cast());
        let mut units = Vec::new();
        let mut next = text.0.cast::<u16>().cast_const();
        // SAFETY: the call made a text that ends with a NUL, and it is read up to that.
        unsafe {
            while *next != 0 {
                units.push(*next);
                next = next.add(1);
            }
        }
        String::from_utf16(&units).map(Self).map_err(io::Error::other)
    }
}

impl fmt::Display for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.called())
    }
}

/// The owner of a file and who may do what with it.
#[derive(Debug)]
pub struct Access {
    owner: Sid,
    /// `None` where there is no list: then everybody may do everything.
    grants: Option<Vec<Grant>>,
}

/// An entry that allows something.
#[derive(Debug)]
struct Grant {
    /// `None` for an entry of a kind that is not understood: it may be for anybody.
    who: Option<Sid>,
    rights: u32,
}

impl Access {
    /// Those of an open file or directory.
    ///
    /// # Errors
    /// The handle may not see them, or there is nothing of the kind.
    pub fn of(file: &File) -> io::Result<Self> {
        let (mut owner, mut list, mut descriptor) = (null_mut(), null_mut::<ACL>(), null_mut());
        // SAFETY: the handle is open while it is borrowed; the pointers are to pointers that live here.
        let status = unsafe {
            GetSecurityInfo(
                file.as_raw_handle(),
                SE_FILE_OBJECT,
                OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION,
                &raw mut owner,
                null_mut(),
                &raw mut list,
                null_mut(),
                &raw mut descriptor,
            )
        };
        let _descriptor = Local(descriptor);
        if status != 0 {
            return Err(io::Error::from_raw_os_error(status.cast_signed()));
        }
        if owner.is_null() {
            return Err(io::Error::other("it has no owner"));
        }
        // SAFETY: both point into the descriptor, which lives until the end of this function.
        let (owner, grants) = unsafe { (Sid::read(owner)?, grants(list)?) };
        Ok(Self { owner, grants })
    }

    /// The owner, if that is neither us nor an administrator.
    ///
    /// # Errors
    /// It is not known who we are.
    pub fn foreign_owner(&self) -> io::Result<Option<Sid>> {
        Ok((!self.owner.is_trusted()?).then(|| self.owner.clone()))
    }

    /// Who may do more with it than look at its attributes, beside us and administrators.
    ///
    /// # Errors
    /// As [`Access::foreign_owner`].
    pub fn strangers(&self) -> io::Result<Option<String>> {
        self.stranger_with(!(SYNCHRONIZE | READ_CONTROL | FILE_READ_ATTRIBUTES))
    }

    /// Who may change its content, its name or its list.
    ///
    /// # Errors
    /// As [`Access::foreign_owner`].
    pub fn writers(&self) -> io::Result<Option<String>> {
        self.stranger_with(!(SYNCHRONIZE | READING))
    }

    /// Who may exchange what is in this directory. Whoever may only add to it cannot, as in a sticky one.
    ///
    /// # Errors
    /// As [`Access::foreign_owner`].
    pub fn exchangers(&self) -> io::Result<Option<String>> {
        self.stranger_with(FILE_DELETE_CHILD | DELETE | WRITE_DAC | WRITE_OWNER | GENERIC_ALL)
    }

    fn stranger_with(&self, rights: u32) -> io::Result<Option<String>> {
        let Some(grants) = &self.grants else { return Ok(Some("everybody: it has no list".to_owned())) };
        for grant in grants.iter().filter(|grant| grant.rights & rights != 0) {
            match &grant.who {
                Some(who) if who.is_trusted()? => {}
                Some(who) => return Ok(Some(who.called())),
                None => return Ok(Some("an entry that is not understood".to_owned())),
            }
        }
        Ok(None)
    }
}

/// The entries of a list that allow something here. Those that deny are left out: what they take away is
/// treated as if it were there, which never trusts too much.
///
/// # Safety
/// `list` is null or points to an access control list.
unsafe fn grants(list: *const ACL) -> io::Result<Option<Vec<Grant>>> {
    if list.is_null() {
        return Ok(None);
    }
    let mut found = Vec::new();
    // SAFETY: the caller vouches for the list.
    for index in 0..u32::from(unsafe { (*list).AceCount }) {
        let mut entry = null_mut::<c_void>();
        // SAFETY: the list is valid, and the pointer is to a pointer that lives here.
        if unsafe { GetAce(list, index, &raw mut entry) } == 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: every entry begins with this header.
        let header = unsafe { *entry.cast::<ACE_HEADER>() };
        let kind = u32::from(header.AceType);
        if u32::from(header.AceFlags) & INHERIT_ONLY_ACE != 0 || DENIALS.contains(&kind) {
            continue;
        }
        found.push(match kind {
            ACCESS_ALLOWED_ACE_TYPE => {
                let entry = entry.cast::<ACCESS_ALLOWED_ACE>();
                // SAFETY: an entry of this kind has rights and then a SID, which begins at `SidStart`.
                let (rights, who) =
                    unsafe { ((*entry).Mask, Sid::read((&raw mut (*entry).SidStart).cast())?) };
                Grant { who: Some(who), rights }
            }
            _ => Grant { who: None, rights: u32::MAX },
        });
    }
    Ok(Some(found))
}

/// For whom something is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    /// Us and administrators.
    Us,
    /// The same to change it, and everybody to read it.
    AllToRead,
}

/// Opens or creates a file with these rights; a link in its place is opened and not followed. One that is
/// there keeps its list.
pub(super) fn create_file(path: &Path, access: u32, disposition: u32, readers: For) -> io::Result<File> {
    let (path, descriptor) = (wide(path)?, Descriptor::new(readers, "")?);
    let attributes = descriptor.attributes();
    // SAFETY: the path ends with a NUL; the descriptor outlives the call.
    let handle = unsafe {
        CreateFileW(
            path.as_ptr(),
            access,
            FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
            &raw const attributes,
            disposition,
            FILE_ATTRIBUTE_NORMAL | FILE_FLAG_OPEN_REPARSE_POINT,
            null_mut(),
        )
    };
    // SAFETY: the call made the handle for us to own.
    unsafe { owned(handle) }.map(File::from)
}

/// Makes a directory; what is made in it has the same rights, unless it is given others.
pub(super) fn create_directory(path: &Path, readers: For) -> io::Result<()> {
    let (path, descriptor) = (wide(path)?, Descriptor::new(readers, "OICI")?);
    let attributes = descriptor.attributes();
    // SAFETY: the path ends with a NUL; the descriptor outlives the call.
    match unsafe { CreateDirectoryW(path.as_ptr(), &raw const attributes) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Takes from everybody but us and administrators every right to what is open. What is in a directory keeps
/// its own list.
pub(super) fn keep_to_ourselves(file: &File, directory: bool) -> io::Result<()> {
    let descriptor = Descriptor::new(For::Us, if directory { "OICI" } else { "" })?;
    // The same file once more, for the handle that reads it may not change its list.
    let share = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
    let rights = READ_CONTROL | WRITE_DAC;
    // SAFETY: the handle is open while it is borrowed, and the new one is ours.
    let same = unsafe { owned(ReOpenFile(file.as_raw_handle(), rights, share, FILE_FLAG_BACKUP_SEMANTICS))? };
    let what = DACL_SECURITY_INFORMATION | PROTECTED_DACL_SECURITY_INFORMATION;
    // SAFETY: the handle is open, and the descriptor outlives the call.
    if unsafe { SetKernelObjectSecurity(same.as_raw_handle(), what, descriptor.0.0) } == 0 {
        return Err(io::Error::last_os_error());
    }
    match Access::of(&File::from(same))?.strangers()? {
        None => Ok(()),
        Some(_) => Err(io::Error::other("the list stayed as it was")),
    }
}

/// A path for the system's calls.
///
/// # Errors
/// There is a NUL in it, and the system would read another path.
pub(super) fn wide(path: &Path) -> io::Result<Vec<u16>> {
    let units: Vec<u16> = path.as_os_str().encode_wide().collect();
    if units.contains(&0) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is a NUL in the path"));
    }
    Ok(units.into_iter().chain(once(0)).collect())
}

/// What a new file or directory is given.
struct Descriptor(Local);

impl Descriptor {
    /// `inherit` is what SDDL has for entries that pass on to what is made inside.
    fn new(readers: For, inherit: &str) -> io::Result<Self> {
        // Protected: nothing comes from the directory. Then full access for us, the system, administrators.
        let mut text = "D:P".to_owned();
        for who in [Sid::own()?.as_str(), "SY", "BA"] {
            text.push_str(&format!("(A;{inherit};FA;;;{who})"));
        }
        if readers == For::AllToRead {
            text.push_str(&format!("(A;{inherit};FRFX;;;WD)"));
        }
        let text: Vec<u16> = text.encode_utf16().chain(once(0)).collect();
        let mut made = null_mut();
        // SAFETY: the text ends with a NUL; the pointer is to a pointer that lives here.
        let done = unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(
                text.as_ptr(),
                SDDL_REVISION_1,
                &raw mut made,
                null_mut(),
            )
        };
        if done == 0 { Err(io::Error::last_os_error()) } else { Ok(Self(Local(made))) }
    }

    /// They are good while this lives.
    fn attributes(&self) -> SECURITY_ATTRIBUTES {
        SECURITY_ATTRIBUTES {
            nLength: u32::try_from(size_of::<SECURITY_ATTRIBUTES>()).unwrap_or_default(),
            lpSecurityDescriptor: self.0.0,
            bInheritHandle: 0,
        }
    }
}

/// Memory that the system gave away, to be given back.
struct Local(*mut c_void);

impl Drop for Local {
    fn drop(&mut self) {
        // SAFETY: it was made by a call whose result is to be freed so, and by nobody else. Null is nothing.
        unsafe { LocalFree(self.0) };
    }
}

fn process_user() -> io::Result<Sid> {
    let mut token = null_mut();
    // SAFETY: the process is this one; the pointer is to a handle that lives here.
    if unsafe { OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &raw mut token) } == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call made the handle for us to own.
    let token = unsafe { owned(token)? };
    Sid::of_token(token.as_handle())
}

/// # Safety
/// The handle is nobody else's.
unsafe fn owned(handle: HANDLE) -> io::Result<OwnedHandle> {
    if handle.is_null() || handle == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and the caller vouches for the rest.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
}

fn until_nul(units: &[u16]) -> io::Result<String> {
    let text: Vec<u16> = units.iter().copied().take_while(|unit| *unit != 0).collect();
    String::from_utf16(&text).map_err(io::Error::other)
}

/// SYSTEM, Administrators, TrustedInstaller, and the rights of whoever owns a file.
const TRUSTED: [&str; 4] =
    ["S-1-5-18", "S-1-5-32-544", "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464", "S-1-3-4"];

/// Kinds of entries that take away.
const DENIALS: [u32; 4] = [
    ACCESS_DENIED_ACE_TYPE,
    ACCESS_DENIED_OBJECT_ACE_TYPE,
    ACCESS_DENIED_CALLBACK_ACE_TYPE,
    ACCESS_DENIED_CALLBACK_OBJECT_ACE_TYPE,
];

/// To read content and attributes, and to run it: FILE_GENERIC_READ, FILE_GENERIC_EXECUTE, and their names
/// before they are mapped.
const READING: u32 = READ_CONTROL | FILE_READ_ATTRIBUTES | 0x1 | 0x8 | 0x20 | GENERIC_READ | 0x2000_0000;

/// To read and write, before it is mapped.
pub(super) const READ_AND_WRITE: u32 = GENERIC_READ | GENERIC_WRITE;
