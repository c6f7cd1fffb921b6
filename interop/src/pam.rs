//! Service files for libpam, local accounts with passwords, and modules of PAM that misbehave.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{
    Place,
    account::Account,
    process::{must, run_with_input},
};

/// Service files in a folder of their own, which libpam reads when it is told to.
#[derive(Debug)]
pub struct Services {
    place: Place,
}

impl Services {
    /// An empty folder, but for the service `other`, which refuses everybody.
    #[must_use]
    pub fn new() -> Self {
        let place = Place::new();
        place.open_to_all();
        place.file_with_mode("other", "auth required pam_deny.so\naccount required pam_deny.so\n", 0o644);
        Self { place }
    }

    /// Writes a service and returns the module as it stands in a chain, with more options if there are any.
    #[must_use]
    pub fn chain(&self, service: &str, rules: &str, options: &str) -> String {
        self.place.file_with_mode(service, rules, 0o644);
        format!("pam(service={service},confdir={}{options})", self.place.text(""))
    }

    /// The folder, which other files of a service may lie in.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The environment of a program that knows nothing of another folder for these files: the PAM wrapper has its libpam
    /// read this one.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let [folder, wrapper] = [self.place.path(""), wrapper("libpam_wrapper.so")];
        let text = |path: PathBuf| path.to_str().expect("a UTF-8 path").trim_end_matches('/').to_owned();
        vec![
            ("PAM_WRAPPER", "1".to_owned()),
            ("PAM_WRAPPER_SERVICE_DIR", text(folder)),
            ("LD_PRELOAD", text(wrapper)),
        ]
    }

    /// Compiles a module of PAM from C and returns its path. The compiler is the one that links Rust.
    #[must_use]
    pub fn module(&self, name: &str, source: &str) -> String {
        let (source, object) =
            (self.place.file(&format!("{name}.c"), source), self.place.text(&format!("{name}.so")));
        must(Command::new("cc").args(["-shared", "-fPIC", "-o", &object, &source]));
        object
    }
}

impl Default for Services {
    fn default() -> Self {
        Self::new()
    }
}

/// A service of the system's own, in `/etc/pam.d`, under a name that nobody else has; removed with the value.
#[derive(Debug)]
pub struct SystemService {
    /// Its name.
    pub name: String,
}

impl SystemService {
    /// Writes the service. Only root can.
    #[must_use]
    pub fn write(rules: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("cst{}x{}", process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        fs::write(Path::new("/etc/pam.d").join(&name), rules).expect("root writes a service of PAM");
        Self { name }
    }
}

impl Drop for SystemService {
    fn drop(&mut self) {
        let _ = fs::remove_file(Path::new("/etc/pam.d").join(&self.name));
    }
}

/// A local account with this password. `None`, and said in words, where we are not root.
#[must_use]
pub fn account(password: &str) -> Option<Account> {
    let account = Account::create()?;
    let line = format!("{}:{password}\n", account.name);
    run_with_input(&mut Command::new("chpasswd"), line.as_bytes()).expect_success();
    Some(account)
}

/// `pam_matrix.so` of the PAM wrapper: names and passwords in a text file, for logins without root.
#[must_use]
pub fn matrix() -> String {
    wrapper("pam_wrapper/pam_matrix.so").to_str().expect("a UTF-8 path").to_owned()
}

/// A library of the PAM wrapper, which lies in another folder on each architecture.
fn wrapper(name: &str) -> PathBuf {
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let found = folders.map(|folder| folder.path().join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is not installed: `cargo xtask deps`"))
}
