//! The modules a gateway can check with: one file each, and the registry.
//!
//! To add one, write its file and add its two lines here (`CONTRIBUTING.md`). The tests below walk
//! the registry, so a new entry is tested by being listed.
#![forbid(unsafe_code)]

mod allow;
mod capability;
mod certificate;
mod context;
mod env;
#[cfg(unix)]
mod exec;
mod fail;
mod fido2;
mod file;
#[cfg(unix)]
mod hosts;
mod http_header;
#[cfg(unix)]
mod kerberos;
mod ldap;
#[cfg(test)]
mod login;
mod multifile;
pub(crate) mod network;
mod none;
mod oauth;
mod otp;
#[cfg(unix)]
mod pam;
mod password;
#[cfg(unix)]
mod peercred;
#[cfg(unix)]
mod places;
mod proxy;
mod ratelimit;
mod reject;
mod scram;
mod secret_file;
mod security_key;
mod sql;
mod sqlite;
mod ssh_key;
pub mod trial;
mod u2f;
mod win32;

pub use crate::options::{OptionSpec, Options};
pub use certificate::NAME as CERTIFICATE;
pub use context::Context;
#[cfg(unix)]
pub use pam::run_worker;

use crate::{
    Username, Verifier,
    error::ConfigError,
    needs::{self, Need},
    proto::chain::{Account, Link},
};

/// An entry of the registry: what it is, what options it has, and how it is made.
pub trait Module: Sync {
    /// The name to write in `auth=NAME`, in lower case.
    fn name(&self) -> &'static str;

    /// Other names that are read for it: those of Xpra's pages and versions.
    fn aliases(&self) -> &'static [&'static str] {
        &[]
    }

    /// What it checks with, in one line without a full stop.
    fn summary(&self) -> &'static str;

    /// Its own options; those that every module has are [`COMMON_OPTIONS`].
    fn options(&self) -> &'static [OptionSpec] {
        &[]
    }

    /// The manual: a paragraph or a few, about what it proves, what it does not, and its traps.
    fn manual(&self) -> &'static str;

    /// A complete `auth=` value that works after its names are replaced.
    fn example(&self) -> &'static str;

    /// Which name it is given where neither option nor client says otherwise, and whether it looks
    /// at the name at all.
    fn uses_username(&self) -> bool {
        false
    }

    /// What a person is asked for where the option `prompt` does not say; `None` for the common words.
    fn prompt(&self) -> Option<&'static str> {
        None
    }

    /// Whether it needs the state directory, which is opened at start then: what it learns at one login
    /// counts at the next, also after a restart.
    fn keeps_state(&self) -> bool {
        false
    }

    /// What it opens or starts while the gateway runs, for the sandbox. Options whose values are files or directories
    /// are taken for what they say; a module that needs more says so.
    fn needs(&self, options: &Options) -> Vec<Need> {
        needs::of_files(self.options(), options)
    }

    /// Makes the verifier, once, at start. Everything that can be checked then is.
    ///
    /// # Errors
    /// An option that is wrong, or a thing (file, library, program) that is missing.
    fn configure(&self, options: &mut Options, context: &Context) -> Result<Verifier, ConfigError>;
}

/// The modules that can be named in a chain.
#[derive(Clone)]
pub struct Registry {
    modules: Vec<&'static dyn Module>,
}

impl Registry {
    /// The modules of this crate.
    pub fn builtin() -> Self {
        Self { modules: MODULES.to_vec() }
    }

    /// The same registry with one more. It takes the place of a builtin of the same name.
    #[must_use]
    pub fn with(mut self, module: &'static dyn Module) -> Self {
        self.modules.retain(|other| other.name() != module.name());
        self.modules.insert(0, module);
        self
    }

    /// The modules in the order of their names.
    pub fn modules(&self) -> impl Iterator<Item = &'static dyn Module> {
        self.modules.iter().copied()
    }

    /// The module of that name or alias. Case and the choice between `-` and `_` do not matter.
    ///
    /// # Errors
    /// There is none; the error names the nearest one.
    pub fn find(&self, name: &str) -> Result<&'static dyn Module, ConfigError> {
        let wanted = name.trim().to_ascii_lowercase().replace('_', "-");
        let mut modules = self.modules.iter();
        let is = |module: &&&dyn Module| module.name() == wanted || module.aliases().contains(&&*wanted);
        modules.find(is).copied().ok_or_else(|| {
            let names: Vec<&str> = self.modules.iter().map(|module| module.name()).collect();
            ConfigError::unknown("the modules", &wanted, names)
        })
    }

    /// Makes a link of a chain: finds the module, configures it, and judges what is left over.
    ///
    /// # Errors
    /// An unknown module or option, or what the module itself finds wrong.
    pub fn link(&self, mut options: Options, context: &Context) -> Result<Link, ConfigError> {
        let module = self.find(options.module())?;
        let prompt = options.take("prompt")?.map(|prompt| prompt.to_string());
        let prompt = prompt.or_else(|| module.prompt().map(str::to_owned));
        let account = account(&mut options)?;
        let verifier = module.configure(&mut options, context)?;
        let known: Vec<&str> =
            module.options().iter().chain(COMMON_OPTIONS).map(|option| option.name).collect();
        options.finish(&known)?;
        Ok(Link::new(module.name(), verifier).with_account(account).with_prompt(prompt))
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.modules.iter().map(|module| module.name())).finish()
    }
}

/// The options `username`, `client-username` and `verify-username` (`docs/protocol/xpra.md`).
fn account(options: &mut Options) -> Result<Account, ConfigError> {
    let name = options.take("username")?;
    let from_client = options.flag("client-username", name.is_none())?;
    let verify = options.flag("verify-username", false)?;
    match name {
        Some(name) if !from_client => {
            let name = Username::parse(&name)
                .map_err(|refusal| options.error("username", refusal.cause, "write another name"))?;
            Ok(Account::Fixed { name, verify })
        }
        Some(_) => Err(options.error(
            "username",
            "client-username=yes leaves it without use",
            "leave one of the two out",
        )),
        None if verify || !from_client => {
            Err(options.error("username", "it is missing", "write the name to check against: username=NAME"))
        }
        None => Ok(Account::Claimed),
    }
}

/// The options that every module has.
pub const COMMON_OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("prompt", "TEXT", "password", "what a person is asked for; {username} is replaced"),
    OptionSpec::new("username", "NAME", "", "the account to check, whatever name the client claims"),
    OptionSpec::new("client-username", "yes|no", "yes", "check the name that the client claims"),
    OptionSpec::new(
        "verify-username",
        "yes|no",
        "no",
        "refuse a client that claims another name than username",
    ),
];

/// All builtin modules, sorted by name.
const MODULES: &[&dyn Module] = &[
    // One line each, so that a new entry is one line of a change.
    &allow::Allow,
    &capability::Capability,
    &certificate::Certificate,
    &env::Env,
    #[cfg(unix)]
    &exec::Exec,
    &fail::Fail,
    &fido2::Fido2,
    &file::File,
    #[cfg(unix)]
    &kerberos::Gss,
    #[cfg(unix)]
    &hosts::Hosts,
    &http_header::HttpHeader,
    #[cfg(unix)]
    &kerberos::KerberosPassword,
    #[cfg(unix)]
    &kerberos::KerberosTicket,
    &ldap::Ldap,
    &multifile::Multifile,
    &none::None,
    &oauth::OAuth,
    &otp::Otp,
    #[cfg(unix)]
    &pam::Pam,
    &password::Password,
    #[cfg(unix)]
    &peercred::PeerCred,
    &ratelimit::RateLimit,
    &reject::Reject,
    &scram::Scram,
    &sql::Sql,
    &sqlite::Sqlite,
    &ssh_key::SshKey,
    &u2f::U2f,
    &win32::Win32,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_is_sorted_unique_and_named_as_it_is_written() {
        let names: Vec<&str> = MODULES.iter().map(|module| module.name()).collect();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
        let all: Vec<&str> =
            MODULES.iter().flat_map(|m| m.aliases().iter().copied().chain([m.name()])).collect();
        for name in &all {
            assert_eq!(all.iter().filter(|other| other == &name).count(), 1, "{name}");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{name}");
            assert!(Registry::builtin().find(&name.to_ascii_uppercase().replace('-', "_")).is_ok());
        }
    }

    #[test]
    fn every_module_explains_itself_and_each_of_its_options() {
        for module in MODULES {
            let name = module.name();
            assert!(!module.summary().is_empty() && !module.summary().ends_with('.'), "{name}");
            assert!(module.manual().len() > 80, "{name}");
            assert!(module.example().starts_with(name), "{name}");
            for option in module.options().iter().chain(COMMON_OPTIONS) {
                assert!(!option.help.is_empty() && !option.help.ends_with('.'), "{name} {}", option.name);
                assert!(!option.value.is_empty(), "{name} {}", option.name);
            }
        }
    }

    #[test]
    fn s_065_unknown_modules_and_options_are_errors_with_the_nearest_right_name() {
        let error = Registry::builtin().find("alow").err().unwrap();
        assert_eq!(
            (error.to_string().as_str(), error.fix()),
            ("the modules: there is no `alow`", "did you mean `allow`?")
        );
        for module in MODULES {
            let wrong = Options::new(module.name(), [("promt".to_owned(), "secret-value".to_owned())]);
            let error = Registry::builtin().link(wrong, &Context::default()).err().unwrap();
            assert!(!error.to_string().contains("secret-value"));
        }
    }

    #[test]
    fn a_name_to_check_against_is_fixed_or_claimed_never_both() {
        let link = |values: &[(&str, &str)]| {
            let values = values.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            Registry::builtin().link(Options::new("none", values), &Context::default())
        };
        assert_eq!(link(&[]).unwrap().account, Account::Claimed);
        let fixed = link(&[("username", "app"), ("verify-username", "yes")]).unwrap().account;
        assert!(matches!(fixed, Account::Fixed { verify: true, .. }));
        assert!(link(&[("username", "app"), ("client-username", "yes")]).is_err());
        assert!(link(&[("verify-username", "yes")]).is_err());
        assert!(link(&[("client-username", "no")]).is_err());
    }
}
