//! libkrb5: passwords judged by a KDC that proves itself, and the rules of `krb5.conf`.
//!
//! Called by the Kerberos modules. A call reads `krb5.conf` anew, as any program that is started then would,
//! and [`Krb5::check_password`] waits for the KDC, for as long as that configuration lets it.
//! What the library declares is in `interface.rs`.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString, c_int, c_void},
    fmt,
    ptr::{null, null_mut},
    sync::OnceLock,
};

use zeroize::Zeroizing;

mod interface;

use self::interface::*;
use super::library::{Function, Library};
use crate::{Secret, error::ConfigError};

/// The library, with the functions that are used of it.
#[derive(Debug)]
pub struct Krb5 {
    init_context: Function<InitContext>,
    free_context: Function<FreeContext>,
    get_error_message: Function<GetErrorMessage>,
    free_error_message: Function<FreeErrorMessage>,
    get_default_realm: Function<GetDefaultRealm>,
    free_default_realm: Function<FreeString>,
    parse_name: Function<ParseName>,
    unparse_name: Function<UnparseName>,
    free_unparsed_name: Function<FreeString>,
    free_principal: Function<FreePrincipal>,
    aname_to_localname: Function<AnameToLocalname>,
    kt_default: Function<KtDefault>,
    kt_resolve: Function<KtResolve>,
    kt_close: Function<KtClose>,
    kt_have_content: Function<KtHaveContent>,
    kt_get_entry: Function<KtGetEntry>,
    free_keytab_entry_contents: Function<FreeKeytabEntryContents>,
    opt_alloc: Function<OptAlloc>,
    opt_free: Function<OptFree>,
    opt_set_canonicalize: Function<OptSetCanonicalize>,
    get_init_creds_password: Function<GetInitCredsPassword>,
    free_cred_contents: Function<FreeCredContents>,
    verify_init_creds: Function<VerifyInitCreds>,
}

impl Krb5 {
    /// The library, loaded when it is first asked for.
    ///
    /// # Errors
    /// It is not on this machine; the error names the package.
    pub fn load() -> Result<&'static Self, ConfigError> {
        static LOADED: OnceLock<Result<Krb5, ConfigError>> = OnceLock::new();
        LOADED.get_or_init(Self::open).as_ref().map_err(Clone::clone)
    }

    fn open() -> Result<Self, ConfigError> {
        let library = Library::open("libkrb5.so.3", "libkrb5-3")?;
        // SAFETY: each type below is the function's prototype in the library's `krb5.h`, with pointers for
        // its handles.
        unsafe {
            Ok(Self {
                init_context: library.function("krb5_init_context")?,
                free_context: library.function("krb5_free_context")?,
                get_error_message: library.function("krb5_get_error_message")?,
                free_error_message: library.function("krb5_free_error_message")?,
                get_default_realm: library.function("krb5_get_default_realm")?,
                free_default_realm: library.function("krb5_free_default_realm")?,
                parse_name: library.function("krb5_parse_name")?,
                unparse_name: library.function("krb5_unparse_name")?,
                free_unparsed_name: library.function("krb5_free_unparsed_name")?,
                free_principal: library.function("krb5_free_principal")?,
                aname_to_localname: library.function("krb5_aname_to_localname")?,
                kt_default: library.function("krb5_kt_default")?,
                kt_resolve: library.function("krb5_kt_resolve")?,
                kt_close: library.function("krb5_kt_close")?,
                kt_have_content: library.function("krb5_kt_have_content")?,
                kt_get_entry: library.function("krb5_kt_get_entry")?,
                free_keytab_entry_contents: library.function("krb5_free_keytab_entry_contents")?,
                opt_alloc: library.function("krb5_get_init_creds_opt_alloc")?,
                opt_free: library.function("krb5_get_init_creds_opt_free")?,
                opt_set_canonicalize: library.function("krb5_get_init_creds_opt_set_canonicalize")?,
                get_init_creds_password: library.function("krb5_get_init_creds_password")?,
                free_cred_contents: library.function("krb5_free_cred_contents")?,
                verify_init_creds: library.function("krb5_verify_init_creds")?,
            })
        }
    }

    /// The realm of this machine.
    ///
    /// # Errors
    /// `krb5.conf` is missing or broken, or names none.
    pub fn default_realm(&'static self) -> Result<String, Krb5Error> {
        let context = self.context()?;
        let mut text = null_mut();
        // SAFETY: the context is live; the text is written.
        context.check(unsafe { (self.get_default_realm)(context.handle, &raw mut text) })?;
        // SAFETY: on success it is a text of the library's that ends with NUL; it is given back once, below.
        let realm = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
        // SAFETY: as said.
        unsafe { (self.free_default_realm)(context.handle, text) };
        Ok(realm)
    }

    /// The local account that `auth_to_local` in `krb5.conf` gives for a principal; `None` if it gives none.
    ///
    /// # Errors
    /// The principal cannot be read, or `krb5.conf`.
    pub fn local_name(&'static self, principal: &str) -> Result<Option<String>, Krb5Error> {
        /// No longer name is accepted of anybody.
        const LONGEST: usize = 256;
        let context = self.context()?;
        let principal = context.principal(principal)?;
        let mut name = [0; LONGEST];
        // SAFETY: both handles are live; the buffer is valid for writing as many bytes as are said.
        let code = unsafe {
            (self.aname_to_localname)(
                context.handle,
                principal.handle,
                LONGEST as c_int,
                name.as_mut_ptr().cast(),
            )
        };
        if code == NO_TRANSLATION {
            return Ok(None);
        }
        context.check(code)?;
        let name = CStr::from_bytes_until_nul(&name).ok().and_then(|name| name.to_str().ok());
        Ok(name.map(str::to_owned))
    }

    /// Whether the keytab can be read and holds a key: of `service`, or of anybody without one.
    ///
    /// # Errors
    /// It cannot, or does not.
    pub fn check_keytab(&'static self, keytab: Option<&str>, service: Option<&str>) -> Result<(), Krb5Error> {
        let context = self.context()?;
        let keytab = context.keytab(keytab)?;
        // SAFETY: both handles are live.
        context.check(unsafe { (self.kt_have_content)(context.handle, keytab.handle) })?;
        let Some(service) = service else { return Ok(()) };
        let service = context.principal(service)?;
        let mut entry = KeytabEntry::EMPTY;
        // SAFETY: the handles are live, zero stands for any version and kind of key, the entry is written.
        context.check(unsafe {
            (self.kt_get_entry)(context.handle, keytab.handle, service.handle, 0, 0, &raw mut entry)
        })?;
        // SAFETY: the call succeeded, so the entry holds what is now given back.
        unsafe { (self.free_keytab_entry_contents)(context.handle, &raw mut entry) };
        Ok(())
    }

    /// Asks the KDC for a ticket by password, and has it proved that it was the KDC: by a ticket for a
    /// service whose key is in our keytab, which nobody else can make (S-75, W23). Gives the principal in
    /// the KDC's spelling.
    ///
    /// # Errors
    /// The KDC refuses, is not there, or proves nothing.
    pub fn check_password(&'static self, login: &PasswordLogin) -> Result<String, Krb5Error> {
        let context = self.context()?;
        let keytab = context.keytab(login.keytab.as_deref())?;
        let service = login.service.as_deref().map(|name| context.principal(name)).transpose()?;
        let credentials = context.credentials(login)?;
        // Without a key it must fail; left to itself the library then takes the KDC's word.
        let mut strictly = VerifyOptions { flags: 1, ap_req_nofail: 1 };
        // SAFETY: the handles are live, or null for any service of the keytab; credentials and options live
        // until the call has returned; no cache is asked for.
        let proved = context.check(unsafe {
            (self.verify_init_creds)(
                context.handle,
                &raw const credentials.contents as *mut _,
                service.as_ref().map_or(null_mut(), |service| service.handle),
                keytab.handle,
                null_mut(),
                &raw mut strictly,
            )
        });
        // Its password may be right by the word of somebody else: nothing is decided by that.
        proved.map_err(|error| undecided(format!("the KDC does not prove itself: {error}")))?;
        context.text(credentials.contents.client)
    }

    fn context(&'static self) -> Result<Context, Krb5Error> {
        let mut handle = null_mut();
        // SAFETY: the handle is written.
        let code = unsafe { (self.init_context)(&raw mut handle) };
        let context = Context { library: self, handle };
        context.check(code).map(|()| context)
    }
}

/// A password to judge.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "all of it is needed")]
pub struct PasswordLogin {
    /// The principal as the library writes one.
    pub principal: String,
    /// What is tried.
    pub password: Secret,
    /// The keytab that the KDC has to prove itself by; the system's own if `None`.
    pub keytab: Option<String>,
    /// The service in that keytab; any if `None`.
    pub service: Option<String>,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Krb5Error {
    /// What it means for a login.
    pub kind: Krb5ErrorKind,
    words: String,
}

/// What an error of the library means for a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "each has to be acted on")]
pub enum Krb5ErrorKind {
    /// The KDC knows no such principal.
    Unknown,
    /// The principal may not log in: locked, expired, not yet valid, or its password has to be changed.
    Locked,
    /// The password is wrong.
    Wrong,
    /// Anything else: nothing was decided.
    Undecided,
}

/// The library's own words. They may repeat names.
impl fmt::Display for Krb5Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for Krb5Error {}

impl Krb5ErrorKind {
    /// The numbers of `krb5_err.et`, which are the interface's.
    fn of(code: c_int) -> Self {
        match code {
            // KRB5KDC_ERR_C_PRINCIPAL_UNKNOWN
            -1_765_328_378 => Self::Unknown,
            // KRB5KDC_ERR_NAME_EXP, _NEVER_VALID, _POLICY, _CLIENT_REVOKED, _CLIENT_NOTYET, _KEY_EXP
            -1_765_328_383 | -1_765_328_373 | -1_765_328_372 | -1_765_328_366 | -1_765_328_363
            | -1_765_328_361 => Self::Locked,
            // KRB5KDC_ERR_PREAUTH_FAILED, KRB5KRB_AP_ERR_BAD_INTEGRITY, KRB5_PREAUTH_FAILED
            -1_765_328_360 | -1_765_328_353 | -1_765_328_174 => Self::Wrong,
            _ => Self::Undecided,
        }
    }
}

/// A context of the library's, which no two threads share.
struct Context {
    library: &'static Krb5,
    handle: *mut c_void,
}

impl Context {
    fn check(&self, code: c_int) -> Result<(), Krb5Error> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: the context is live, or null, for which the library has words too.
        let text = unsafe { (self.library.get_error_message)(self.handle, code) };
        if text.is_null() {
            return Err(Krb5Error { kind: Krb5ErrorKind::of(code), words: format!("error {code}") });
        }
        // SAFETY: it is a text of the library's that ends with NUL; it is given back once, below.
        let words = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
        // SAFETY: as said.
        unsafe { (self.library.free_error_message)(self.handle, text) };
        Err(Krb5Error { kind: Krb5ErrorKind::of(code), words })
    }

    fn principal(&self, text: &str) -> Result<Principal<'_>, Krb5Error> {
        let text = c_string(text)?;
        let mut handle = null_mut();
        // SAFETY: the context is live; the text ends with NUL; the handle is written.
        let code = unsafe { (self.library.parse_name)(self.handle, text.as_ptr(), &raw mut handle) };
        self.check(code).map(|()| Principal { context: self, handle })
    }

    fn text(&self, principal: *mut c_void) -> Result<String, Krb5Error> {
        let mut text = null_mut();
        // SAFETY: both handles are live; the text is written.
        self.check(unsafe { (self.library.unparse_name)(self.handle, principal, &raw mut text) })?;
        // SAFETY: on success it is a text of the library's that ends with NUL; it is given back once, below.
        let name = unsafe { CStr::from_ptr(text) }.to_str().map(str::to_owned);
        // SAFETY: as said.
        unsafe { (self.library.free_unparsed_name)(self.handle, text) };
        name.map_err(|_| undecided("the principal is not UTF-8"))
    }

    fn keytab(&self, name: Option<&str>) -> Result<Keytab<'_>, Krb5Error> {
        let mut handle = null_mut();
        let code = match name {
            Some(name) => {
                let name = c_string(name)?;
                // SAFETY: the context is live; the name ends with NUL; the handle is written.
                unsafe { (self.library.kt_resolve)(self.handle, name.as_ptr(), &raw mut handle) }
            }
            // SAFETY: the context is live; the handle is written.
            None => unsafe { (self.library.kt_default)(self.handle, &raw mut handle) },
        };
        self.check(code).map(|()| Keytab { context: self, handle })
    }

    /// The ticket that a password gets. Nothing is proved by it yet.
    fn credentials(&self, login: &PasswordLogin) -> Result<Credentials<'_>, Krb5Error> {
        let principal = self.principal(&login.principal)?;
        let mut password = Zeroizing::new(login.password.expose().to_vec());
        if password.contains(&0) {
            return Err(undecided("a NUL byte in the password"));
        }
        password.push(0);
        let mut options = null_mut();
        // SAFETY: the context is live; the options are written.
        self.check(unsafe { (self.library.opt_alloc)(self.handle, &raw mut options) })?;
        let mut credentials = Credentials { context: self, contents: CredentialContents::EMPTY };
        // SAFETY: the options are live until they are given back, once, at the end; the handles are live;
        // the password ends with NUL and outlives the call; without a prompter nobody is asked, and an
        // expired password stays what it is; the credentials are written.
        let code = unsafe {
            // S-68: the principal comes back in the KDC's spelling.
            (self.library.opt_set_canonicalize)(options, 1);
            let code = (self.library.get_init_creds_password)(
                self.handle,
                &raw mut credentials.contents,
                principal.handle,
                password.as_ptr().cast(),
                null(),
                null_mut(),
                0,
                null(),
                options,
            );
            (self.library.opt_free)(self.handle, options);
            code
        };
        self.check(code).map(|()| credentials)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the handle is null, which is left alone, or the library's, and is given back once; whatever
        // was made with it borrows the context, so it is gone.
        unsafe {
            if !self.handle.is_null() {
                (self.library.free_context)(self.handle);
            }
        }
    }
}

/// A principal of the library's.
struct Principal<'a> {
    context: &'a Context,
    handle: *mut c_void,
}

impl Drop for Principal<'_> {
    fn drop(&mut self) {
        // SAFETY: the handle is the library's, and is given back once, before its context.
        unsafe { (self.context.library.free_principal)(self.context.handle, self.handle) };
    }
}

/// An open keytab.
struct Keytab<'a> {
    context: &'a Context,
    handle: *mut c_void,
}

impl Drop for Keytab<'_> {
    fn drop(&mut self) {
        // SAFETY: the handle is the library's, and is given back once, before its context.
        unsafe { (self.context.library.kt_close)(self.context.handle, self.handle) };
    }
}

/// A ticket, erased when it is dropped.
struct Credentials<'a> {
    context: &'a Context,
    contents: CredentialContents,
}

impl Drop for Credentials<'_> {
    fn drop(&mut self) {
        // SAFETY: the contents are empty or the library's, and are given back once, before their context.
        unsafe { (self.context.library.free_cred_contents)(self.context.handle, &raw mut self.contents) };
    }
}

fn c_string(text: &str) -> Result<CString, Krb5Error> {
    CString::new(text).map_err(|_| undecided("a NUL byte in a name"))
}

fn undecided(words: impl Into<String>) -> Krb5Error {
    Krb5Error { kind: Krb5ErrorKind::Undecided, words: words.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_075_a_keytab_that_is_absent_or_empty_is_an_error_in_the_librarys_words() {
        let library = Krb5::load().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let keytab = format!("FILE:{}/none", folder.path().display());
        let error = library.check_keytab(Some(&keytab), None).unwrap_err();
        assert!(error.to_string().contains("none"), "{error}");
        assert!(library.check_keytab(Some("MEMORY:countersign"), None).is_err());
        assert!(library.check_keytab(Some("NOSUCHKIND:x"), None).is_err());
        assert!(library.check_keytab(Some("a\0b"), None).is_err());
    }

    #[test]
    fn the_size_of_what_the_library_writes_into_is_that_of_its_header() {
        // `sizeof` of krb5_creds, krb5_keytab_entry and krb5_verify_init_creds_opt where pointers have 64 bits.
        if size_of::<usize>() == 8 {
            let sizes =
                (size_of::<CredentialContents>(), size_of::<KeytabEntry>(), size_of::<VerifyOptions>());
            assert_eq!(sizes, (120, 48, 8));
        }
    }
}
