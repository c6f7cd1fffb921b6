//! The part of MIT's `gssapi.h` that is used: its structures, its functions' types, its names and numbers.
#![allow(unsafe_code)]

use std::{
    ffi::{c_char, c_int, c_void},
    ptr::null_mut,
};

/// `gss_buffer_desc`.
#[repr(C)]
pub(super) struct Buffer {
    pub(super) length: usize,
    pub(super) value: *mut c_void,
}

impl Buffer {
    pub(super) const EMPTY: Self = Self { length: 0, value: null_mut() };

    /// Bytes that the library only reads.
    pub(super) fn lent(bytes: &[u8]) -> Self {
        Self { length: bytes.len(), value: bytes.as_ptr().cast_mut().cast() }
    }
}

/// `gss_channel_bindings_struct`, without addresses.
#[repr(C)]
pub(super) struct ChannelBindings {
    pub(super) initiator_addrtype: u32,
    pub(super) initiator_address: Buffer,
    pub(super) acceptor_addrtype: u32,
    pub(super) acceptor_address: Buffer,
    pub(super) application_data: Buffer,
}

impl ChannelBindings {
    pub(super) fn of(data: &[u8]) -> Self {
        Self {
            initiator_addrtype: 0,
            initiator_address: Buffer::EMPTY,
            acceptor_addrtype: 0,
            acceptor_address: Buffer::EMPTY,
            application_data: Buffer::lent(data),
        }
    }
}

/// `gss_OID_desc`, of constants only.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Oid {
    pub(super) length: u32,
    pub(super) elements: *const u8,
}

// SAFETY: it points to constants that nobody writes.
unsafe impl Sync for Oid {}

/// `gss_OID_set_desc`.
#[repr(C)]
pub(super) struct OidSet {
    pub(super) count: usize,
    pub(super) elements: *const Oid,
}

/// `gss_key_value_element_desc`.
#[repr(C)]
pub(super) struct KeyValue {
    pub(super) key: *const c_char,
    pub(super) value: *const c_char,
}

/// `gss_key_value_set_desc`.
#[repr(C)]
pub(super) struct KeyValueSet {
    pub(super) count: u32,
    pub(super) elements: *const KeyValue,
}

pub(super) type Minor = *mut u32;
pub(super) type Handle = *mut c_void;
pub(super) type ImportName = unsafe extern "C" fn(Minor, *mut Buffer, *const Oid, *mut Handle) -> u32;
pub(super) type ReleaseName = unsafe extern "C" fn(Minor, *mut Handle) -> u32;
pub(super) type DisplayName = unsafe extern "C" fn(Minor, Handle, *mut Buffer, *mut *const Oid) -> u32;
pub(super) type AcquireCredFrom = unsafe extern "C" fn(
    Minor,
    Handle,
    u32,
    *const OidSet,
    c_int,
    *const KeyValueSet,
    *mut Handle,
    *mut *mut OidSet,
    *mut u32,
) -> u32;
pub(super) type ReleaseCred = unsafe extern "C" fn(Minor, *mut Handle) -> u32;
pub(super) type InitSecContext = unsafe extern "C" fn(
    Minor,
    Handle,
    *mut Handle,
    Handle,
    *const Oid,
    u32,
    u32,
    *mut ChannelBindings,
    *mut Buffer,
    *mut *const Oid,
    *mut Buffer,
    *mut u32,
    *mut u32,
) -> u32;
pub(super) type AcceptSecContext = unsafe extern "C" fn(
    Minor,
    *mut Handle,
    Handle,
    *mut Buffer,
    *mut ChannelBindings,
    *mut Handle,
    *mut *const Oid,
    *mut Buffer,
    *mut u32,
    *mut u32,
    *mut Handle,
) -> u32;
pub(super) type DeleteSecContext = unsafe extern "C" fn(Minor, *mut Handle, *mut Buffer) -> u32;
pub(super) type ReleaseBuffer = unsafe extern "C" fn(Minor, *mut Buffer) -> u32;
pub(super) type DisplayStatus =
    unsafe extern "C" fn(Minor, u32, c_int, *const Oid, *mut u32, *mut Buffer) -> u32;

/// Kerberos, 1.2.840.113554.1.2.2 (RFC 4121 1).
pub(super) static KERBEROS: Oid =
    Oid { length: 9, elements: [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02].as_ptr() };

/// A principal as Kerberos writes it, 1.2.840.113554.1.2.2.1 (RFC 1964 2.1.1).
pub(super) static KERBEROS_PRINCIPAL: Oid =
    Oid { length: 10, elements: [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02, 0x01].as_ptr() };

/// `service@host`, 1.2.840.113554.1.2.1.4 (RFC 2744 appendix A).
pub(super) static HOSTBASED_SERVICE: Oid =
    Oid { length: 10, elements: [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x01, 0x04].as_ptr() };

/// Calling and routine errors; what is left tells of something else.
pub(super) const ERRORS: u32 = 0xffff_0000;
pub(super) const CONTINUE_NEEDED: u32 = 1;
pub(super) const BAD_BINDINGS: u32 = 4 << 16;
pub(super) const DEFECTIVE_TOKEN: u32 = 9 << 16;
pub(super) const ACCEPT: c_int = 2;
pub(super) const INDEFINITE: u32 = u32::MAX;
pub(super) const MUTUAL: u32 = 2;
pub(super) const REPLAY: u32 = 4;
pub(super) const SEQUENCE: u32 = 8;
pub(super) const ANONYMOUS: u32 = 64;
/// MIT 1.19 and later. Before, a token without a binding was refused where one was given.
pub(super) const CHANNEL_BOUND: u32 = 2048;
