//! `kerberos-password`, `kerberos-ticket` and `gss`: who a KDC says somebody is.
//!
//! | file | holds |
//! |---|---|
//! | `password.rs` | a password that the KDC judges, and how the KDC proves itself |
//! | `ticket.rs` | a ticket for our service, with its rounds |
//! | `principal.rs` | from principals to names |

mod password;
mod principal;
mod ticket;

use std::time::Duration;

pub(super) use self::{
    password::KerberosPassword,
    ticket::{Gss, KerberosTicket},
};
use super::{OptionSpec, Options};
use crate::{
    Refusal,
    error::ConfigError,
    needs::{self, Need},
    proto::{error::Reason, mechanism::ticket::Service},
    sys::{
        detached::{Detached, Lost},
        files,
    },
};

/// What the library does for one module, with its deadline.
#[derive(Debug)]
struct Calls {
    detached: Detached,
    timeout: Duration,
}

impl Calls {
    fn configure(options: &mut Options) -> Result<Self, ConfigError> {
        let timeout = options.duration("timeout", Duration::from_secs(10))?;
        if timeout.is_zero() || timeout > Duration::from_secs(60) {
            let fix = "write a length of time up to a minute, as timeout=5s";
            return Err(options.error("timeout", "a check must end", fix));
        }
        Ok(Self { detached: Detached::new(AT_ONCE), timeout })
    }

    /// Makes a call that may wait for the KDC (S-81).
    fn run<T: Send + 'static>(&self, call: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
        self.detached.run(self.timeout, call).map_err(|lost| match lost {
            Lost::Full => Refusal::new(Reason::Busy, "as many questions to Kerberos wait as may"),
            Lost::Late => Refusal::module_failed("Kerberos gives no answer in time"),
            Lost::Crashed => Refusal::new(Reason::ModulePanicked, "the call of Kerberos crashed"),
        })
    }
}

/// Beside what its options name: what variables of the environment name, as the library reads them, and where it keeps
/// which tickets it has seen (`KRB5RCACHEDIR`, `TMPDIR`, `/var/tmp`).
fn needs(known: &[OptionSpec], options: &Options) -> Vec<Need> {
    let path = |text: &str| {
        text.split_once(':')
            .map_or(text, |(kind, path)| if kind.starts_with('/') { kind } else { path })
            .to_owned()
    };
    let variable = |name: &&str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let read = ["KRB5_CONFIG", "KRB5_KTNAME", "KRB5CCNAME"].iter().filter_map(variable);
    let read = read.chain(options.written("keytab").map(str::to_owned));
    let write = ["KRB5RCACHEDIR", "TMPDIR"].iter().filter_map(variable).chain(["/var/tmp".to_owned()]);
    let mut all = needs::of_files(known, options);
    all.extend(read.map(|text| Need::Read(needs::place_of(&path(&text)))));
    all.extend(write.map(|text| Need::Write(text.into())));
    all
}

/// Takes the option `keytab`: a file that only its owner may read, since whoever has a key of it can make
/// tickets for it (S-61), or what the library knows besides files, as `KIND:...`.
fn keytab(options: &mut Options) -> Result<Option<String>, ConfigError> {
    let insecure = options.flag("insecure", false)?;
    let Some(keytab) = options.take("keytab")? else { return Ok(None) };
    let path = keytab.strip_prefix("FILE:").unwrap_or(&keytab);
    if !path.contains(':') {
        files::open_private(path.as_ref(), insecure)
            .map_err(|fault| options.error("keytab", fault.to_string(), fault.fix()))?;
    }
    Ok(Some(keytab.to_string()))
}

/// Takes the option `service`.
fn service(options: &mut Options) -> Result<Option<Service>, ConfigError> {
    let Some(service) = options.take("service")? else { return Ok(None) };
    Service::parse(&service).map(Some).map_err(|why| {
        options.error("service", why, "write service=NAME/HOST, as service=countersign/gate.example")
    })
}

/// Calls for one module at one time, those that a silent KDC keeps included.
const AT_ONCE: usize = 64;

const KEYTAB: OptionSpec = OptionSpec::new(
    "keytab",
    "FILE",
    "",
    "the keys of the service; the system's own keytab, as krb5.conf has it, unless it is written",
);
const INSECURE: OptionSpec =
    OptionSpec::new("insecure", "yes|no", "no", "use the file even if others can read or replace it");
const TIMEOUT: OptionSpec = OptionSpec::new("timeout", "TIME", "10s", "how long Kerberos may take");
