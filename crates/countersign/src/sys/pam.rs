//! Linux-PAM (pam(3)), loaded when it is wanted.
//!
//! Called by the process that the module `pam` starts for a login, and by nothing else: what PAM loads
//! runs in whoever calls it. Numbers and layouts are those of Linux-PAM's `security/_pam_types.h`; other
//! PAMs have others. What they are is in `interface.rs`, what PAM asks is
//! answered in `converse.rs`.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString, c_int, c_void},
    fmt,
    marker::PhantomData,
    mem::ManuallyDrop,
    path::Path,
    ptr::{self, NonNull},
};

use libloading::os::unix::{RTLD_GLOBAL, RTLD_NOW};
use serde::{Deserialize, Serialize};

mod converse;
mod interface;

use self::{converse::converse, interface::*};
use super::library::{Function, Library};
use crate::{Secret, error::ConfigError};

/// The library.
pub struct Pam {
    start: Function<Start>,
    /// Linux-PAM 1.4 and newer.
    start_confdir: Option<Function<StartConfdir>>,
    end: Function<WithNumber>,
    set_item: Function<SetItem>,
    get_item: Function<GetItem>,
    authenticate: Function<WithNumber>,
    acct_mgmt: Function<WithNumber>,
    setcred: Function<WithNumber>,
    open_session: Function<WithNumber>,
    close_session: Function<WithNumber>,
}

impl Pam {
    /// Loads the library.
    ///
    /// # Errors
    /// It is not on this machine, or this is another system than Linux.
    pub fn load() -> Result<Self, ConfigError> {
        if !cfg!(target_os = "linux") {
            let why = "it speaks to Linux-PAM, and this system has none";
            return Err(ConfigError::new("module pam", why, "ask for the password with another module"));
        }
        let library = Library::open(SONAME, "libpam0g")?;
        // SAFETY: it is loaded; this lets its modules see its functions, of which some make use without
        // naming the library, because programs that are linked with it let them.
        let global = unsafe { libloading::os::unix::Library::open(Some(SONAME), RTLD_NOW | RTLD_GLOBAL) };
        let _never_unloaded = ManuallyDrop::new(global);
        // SAFETY: each type is the function's in `security/pam_appl.h`.
        unsafe {
            Ok(Self {
                start: library.function("pam_start")?,
                start_confdir: library.function("pam_start_confdir").ok(),
                end: library.function("pam_end")?,
                set_item: library.function("pam_set_item")?,
                get_item: library.function("pam_get_item")?,
                authenticate: library.function("pam_authenticate")?,
                acct_mgmt: library.function("pam_acct_mgmt")?,
                setcred: library.function("pam_setcred")?,
                open_session: library.function("pam_open_session")?,
                close_session: library.function("pam_close_session")?,
            })
        }
    }

    /// Whether service files can be read from another directory than the system's.
    pub fn reads_directories(&self) -> bool {
        self.start_confdir.is_some()
    }

    /// Begins a login of `user` by the rules of `service`, whose file is in `directory` or where the
    /// system has such files. `answer` is called for each question, and ends the login by `None`.
    ///
    /// # Errors
    /// PAM's own, and [`Code::SYSTEM_ERR`] for a name with a NUL byte or a directory where this library
    /// has no use for one.
    pub fn start<'a>(
        &'a self,
        service: &str,
        directory: Option<&Path>,
        user: &str,
        answer: impl FnMut(Question) -> Option<Secret> + 'a,
    ) -> Result<Transaction<'a>, Code> {
        let (service, user) = (text(service)?, text(user)?);
        let directory = directory.map(|path| text(path.to_str().ok_or(Code::SYSTEM_ERR)?)).transpose()?;
        // The outer box gives the thin pointer that C hands back.
        let answer: *mut Answer<'a> = Box::into_raw(Box::new(Box::new(answer)));
        let conversation = Conversation { converse, data: answer.cast() };
        let mut handle: *mut Handle = ptr::null_mut();
        // SAFETY: the texts end with NUL and live through the call, as does `conversation`, which PAM
        // copies; what its data points at lives until the transaction has ended, also where none begins.
        let code = unsafe {
            let (service, user) = (service.as_ptr(), user.as_ptr());
            match (&directory, &self.start_confdir) {
                (None, _) => (self.start)(service, user, &raw const conversation, &raw mut handle),
                (Some(directory), Some(start)) => {
                    start(service, user, &raw const conversation, directory.as_ptr(), &raw mut handle)
                }
                (Some(_), None) => Code::SYSTEM_ERR.0,
            }
        };
        match NonNull::new(handle) {
            Some(handle) if code == 0 => {
                Ok(Transaction { pam: self, handle, last: 0, answer, lifetime: PhantomData })
            }
            _ => {
                // SAFETY: it came from `Box::into_raw` above, and PAM, which has no transaction, is done.
                drop(unsafe { Box::from_raw(answer) });
                Err(Code(if code == 0 { Code::SYSTEM_ERR.0 } else { code }))
            }
        }
    }
}

impl fmt::Debug for Pam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pam").finish_non_exhaustive()
    }
}

/// A question that a module of PAM puts to whoever logs in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Question {
    /// Its text, as it came.
    pub text: String,
    /// Whether the answer may be shown while it is typed.
    pub echo: bool,
}

/// A fact that modules of PAM may look at.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_enums, reason = "each is a number of PAM's")]
pub enum Item {
    /// What stands for a terminal: `PAM_TTY`.
    Terminal,
    /// The machine that the user comes from: `PAM_RHOST`.
    RemoteHost,
    /// Who asks to be let in as the user: `PAM_RUSER`.
    RemoteUser,
}

/// One login. Ended when it is dropped.
pub struct Transaction<'a> {
    pam: &'a Pam,
    handle: NonNull<Handle>,
    /// What the last call answered, which `pam_end` passes on to the modules.
    last: c_int,
    answer: *mut Answer<'a>,
    lifetime: PhantomData<Answer<'a>>,
}

impl Transaction<'_> {
    /// Sets a fact.
    ///
    /// # Errors
    /// PAM's own.
    pub fn set(&mut self, item: Item, value: &str) -> Result<(), Code> {
        let value = text(value)?;
        let item = match item {
            Item::Terminal => PAM_TTY,
            Item::RemoteHost => PAM_RHOST,
            Item::RemoteUser => PAM_RUSER,
        };
        // SAFETY: the handle is open; PAM copies the text, which ends with NUL.
        let code = unsafe { (self.pam.set_item)(self.handle.as_ptr(), item, value.as_ptr().cast()) };
        self.done(code)
    }

    /// Takes the pause after a failure away from PAM. Its modules ask for one when the password is wrong
    /// and for none when the account has expired, so the pause would tell the two apart.
    ///
    /// # Errors
    /// PAM's own.
    pub fn answer_without_pause(&mut self) -> Result<(), Code> {
        let pause: Pause = no_pause;
        // SAFETY: the handle is open; for this item PAM keeps the address of a function of this type.
        let code =
            unsafe { (self.pam.set_item)(self.handle.as_ptr(), PAM_FAIL_DELAY, pause as *const c_void) };
        self.done(code)
    }

    /// Asks for the proofs that the service wants. An empty password is none.
    ///
    /// # Errors
    /// The answer no, or what kept PAM from one.
    pub fn authenticate(&mut self) -> Result<(), Code> {
        self.run(|pam| &pam.authenticate, PAM_DISALLOW_NULL_AUTHTOK)
    }

    /// Asks whether the account may log in now.
    ///
    /// # Errors
    /// As [`Transaction::authenticate`].
    pub fn check_account(&mut self) -> Result<(), Code> {
        self.run(|pam| &pam.acct_mgmt, PAM_DISALLOW_NULL_AUTHTOK)
    }

    /// Gives the user credentials and opens a session.
    ///
    /// # Errors
    /// As [`Transaction::authenticate`]. Then nothing is left open.
    pub fn open_session(&mut self) -> Result<(), Code> {
        self.run(|pam| &pam.setcred, PAM_ESTABLISH_CRED)?;
        self.run(|pam| &pam.open_session, 0).inspect_err(|_| {
            let _ = self.run(|pam| &pam.setcred, PAM_DELETE_CRED);
        })
    }

    /// Closes the session and takes the credentials back.
    ///
    /// # Errors
    /// As [`Transaction::authenticate`].
    pub fn close_session(&mut self) -> Result<(), Code> {
        let closed = self.run(|pam| &pam.close_session, 0);
        let taken_back = self.run(|pam| &pam.setcred, PAM_DELETE_CRED);
        closed.and(taken_back)
    }

    /// The user's name as PAM has it now: its modules may have changed it.
    ///
    /// # Errors
    /// It has none, or none that is text.
    pub fn user(&self) -> Result<String, Code> {
        let mut user: *const c_void = ptr::null();
        // SAFETY: the handle is open, and PAM writes one pointer.
        let code = unsafe { (self.pam.get_item)(self.handle.as_ptr(), PAM_USER, &raw mut user) };
        if code != 0 || user.is_null() {
            return Err(Code(if code == 0 { Code::SYSTEM_ERR.0 } else { code }));
        }
        // SAFETY: for this item it is a text that ends with NUL and is PAM's until the next call of it.
        let user = unsafe { CStr::from_ptr(user.cast()) };
        user.to_str().map(str::to_owned).map_err(|_| Code::SYSTEM_ERR)
    }

    fn run(&mut self, function: impl Fn(&Pam) -> &Function<WithNumber>, flags: c_int) -> Result<(), Code> {
        // SAFETY: the handle is open, and so is what the conversation's data points at.
        let code = unsafe { function(self.pam)(self.handle.as_ptr(), flags | PAM_SILENT) };
        self.done(code)
    }

    fn done(&mut self, code: c_int) -> Result<(), Code> {
        self.last = code;
        if code == 0 { Ok(()) } else { Err(Code(code)) }
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        // SAFETY: the handle is open and not used again. Modules may still ask something while it ends,
        // so what the data points at, which came from `Box::into_raw`, goes afterwards.
        unsafe {
            (self.pam.end)(self.handle.as_ptr(), self.last);
            drop(Box::from_raw(self.answer));
        }
    }
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("last", &Code(self.last)).finish_non_exhaustive()
    }
}

/// An answer of PAM's other than success. Shown by its name in C.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code(c_int);

impl Code {
    /// Something is broken.
    pub const SYSTEM_ERR: Self = Self(4);
    /// Not for this user, or not now.
    pub const PERM_DENIED: Self = Self(6);
    /// A wrong answer.
    pub const AUTH_ERR: Self = Self(7);
    /// No such user.
    pub const USER_UNKNOWN: Self = Self(10);
    /// Too many wrong answers.
    pub const MAXTRIES: Self = Self(11);
    /// The password has to be changed first.
    pub const NEW_AUTHTOK_REQD: Self = Self(12);
    /// The account is no longer.
    pub const ACCT_EXPIRED: Self = Self(13);
    /// The credentials are no longer.
    pub const CRED_EXPIRED: Self = Self(16);
    /// The password is no longer.
    pub const AUTHTOK_EXPIRED: Self = Self(27);
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match usize::try_from(self.0).ok().and_then(|number| CODES.get(number)) {
            Some(name) => write!(f, "PAM_{name}"),
            None => write!(f, "PAM's answer {}", self.0),
        }
    }
}

/// A text as C wants it.
fn text(text: &str) -> Result<CString, Code> {
    CString::new(text).map_err(|_| Code::SYSTEM_ERR)
}

type Answer<'a> = Box<dyn FnMut(Question) -> Option<Secret> + 'a>;

/// The names of PAM's answers, by number.
const CODES: [&str; 32] = [
    "SUCCESS",
    "OPEN_ERR",
    "SYMBOL_ERR",
    "SERVICE_ERR",
    "SYSTEM_ERR",
    "BUF_ERR",
    "PERM_DENIED",
    "AUTH_ERR",
    "CRED_INSUFFICIENT",
    "AUTHINFO_UNAVAIL",
    "USER_UNKNOWN",
    "MAXTRIES",
    "NEW_AUTHTOK_REQD",
    "ACCT_EXPIRED",
    "SESSION_ERR",
    "CRED_UNAVAIL",
    "CRED_EXPIRED",
    "CRED_ERR",
    "NO_MODULE_DATA",
    "CONV_ERR",
    "AUTHTOK_ERR",
    "AUTHTOK_RECOVERY_ERR",
    "AUTHTOK_LOCK_BUSY",
    "AUTHTOK_DISABLE_AGING",
    "TRY_AGAIN",
    "IGNORE",
    "ABORT",
    "AUTHTOK_EXPIRED",
    "MODULE_UNKNOWN",
    "BAD_ITEM",
    "CONV_AGAIN",
    "INCOMPLETE",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets a module of PAM ask `messages`, given as style and text, and answers from `answers`.
    /// `None` where it is refused; else what the module finds.
    fn asked(messages: &[(c_int, Option<&CStr>)], answers: &[&str]) -> Option<Vec<Option<Vec<u8>>>> {
        let mut left = answers.iter();
        let mut answer: Answer<'_> = Box::new(move |_| left.next().map(|answer| Secret::new(*answer)));
        let messages: Vec<Message> = messages
            .iter()
            .map(|(style, text)| Message { style: *style, text: text.map_or(ptr::null(), CStr::as_ptr) })
            .collect();
        let mut pointers: Vec<*const Message> = messages.iter().map(ptr::from_ref).collect();
        let mut found: *mut Response = ptr::null_mut();
        let count = c_int::try_from(pointers.len()).unwrap();
        // SAFETY: what C would give: an array of that many pointers, a place for one, and the data.
        let code =
            unsafe { converse(count, pointers.as_mut_ptr(), &raw mut found, (&raw mut answer).cast()) };
        if code != 0 {
            assert!(found.is_null());
            return None;
        }
        let mut texts = Vec::new();
        for position in 0..messages.len() {
            // SAFETY: `converse` made an array of that many, each null or a text that ends with NUL, all of
            // them malloc's.
            unsafe {
                let text = (*found.add(position)).text;
                texts.push((!text.is_null()).then(|| CStr::from_ptr(text).to_bytes().to_vec()));
                libc::free(text.cast());
            }
        }
        // SAFETY: as above; this is the array itself.
        unsafe { libc::free(found.cast()) };
        Some(texts)
    }

    #[test]
    fn each_question_is_answered_in_its_place_and_statements_are_not() {
        let messages =
            [(1, Some(c"Password: ")), (4, Some(c"Hello")), (2, Some(c"Code")), (3, None), (1, None)];
        let found = asked(&messages, &["pässwörd", "123456", ""]).unwrap();
        assert_eq!(found, [Some("pässwörd".into()), None, Some("123456".into()), None, Some("".into())]);
    }

    #[test]
    fn a_conversation_ends_where_there_is_no_answer_or_no_sense() {
        assert_eq!(asked(&[(1, Some(c"Password: ")), (1, Some(c"Again: "))], &["one"]), None);
        assert_eq!(asked(&[(1, Some(c"Password: "))], &["a\0b"]), None);
        for style in [0, -1, 5, 7, 99] {
            assert_eq!(asked(&[(style, Some(c"Password: "))], &["x"]), None);
        }
        assert_eq!(asked(&[], &[]), None);
        assert_eq!(asked(&vec![(4, Some(c"x")); 33], &[]), None);
        assert!(asked(&vec![(4, Some(c"x")); 32], &[]).is_some());
    }

    #[test]
    fn modules_that_give_null_pointers_are_survived() {
        let mut answer: Answer<'_> = Box::new(|_| Some(Secret::new("x")));
        let data: *mut c_void = (&raw mut answer).cast();
        let say = Message { style: PAM_TEXT_INFO, text: c"x".as_ptr() };
        let ask = Message { style: PAM_PROMPT_ECHO_OFF, text: c"x".as_ptr() };
        let mut found: *mut Response = ptr::null_mut();
        // SAFETY: each pointer is null or to what C would give.
        unsafe {
            let none = ptr::null_mut();
            assert_eq!(converse(1, &mut ptr::from_ref(&say), none, data), 0);
            assert_eq!(converse(1, &mut ptr::from_ref(&ask), none, data), PAM_CONV_ERR);
            assert_eq!(converse(1, &mut ptr::null(), &raw mut found, data), PAM_CONV_ERR);
            assert_eq!(converse(1, ptr::null_mut(), &raw mut found, data), PAM_CONV_ERR);
            assert_eq!(converse(1, &mut ptr::from_ref(&ask), &raw mut found, ptr::null_mut()), PAM_CONV_ERR);
            assert_eq!(converse(-1, &mut ptr::from_ref(&ask), &raw mut found, data), PAM_CONV_ERR);
        }
        assert!(found.is_null());
    }

    #[test]
    fn answers_have_their_names_in_c() {
        assert_eq!(Code::ACCT_EXPIRED.to_string(), "PAM_ACCT_EXPIRED");
        assert_eq!(Code::AUTHTOK_EXPIRED.to_string(), "PAM_AUTHTOK_EXPIRED");
        assert_eq!(Code(31).to_string(), "PAM_INCOMPLETE");
        assert_eq!(Code(-1).to_string(), "PAM's answer -1");
    }

    #[test]
    fn what_c_cannot_hold_does_not_reach_it() {
        let pam = Pam::load().unwrap();
        for (service, user) in [("lo\0gin", "alice"), ("login", "al\0ice")] {
            assert_eq!(pam.start(service, None, user, |_| None).err(), Some(Code::SYSTEM_ERR));
        }
    }
}
