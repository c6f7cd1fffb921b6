//! The part of Linux-PAM's `security/_pam_types.h` and `pam_appl.h` that is used: its structures, its functions'
//! types, its numbers.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_uint, c_void};

/// `pam_handle_t`, of which only the library knows what it is.
#[repr(C)]
pub(super) struct Handle {
    pub(super) _private: [u8; 0],
}

/// `struct pam_conv`.
#[repr(C)]
pub(super) struct Conversation {
    pub(super) converse:
        unsafe extern "C" fn(c_int, *mut *const Message, *mut *mut Response, *mut c_void) -> c_int,
    pub(super) data: *mut c_void,
}

/// `struct pam_message`.
#[repr(C)]
pub(super) struct Message {
    pub(super) style: c_int,
    pub(super) text: *const c_char,
}

/// `struct pam_response`.
#[repr(C)]
pub(super) struct Response {
    pub(super) text: *mut c_char,
    pub(super) unused: c_int,
}

pub(super) type Start =
    unsafe extern "C" fn(*const c_char, *const c_char, *const Conversation, *mut *mut Handle) -> c_int;
pub(super) type StartConfdir = unsafe extern "C" fn(
    *const c_char,
    *const c_char,
    *const Conversation,
    *const c_char,
    *mut *mut Handle,
) -> c_int;
pub(super) type SetItem = unsafe extern "C" fn(*mut Handle, c_int, *const c_void) -> c_int;
pub(super) type GetItem = unsafe extern "C" fn(*const Handle, c_int, *mut *const c_void) -> c_int;
/// `pam_end`, and the functions that take flags.
pub(super) type WithNumber = unsafe extern "C" fn(*mut Handle, c_int) -> c_int;
/// What PAM calls in place of its own pause.
pub(super) type Pause = unsafe extern "C" fn(c_int, c_uint, *mut c_void);

pub(super) unsafe extern "C" fn no_pause(_: c_int, _: c_uint, _: *mut c_void) {}

pub(super) const SONAME: &str = "libpam.so.0";

pub(super) const PAM_USER: c_int = 2;
pub(super) const PAM_TTY: c_int = 3;
pub(super) const PAM_RHOST: c_int = 4;
pub(super) const PAM_RUSER: c_int = 8;
pub(super) const PAM_FAIL_DELAY: c_int = 10;

pub(super) const PAM_SILENT: c_int = 0x8000;
pub(super) const PAM_DISALLOW_NULL_AUTHTOK: c_int = 1;
pub(super) const PAM_ESTABLISH_CRED: c_int = 2;
pub(super) const PAM_DELETE_CRED: c_int = 4;

pub(super) const PAM_PROMPT_ECHO_OFF: c_int = 1;
pub(super) const PAM_PROMPT_ECHO_ON: c_int = 2;
pub(super) const PAM_ERROR_MSG: c_int = 3;
pub(super) const PAM_TEXT_INFO: c_int = 4;

pub(super) const PAM_BUF_ERR: c_int = 5;
pub(super) const PAM_CONV_ERR: c_int = 19;

/// `PAM_MAX_NUM_MSG`.
pub(super) const MOST_MESSAGES: usize = 32;
