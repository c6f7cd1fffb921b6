//! The call itself.
#![allow(unsafe_code)]

use std::{
    iter::once,
    os::windows::io::{AsHandle as _, FromRawHandle as _, OwnedHandle},
    ptr::{null, null_mut},
};

use windows_sys::Win32::{
    Foundation::GetLastError,
    Security::{LOGON32_LOGON_BATCH, LOGON32_LOGON_NETWORK, LOGON32_PROVIDER_DEFAULT, LogonUserW},
    System::SystemInformation::{ComputerNameNetBIOS, GetComputerNameExW},
};
use zeroize::Zeroizing;

use super::{Account, Attempt, Fault, LogonKind};
use crate::{Secret, sys::security::Sid};

/// Whether this system can be asked.
pub const IS_HERE: bool = true;

/// What accounts of this machine have for a domain: its short name.
pub fn machine() -> String {
    let mut name = [0_u16; 64];
    let mut length = 64;
    // SAFETY: the buffer is valid for writing `length` units; the call writes no more and sets `length` to what
    // it wrote, without the final NUL.
    let known = unsafe { GetComputerNameExW(ComputerNameNetBIOS, name.as_mut_ptr(), &raw mut length) };
    let text = name.get(..length as usize).filter(|_| known != 0).map(String::from_utf16_lossy);
    text.unwrap_or_default()
}

pub(super) fn check(attempt: &Attempt) -> Result<Account, Fault> {
    let (user, domain) = (wide(&attempt.user), attempt.domain.as_deref().map(wide));
    let password = wide_secret(&attempt.password);
    let kind = match attempt.kind {
        LogonKind::Network => LOGON32_LOGON_NETWORK,
        LogonKind::Batch => LOGON32_LOGON_BATCH,
    };
    let domain = domain.as_ref().map_or(null(), |domain| domain.as_ptr());
    let mut token = null_mut();
    // SAFETY: the texts end with a NUL and outlive the call; the pointer is to a handle that lives here.
    let passed = unsafe {
        LogonUserW(user.as_ptr(), domain, password.as_ptr(), kind, LOGON32_PROVIDER_DEFAULT, &raw mut token)
    };
    // SAFETY: it reads a number of this thread, which nothing has written since.
    let code = unsafe { GetLastError() };
    if passed == 0 || token.is_null() {
        return Err(Fault::Denied(code));
    }
    // SAFETY: the call made the handle for us to own.
    let token = unsafe { OwnedHandle::from_raw_handle(token) };
    let sid = Sid::of_token(token.as_handle()).map_err(|_| Fault::Nameless)?;
    let (domain, name) = sid.account().map_err(|_| Fault::Nameless)?;
    Ok(Account { sid: sid.as_str().to_owned(), domain, name })
}

fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain(once(0)).collect()
}

/// The password with its NUL. It has its whole room from the start, so that no part is left behind by growing.
fn wide_secret(secret: &Secret) -> Zeroizing<Vec<u16>> {
    let mut units = Zeroizing::new(Vec::with_capacity(secret.expose().len() + 1));
    // Never more units than bytes. What is no UTF-8 was made so by the caller.
    for character in String::from_utf8_lossy(secret.expose()).chars() {
        units.extend_from_slice(character.encode_utf16(&mut [0; 2]));
    }
    units.push(0);
    units
}
