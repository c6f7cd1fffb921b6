//! The part of libkrb5's `krb5.h` that is used: its structures, its functions' types, its numbers.
#![allow(unsafe_code)]

use std::{
    ffi::{c_char, c_int, c_void},
    ptr::null_mut,
};

/// `krb5_data`.
#[repr(C)]
pub(super) struct Data {
    pub(super) magic: i32,
    pub(super) length: u32,
    pub(super) data: *mut c_char,
}

impl Data {
    pub(super) const EMPTY: Self = Self { magic: 0, length: 0, data: null_mut() };
}

/// `krb5_keyblock`.
#[repr(C)]
pub(super) struct Keyblock {
    pub(super) magic: i32,
    pub(super) enctype: i32,
    pub(super) length: u32,
    pub(super) contents: *mut u8,
}

impl Keyblock {
    pub(super) const EMPTY: Self = Self { magic: 0, enctype: 0, length: 0, contents: null_mut() };
}

/// `krb5_creds`.
#[repr(C)]
pub(super) struct CredentialContents {
    pub(super) magic: i32,
    pub(super) client: *mut c_void,
    pub(super) server: *mut c_void,
    pub(super) keyblock: Keyblock,
    pub(super) times: [i32; 4],
    pub(super) is_skey: u32,
    pub(super) ticket_flags: i32,
    pub(super) addresses: *mut *mut c_void,
    pub(super) ticket: Data,
    pub(super) second_ticket: Data,
    pub(super) authdata: *mut *mut c_void,
}

impl CredentialContents {
    pub(super) const EMPTY: Self = Self {
        magic: 0,
        client: null_mut(),
        server: null_mut(),
        keyblock: Keyblock::EMPTY,
        times: [0; 4],
        is_skey: 0,
        ticket_flags: 0,
        addresses: null_mut(),
        ticket: Data::EMPTY,
        second_ticket: Data::EMPTY,
        authdata: null_mut(),
    };
}

/// `krb5_keytab_entry`.
#[repr(C)]
pub(super) struct KeytabEntry {
    pub(super) magic: i32,
    pub(super) principal: *mut c_void,
    pub(super) timestamp: i32,
    pub(super) version: u32,
    pub(super) key: Keyblock,
}

impl KeytabEntry {
    pub(super) const EMPTY: Self =
        Self { magic: 0, principal: null_mut(), timestamp: 0, version: 0, key: Keyblock::EMPTY };
}

/// `krb5_verify_init_creds_opt`.
#[repr(C)]
pub(super) struct VerifyOptions {
    /// 1 says that the other field counts.
    pub(super) flags: i32,
    pub(super) ap_req_nofail: c_int,
}

pub(super) type Handle = *mut c_void;
pub(super) type InitContext = unsafe extern "C" fn(*mut Handle) -> i32;
pub(super) type FreeContext = unsafe extern "C" fn(Handle);
pub(super) type GetErrorMessage = unsafe extern "C" fn(Handle, i32) -> *const c_char;
pub(super) type FreeErrorMessage = unsafe extern "C" fn(Handle, *const c_char);
pub(super) type GetDefaultRealm = unsafe extern "C" fn(Handle, *mut *mut c_char) -> i32;
pub(super) type FreeString = unsafe extern "C" fn(Handle, *mut c_char);
pub(super) type ParseName = unsafe extern "C" fn(Handle, *const c_char, *mut Handle) -> i32;
pub(super) type UnparseName = unsafe extern "C" fn(Handle, Handle, *mut *mut c_char) -> i32;
pub(super) type FreePrincipal = unsafe extern "C" fn(Handle, Handle);
pub(super) type AnameToLocalname = unsafe extern "C" fn(Handle, Handle, c_int, *mut c_char) -> i32;
pub(super) type KtDefault = unsafe extern "C" fn(Handle, *mut Handle) -> i32;
pub(super) type KtResolve = unsafe extern "C" fn(Handle, *const c_char, *mut Handle) -> i32;
pub(super) type KtClose = unsafe extern "C" fn(Handle, Handle) -> i32;
pub(super) type KtHaveContent = unsafe extern "C" fn(Handle, Handle) -> i32;
pub(super) type KtGetEntry = unsafe extern "C" fn(Handle, Handle, Handle, u32, i32, *mut KeytabEntry) -> i32;
pub(super) type FreeKeytabEntryContents = unsafe extern "C" fn(Handle, *mut KeytabEntry) -> i32;
pub(super) type OptAlloc = unsafe extern "C" fn(Handle, *mut Handle) -> i32;
pub(super) type OptFree = unsafe extern "C" fn(Handle, Handle);
pub(super) type OptSetCanonicalize = unsafe extern "C" fn(Handle, c_int);
pub(super) type GetInitCredsPassword = unsafe extern "C" fn(
    Handle,
    *mut CredentialContents,
    Handle,
    *const c_char,
    *const c_void,
    *mut c_void,
    i32,
    *const c_char,
    Handle,
) -> i32;
pub(super) type FreeCredContents = unsafe extern "C" fn(Handle, *mut CredentialContents);
pub(super) type VerifyInitCreds = unsafe extern "C" fn(
    Handle,
    *mut CredentialContents,
    Handle,
    Handle,
    *mut Handle,
    *mut VerifyOptions,
) -> i32;

/// `KRB5_LNAME_NOTRANS`.
pub(super) const NO_TRANSLATION: i32 = -1_765_328_208;
