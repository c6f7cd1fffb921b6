//! Windows: accounts have no numbers, so nothing is found by one and nobody has one.
#![allow(unsafe_code)]

use std::io;

use windows_sys::Win32::System::SystemInformation::{ComputerNameDnsHostname, GetComputerNameExW};

use super::Account;
use crate::sys::security::Sid;

pub(super) fn named(_: &str) -> io::Result<Option<Account>> {
    Err(unsupported())
}

pub(super) fn of_uid(_: u32) -> io::Result<Option<Account>> {
    Err(unsupported())
}

pub(super) fn groups_of(_: &str, _: u32) -> io::Result<Vec<u32>> {
    Err(unsupported())
}

/// The id of the group of that name: never known.
///
/// # Errors
/// Always.
pub fn group_named(_: &str) -> io::Result<Option<u32>> {
    Err(unsupported())
}

/// The name of the group of that id: never known.
///
/// # Errors
/// Always.
pub fn group_name(_: u32) -> io::Result<Option<String>> {
    Err(unsupported())
}

/// What whoever started this program is called: `DOMAIN\\NAME`, or its SID.
pub fn caller() -> String {
    Sid::own().map_or_else(|_| "somebody".to_owned(), |sid| sid.called())
}

/// The user id that this program acts as: the number that stands for nobody, so that it is equal to no
/// peer's and to no owner's.
pub fn own_uid() -> u32 {
    u32::MAX
}

/// Goes on as another account: services of Windows are started as the account that they should have.
///
/// # Errors
/// Always.
pub fn step_down(_: u32, _: u32) -> io::Result<()> {
    Err(unsupported())
}

/// What this machine calls itself; `localhost` if it has no name that is text.
pub fn host_name() -> String {
    let mut name = [0_u16; 256];
    let mut length = u32::try_from(name.len()).unwrap_or_default();
    // SAFETY: the buffer is valid for writing `length` units; the call writes no more and sets `length` to what
    // it wrote, without the final NUL.
    let known = unsafe { GetComputerNameExW(ComputerNameDnsHostname, name.as_mut_ptr(), &raw mut length) };
    let text = name.get(..length as usize).filter(|_| known != 0).map(String::from_utf16);
    text.and_then(Result::ok).filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".to_owned())
}

fn unsupported() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "Windows has no accounts by number")
}
