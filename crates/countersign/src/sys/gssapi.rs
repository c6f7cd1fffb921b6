//! GSSAPI (RFC 2743, 2744) of MIT Kerberos: proving oneself by a ticket, and taking such a proof.
//!
//! Called by the modules `kerberos-ticket` and `gss` and by the client's handlers of those. It speaks the
//! mechanism of Kerberos only. Every call may wait: for the KDC, for names of hosts, for files.
//! What the library declares is in `interface.rs`.
#![allow(unsafe_code)]

use std::{
    ffi::{CString, c_int, c_void},
    fmt,
    ptr::{self, null_mut},
    sync::OnceLock,
};

mod interface;

use self::interface::*;
use super::library::{Function, Library};
use crate::error::ConfigError;

/// The library, with the functions that are used of it.
#[derive(Debug)]
pub struct Gssapi {
    import_name: Function<ImportName>,
    release_name: Function<ReleaseName>,
    display_name: Function<DisplayName>,
    acquire_cred_from: Function<AcquireCredFrom>,
    release_cred: Function<ReleaseCred>,
    init_sec_context: Function<InitSecContext>,
    accept_sec_context: Function<AcceptSecContext>,
    delete_sec_context: Function<DeleteSecContext>,
    release_buffer: Function<ReleaseBuffer>,
    display_status: Function<DisplayStatus>,
}

impl Gssapi {
    /// The library, loaded when it is first asked for.
    ///
    /// # Errors
    /// It is not on this machine; the error names the package.
    pub fn load() -> Result<&'static Self, ConfigError> {
        static LOADED: OnceLock<Result<Gssapi, ConfigError>> = OnceLock::new();
        LOADED.get_or_init(Self::open).as_ref().map_err(Clone::clone)
    }

    fn open() -> Result<Self, ConfigError> {
        let library = Library::open("libgssapi_krb5.so.2", "libgssapi-krb5-2")?;
        // SAFETY: each type below is the function's prototype in the library's `gssapi.h` and
        // `gssapi_ext.h`, with pointers for its handles.
        unsafe {
            Ok(Self {
                import_name: library.function("gss_import_name")?,
                release_name: library.function("gss_release_name")?,
                display_name: library.function("gss_display_name")?,
                acquire_cred_from: library.function("gss_acquire_cred_from")?,
                release_cred: library.function("gss_release_cred")?,
                init_sec_context: library.function("gss_init_sec_context")?,
                accept_sec_context: library.function("gss_accept_sec_context")?,
                delete_sec_context: library.function("gss_delete_sec_context")?,
                release_buffer: library.function("gss_release_buffer")?,
                display_status: library.function("gss_display_status")?,
            })
        }
    }

    /// The keys of the service `name@host` and of no other (S-75), from `keytab` or the system's own.
    ///
    /// # Errors
    /// The keytab cannot be read, or holds no key of that service.
    pub fn acceptor(
        &'static self,
        name: &str,
        host: &str,
        keytab: Option<&str>,
    ) -> Result<Acceptor, GssError> {
        let service = self.name(&format!("{name}@{host}"), &HOSTBASED_SERVICE)?;
        // The replay cache is named, so that no variable of the environment switches it off.
        let mut store = vec![(c"rcache", c_string("dfl:")?)];
        if let Some(keytab) = keytab {
            store.push((c"keytab", c_string(keytab)?));
        }
        let elements: Vec<KeyValue> =
            store.iter().map(|(key, value)| KeyValue { key: key.as_ptr(), value: value.as_ptr() }).collect();
        let store_set = KeyValueSet {
            count: u32::try_from(elements.len()).unwrap_or_default(),
            elements: elements.as_ptr(),
        };
        let mechanisms = OidSet { count: 1, elements: &raw const KERBEROS };
        let mut handle = null_mut();
        let mut minor = 0;
        // SAFETY: the name is a live handle of this library; the store and what it points to, and the set
        // of mechanisms, live until the call has returned, which copies what it keeps; the handle is
        // written; what is asked for as null is left out by the interface.
        let major = unsafe {
            (self.acquire_cred_from)(
                &raw mut minor,
                service.handle,
                INDEFINITE,
                &raw const mechanisms,
                ACCEPT,
                &raw const store_set,
                &raw mut handle,
                null_mut(),
                null_mut(),
            )
        };
        let acceptor = Acceptor { library: self, handle };
        self.check(major, minor).map(|_| acceptor)
    }

    /// A client that will prove itself to the service `name/host`, by the tickets of whoever runs this.
    ///
    /// # Errors
    /// The name is none.
    pub fn initiator(
        &'static self,
        name: &str,
        host: &str,
        binding: Option<&[u8]>,
    ) -> Result<Initiator, GssError> {
        // As a principal, so that no name server says which host is meant; the realm is left open.
        let service = self.name(&format!("{name}/{host}@"), &KERBEROS_PRINCIPAL)?;
        let binding = binding.map(<[u8]>::to_vec);
        Ok(Initiator { library: self, service, handle: null_mut(), binding })
    }

    fn name(&'static self, text: &str, kind: &'static Oid) -> Result<Name, GssError> {
        let mut buffer = Buffer::lent(text.as_bytes());
        let mut handle = null_mut();
        let mut minor = 0;
        // SAFETY: the buffer is only read and lives until the call has returned; the kind is a constant;
        // the handle is written.
        let major = unsafe { (self.import_name)(&raw mut minor, &raw mut buffer, kind, &raw mut handle) };
        let name = Name { library: self, handle };
        self.check(major, minor).map(|_| name)
    }

    /// The text that the library made, which it then takes back.
    fn take(&self, mut buffer: Buffer) -> Vec<u8> {
        let bytes = if buffer.value.is_null() {
            Vec::new()
        } else {
            // SAFETY: the library filled the buffer: it points to `length` bytes until it is released.
            unsafe { std::slice::from_raw_parts(buffer.value.cast::<u8>(), buffer.length) }.to_vec()
        };
        let mut minor = 0;
        // SAFETY: the buffer is empty or the library's own, and is given back once.
        unsafe { (self.release_buffer)(&raw mut minor, &raw mut buffer) };
        bytes
    }

    /// Whether more is to come, unless the call failed.
    fn check(&self, major: u32, minor: u32) -> Result<bool, GssError> {
        if major & ERRORS == 0 {
            return Ok(major & CONTINUE_NEEDED != 0);
        }
        let (general, special) = (self.words(major, 1), self.words(minor, 2));
        // Where Kerberos has nothing to add, it adds that.
        let is_empty = minor == 0 || special.is_empty() || special == "Success";
        let words = if is_empty { general } else { special };
        Err(GssError { major: major & ERRORS, words })
    }

    /// The library's words for a status; the first sentence where it has several.
    fn words(&self, status: u32, kind: c_int) -> String {
        let (mut minor, mut more) = (0, 0);
        let mut buffer = Buffer::EMPTY;
        // SAFETY: both numbers and the buffer are written; the mechanism is a constant that is only read.
        unsafe {
            (self.display_status)(
                &raw mut minor,
                status,
                kind,
                &raw const KERBEROS,
                &raw mut more,
                &raw mut buffer,
            )
        };
        String::from_utf8_lossy(&self.take(buffer)).into_owned()
    }
}

/// The keys of one service.
#[derive(Debug)]
pub struct Acceptor {
    library: &'static Gssapi,
    handle: *mut c_void,
}

impl Acceptor {
    /// Judges the token of a client, on a wire that has this channel binding.
    ///
    /// A token that was seen before, that is for another service, that is bound to another channel, or
    /// that is out of its time is refused (RFC 4121 4.1.1). One that is bound to no channel is taken;
    /// [`Accepted::bound`] tells.
    ///
    /// # Errors
    /// The token does not prove anybody, or the mechanism wants more rounds.
    pub fn accept(&self, token: &[u8], binding: Option<&[u8]>) -> Result<Accepted, GssError> {
        let library = self.library;
        let mut context = Context { library, handle: null_mut() };
        let mut client = Name { library, handle: null_mut() };
        let mut token = Buffer::lent(token);
        let mut bindings = binding.map(ChannelBindings::of);
        let bindings = bindings.as_mut().map_or(null_mut(), ptr::from_mut);
        let (mut reply, mut minor, mut flags) = (Buffer::EMPTY, 0, 0);
        // SAFETY: the handles are null or this library's; token and bindings, with what they point to,
        // live until the call has returned; the others are written; null leaves out what is not wanted,
        // the client's delegated credentials first of all.
        let major = unsafe {
            (library.accept_sec_context)(
                &raw mut minor,
                &raw mut context.handle,
                self.handle,
                &raw mut token,
                bindings,
                &raw mut client.handle,
                null_mut(),
                &raw mut reply,
                &raw mut flags,
                null_mut(),
                null_mut(),
            )
        };
        let reply = library.take(reply);
        let incomplete = library.check(major, minor)?;
        if incomplete || client.handle.is_null() || flags & ANONYMOUS != 0 {
            return Err(GssError {
                major: DEFECTIVE_TOKEN,
                words: "the token names nobody by itself".to_owned(),
            });
        }
        Ok(Accepted { principal: client.text()?, reply, bound: flags & CHANNEL_BOUND != 0 })
    }
}

/// A client whose token proved who it is.
#[derive(Debug)]
#[non_exhaustive]
pub struct Accepted {
    /// The principal, with its realm, as the library writes it.
    pub principal: String,
    /// What proves the service to the client in turn; empty if it did not ask for that.
    pub reply: Vec<u8>,
    /// Whether the token is bound to the channel that was given.
    pub bound: bool,
}

/// A client's end of the rounds.
#[derive(Debug)]
pub struct Initiator {
    library: &'static Gssapi,
    service: Name,
    handle: *mut c_void,
    binding: Option<Vec<u8>>,
}

impl Initiator {
    /// The first token, or with the service's `reply` the end: the service has proved itself then.
    ///
    /// # Errors
    /// There is no ticket and none can be had, or the reply proves nothing.
    pub fn step(&mut self, reply: Option<&[u8]>) -> Result<Step, GssError> {
        let library = self.library;
        let mut reply = reply.map(Buffer::lent);
        let reply = reply.as_mut().map_or(null_mut(), ptr::from_mut);
        let mut bindings = self.binding.as_deref().map(ChannelBindings::of);
        let bindings = bindings.as_mut().map_or(null_mut(), ptr::from_mut);
        let (mut token, mut minor, mut flags) = (Buffer::EMPTY, 0, 0);
        // SAFETY: the context is null or the one of the call before; the name is live; reply and bindings,
        // with what they point to, live until the call has returned; the others are written; a null
        // credential is the default one, and null leaves out what is not wanted.
        let major = unsafe {
            (library.init_sec_context)(
                &raw mut minor,
                null_mut(),
                &raw mut self.handle,
                self.service.handle,
                &raw const KERBEROS,
                MUTUAL | REPLAY | SEQUENCE,
                0,
                bindings,
                reply,
                null_mut(),
                &raw mut token,
                &raw mut flags,
                null_mut(),
            )
        };
        let token = library.take(token);
        if library.check(major, minor)? {
            return Ok(Step::Send(token));
        }
        // RFC 2743 1.2.1.1: whether it was mutual is known when the context is complete.
        match flags & MUTUAL {
            0 => {
                Err(GssError { major: DEFECTIVE_TOKEN, words: "the service did not prove itself".to_owned() })
            }
            _ => Ok(Step::Proved),
        }
    }
}

/// What follows a step of an [`Initiator`].
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "each has to be acted on")]
pub enum Step {
    /// This goes to the service, which then has to prove itself.
    Send(Vec<u8>),
    /// The service proved itself.
    Proved,
}

// SAFETY: the library may be called for one handle from any thread, one at a time (MIT's documentation,
// thread safety); these are never shared.
unsafe impl Send for Initiator {}

impl Drop for Initiator {
    fn drop(&mut self) {
        drop(Context { library: self.library, handle: self.handle });
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        let mut minor = 0;
        // SAFETY: the handle is null or this library's, and is given back once.
        unsafe { (self.library.release_cred)(&raw mut minor, &raw mut self.handle) };
    }
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GssError {
    major: u32,
    words: String,
}

impl GssError {
    /// Whether the token is bound to another channel than the one it came on.
    pub fn is_of_another_channel(&self) -> bool {
        self.major == BAD_BINDINGS
    }
}

/// The library's own words. They may repeat names.
impl fmt::Display for GssError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for GssError {}

/// A name of the library's, given back with the value.
#[derive(Debug)]
struct Name {
    library: &'static Gssapi,
    handle: *mut c_void,
}

impl Name {
    fn text(&self) -> Result<String, GssError> {
        let mut buffer = Buffer::EMPTY;
        let mut minor = 0;
        // SAFETY: the name is live; the buffer is written; its type is not asked for.
        let major =
            unsafe { (self.library.display_name)(&raw mut minor, self.handle, &raw mut buffer, null_mut()) };
        let text = self.library.take(buffer);
        self.library.check(major, minor)?;
        let odd = |_| GssError { major: DEFECTIVE_TOKEN, words: "the principal is not UTF-8".to_owned() };
        String::from_utf8(text).map_err(odd)
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let mut minor = 0;
        // SAFETY: the handle is null or this library's, and is given back once.
        unsafe { (self.library.release_name)(&raw mut minor, &raw mut self.handle) };
    }
}

/// A context of the library's, ended with the value.
struct Context {
    library: &'static Gssapi,
    handle: *mut c_void,
}

impl Drop for Context {
    fn drop(&mut self) {
        let mut minor = 0;
        // SAFETY: the handle is null or this library's, and is ended once; no token is asked for.
        unsafe { (self.library.delete_sec_context)(&raw mut minor, &raw mut self.handle, null_mut()) };
    }
}

fn c_string(text: &str) -> Result<CString, GssError> {
    let odd = |_| GssError { major: DEFECTIVE_TOKEN, words: "a NUL byte in a name".to_owned() };
    CString::new(text).map_err(odd)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library() -> &'static Gssapi {
        Gssapi::load().unwrap()
    }

    #[test]
    fn s_075_a_keytab_that_is_absent_is_an_error_in_the_librarys_words() {
        let folder = tempfile::tempdir().unwrap();
        let keytab = format!("FILE:{}/none", folder.path().display());
        let error = library().acceptor("countersign", "localhost", Some(&keytab)).unwrap_err();
        assert!(error.to_string().contains("none"), "{error}");
        assert!(library().acceptor("countersign", "localhost", Some("a\0b")).is_err());
    }

    #[test]
    fn without_a_ticket_there_is_no_token_and_noise_is_no_reply() {
        // Whoever runs this may have tickets, but none for a host that does not exist.
        let host = "no-such-host.invalid";
        assert!(library().initiator("countersign", host, Some(b"binding")).unwrap().step(None).is_err());
        let mut initiator = library().initiator("countersign", host, None).unwrap();
        assert!(initiator.step(Some(b"noise")).is_err());
    }
}
