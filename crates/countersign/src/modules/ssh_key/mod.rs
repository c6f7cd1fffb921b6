//! `ssh-key`: users' keys of OpenSSH, by `authorized_keys` and certificates.

mod authorized;
mod certificate;
mod key;
mod sources;

use std::{io::Read as _, path::PathBuf, sync::Arc};

use authorized::{Line, LineOptions};
use certificate::Certificate;
use key::{Presence, PublicKey};

use super::{Context, Module, OptionSpec, Options};
use crate::{
    Claim, ConfigError, Identity, Peer, Refusal, Username, Verifier,
    proto::{
        chain::{Answer, Ask, Exchange, OpenExchange, Verdict},
        error::Reason,
        mechanism::ssh_key::{IN_SSH, Login, NO_MORE, Signed},
    },
    sys::{accounts::Account, clock, files},
};

pub(super) struct SshKey;

impl Module for SshKey {
    fn name(&self) -> &'static str {
        "ssh-key"
    }

    fn summary(&self) -> &'static str {
        "users' SSH keys, by authorized_keys and certificates"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn manual(&self) -> &'static str {
        "The client signs the login with a key that its ssh-agent or ssh-keygen holds: Ed25519, ECDSA, RSA (with SHA-2, \
         2048 bits and more), and keys on security devices. The signature is bound to the TLS session where there is one \
         of TLS 1.3, else to both ends' salts, and is of a kind that can never log in at SSH. Which keys are accepted is \
         not told: a client may try six. On a socket of SSH it is the login's own signature; what a security key says of \
         a touch is not read there.\n\n\
         The file is an authorized_keys file of sshd. %u in its name stands for the user's name, %h for the home \
         directory of the account of that name, %% for a percent sign; then the key proves that name. A file without \
         either is for everybody who has a key in it, and names nobody but by certificates. Read at each login, it must \
         belong to root, to the gateway's user or, with %h, to that account, and nobody else may write to it or its \
         directory.\n\n\
         Options in front of a key: from= (addresses, networks, patterns, !; names of hosts never match), expiry-time=, \
         cert-authority, principals=, no-touch-required, verify-required, and those about forwarding and terminals, \
         which are kept by having neither. A line with any other option (command= is one) is refused: what it restricts \
         could not be kept. Certificates must be for users, valid now, signed by an authority of the file, and name \
         the user, or one of principals=; source-address and verify-required are honoured, any other critical option \
         is refused.\n\n\
         Where username= is given, the client has to log in under that name."
    }

    fn example(&self) -> &'static str {
        "ssh-key(filename=/etc/countersign/keys/%u)"
    }

    fn uses_username(&self) -> bool {
        true
    }

    fn configure(&self, options: &mut Options, _: &Context) -> Result<Verifier, ConfigError> {
        let file = Template(options.required("filename")?.to_string());
        let require_binding = options.choice("channel-binding", ["prefer", "require"])? == "require";
        let fault = |why: String, fix: String| options.error("filename", why, fix);
        if !file.0.starts_with(['/', '%']) || file.expand("x", Some("/x".into())).is_none() {
            let fix = "write an absolute path, with %u, %h or %% as the only signs of that kind";
            return Err(fault("it is no path that can be filled in".to_owned(), fix.to_owned()));
        }
        if !file.is_of_one_user() {
            // One that is there at start is judged at start.
            let path = file.expand("", None).unwrap_or_default();
            let content = read(&path, None).map_err(|fault_| fault(fault_.to_string(), fault_.fix()))?;
            lines(&content);
        }
        Ok(Verifier::Exchange(Box::new(Keys(Arc::new(Settings { file, require_binding })))))
    }
}

struct Keys(Arc<Settings>);

struct Settings {
    file: Template,
    require_binding: bool,
}

impl OpenExchange for Keys {
    fn open(&self, peer: &Peer, claim: &Claim) -> Result<Box<dyn Exchange>, Refusal> {
        // SSH binds its signatures to its session (RFC 4252 section 7).
        if self.0.require_binding && peer.channel_binding.is_none() && !peer.ssh {
            return Err(Refusal::peer_denied(
                "the login must be bound to TLS 1.3, and this connection has none",
            ));
        }
        let (settings, peer, name) = (Arc::clone(&self.0), peer.clone(), claim.username.clone());
        let last = Refusal::new(Reason::UnknownUser, "the client has no key");
        Ok(Box::new(Tries { settings, peer, name, left: MOST_TRIES, last }))
    }

    fn binds_channel(&self) -> bool {
        true
    }
}

/// One login: signatures by one key after the other, until one is accepted.
struct Tries {
    settings: Arc<Settings>,
    peer: Peer,
    name: Option<Username>,
    left: usize,
    /// Why the last key was not accepted.
    last: Refusal,
}

impl Exchange for Tries {
    fn step(&mut self, answer: Option<Answer>) -> Verdict {
        let mechanism = match self.peer.ssh {
            true => IN_SSH.to_owned(),
            false => Login::asking(self.peer.channel_binding.is_some()),
        };
        let again = Verdict::Ask(Ask::Own { mechanism, message: None });
        let Some(answer) = answer else { return again };
        if answer.value.expose() == NO_MORE {
            return Verdict::Refuse(self.last.clone());
        }
        self.left = self.left.saturating_sub(1);
        match self.judge(&answer) {
            Ok(identity) => Verdict::Pass(identity),
            // Nothing tells a key that is refused from one that is unknown (S-26).
            Err(refusal) if refusal.reason == Reason::UnknownUser && self.left > 0 => {
                self.last = refusal;
                again
            }
            Err(refusal) => Verdict::Refuse(refusal),
        }
    }
}

impl Tries {
    /// Whose signature it is: first whether it is right at all, whoever it is for.
    fn judge(&self, answer: &Answer) -> Result<Option<Identity>, Refusal> {
        let salt = &answer.client_salt;
        if !(16..=256).contains(&salt.len()) || *salt == answer.server_salt {
            return Err(Refusal::new(
                Reason::BadClientSalt,
                "the client's salt is missing, short, long or ours",
            ));
        }
        if self.peer.ssh {
            return self.judge_proved(answer.value.expose());
        }
        let signed =
            Signed::read(answer.value.expose()).ok_or_else(|| malformed("it is no signature for us"))?;
        let login = Login {
            name: self.name.as_ref().map_or("", Username::as_str),
            binding: self.peer.channel_binding.as_deref(),
            server_salt: &answer.server_salt,
            client_salt: salt,
        };
        let (certificate, plain) = shown(signed.key)?;
        let key = certificate.as_ref().map(|certificate| &certificate.key).or(plain.as_ref());
        let key = key.ok_or_else(|| malformed("the key is damaged or of an unknown kind"))?;
        let presence = key.verify(&signed.covers(&login.statement()), signed.signature).ok_or_else(|| {
            Refusal::new(Reason::WrongSecret, "the signature is not for this login, wrong, or by SHA-1")
        })?;
        self.find(signed.key, certificate.as_ref(), presence)
    }

    /// Whose key it is, where the login of SSH has checked its signature. That does not tell what a security key says
    /// of the person.
    fn judge_proved(&self, blob: &[u8]) -> Result<Option<Identity>, Refusal> {
        let (certificate, plain) = shown(blob)?;
        let key = certificate.as_ref().map(|certificate| &certificate.key).or(plain.as_ref());
        let key = key.ok_or_else(|| malformed("the key is damaged or of an unknown kind"))?;
        self.find(blob, certificate.as_ref(), key.untold())
    }

    /// Looks for a line that accepts the key, which is proved.
    fn find(
        &self,
        key: &[u8],
        certificate: Option<&Certificate<'_>>,
        presence: Presence,
    ) -> Result<Option<Identity>, Refusal> {
        let file = &self.settings.file;
        let account = match &self.name {
            Some(name) if file.0.contains("%h") => Account::named(name.as_str())
                .map_err(|error| Refusal::module_failed(format!("accounts cannot be looked up: {error}")))?,
            _ => None,
        };
        let home = account.as_ref().map(|account| account.home.clone());
        let name = self.name.as_ref().map_or("", Username::as_str);
        let unnamed = file.is_of_one_user() && name.is_empty();
        let path = file.expand(name, home).filter(|_| !unnamed).ok_or_else(Refusal::unknown_user)?;
        let owner = account.as_ref().map(|account| account.uid);
        let content = read(&path, owner).map_err(|fault| {
            let why = format!("{fault}. {}", fault.fix());
            // A user without a file has no key; everybody's file was there at start.
            if file.is_of_one_user() {
                Refusal::new(Reason::UnknownUser, why)
            } else {
                Refusal::module_failed(why)
            }
        })?;
        let lines = lines(&content);
        let mut why = "the key is not in the file";
        for line in &lines {
            let applies = match certificate {
                Some(certificate) => line.options.is_authority && line.key == certificate.authority,
                None => !line.options.is_authority && line.key == key,
            };
            match applies.then(|| self.judge_line(&line.options, certificate, presence)) {
                Some(Ok(names)) => return Ok(self.identity(names, account.as_ref())),
                Some(Err(because)) => why = because,
                None => {}
            }
        }
        Err(Refusal::new(Reason::UnknownUser, why))
    }

    /// Whether the conditions of a line are met, and whether a certificate names the user.
    fn judge_line(
        &self,
        options: &LineOptions,
        certificate: Option<&Certificate<'_>>,
        presence: Presence,
    ) -> Result<bool, &'static str> {
        let now = clock::since_1970().as_secs();
        options.judge(now, &self.peer)?;
        let (mut names, mut no_touch, mut verify) = (false, options.no_touch, options.verify_required);
        if let Some(certificate) = certificate {
            certificate.judge(now, &self.peer)?;
            let holds = |name: &str| certificate.principals.contains(&name);
            names = match &options.principals {
                Some(list) if list.iter().any(|name| holds(name)) => false,
                None if self.name.as_ref().is_some_and(|name| holds(name.as_str())) => true,
                _ => return Err("the certificate is for somebody else"),
            };
            (no_touch, verify) = (no_touch && certificate.no_touch, verify || certificate.verify_required);
        }
        if presence.told && !presence.touched && !no_touch {
            return Err("nobody touched the security key");
        }
        if verify && !presence.verified {
            return Err("the key does not say that it knows the person");
        }
        Ok(names)
    }

    /// Whom the key proves: the owner of the file, or whom the certificate names.
    fn identity(&self, named: bool, account: Option<&Account>) -> Option<Identity> {
        let name = self.name.clone().filter(|_| named || self.settings.file.is_of_one_user())?;
        let (uid, gid) = (account.map(|account| account.uid), account.map(|account| account.gid));
        Some(Identity::new(name).with_ids(uid, gid))
    }
}

/// A certificate or a key as SSH encodes it.
fn shown(blob: &[u8]) -> Result<(Option<Certificate<'_>>, Option<PublicKey<'_>>), Refusal> {
    match Certificate::is_one(blob) {
        true => Ok((Some(Certificate::read(blob).map_err(malformed)?), None)),
        false => Ok((None, PublicKey::read(blob))),
    }
}

fn malformed(why: &'static str) -> Refusal {
    Refusal::new(Reason::Malformed, why)
}

/// A path with signs to fill in.
struct Template(String);

impl Template {
    /// Whether each user has a file of their own.
    fn is_of_one_user(&self) -> bool {
        let text = self.0.replace("%%", "");
        text.contains("%u") || text.contains("%h")
    }

    /// The path for a user. `None` without a home that is asked for, or with an unknown sign.
    fn expand(&self, name: &str, home: Option<PathBuf>) -> Option<PathBuf> {
        let home = home.as_ref().map(|home| home.to_str());
        let mut path = String::new();
        let mut parts = self.0.chars();
        while let Some(character) = parts.next() {
            match character {
                '%' => match parts.next()? {
                    'u' => path.push_str(name),
                    'h' => path.push_str(home??),
                    '%' => path.push('%'),
                    _ => return None,
                },
                other => path.push(other),
            }
        }
        Some(path.into())
    }
}

/// Reads a file that nobody but root, us and `owner` can change.
fn read(path: &std::path::Path, owner: Option<u32>) -> Result<String, files::FileFault> {
    let file = files::open_unforged_by(path, owner)?;
    let mut content = Vec::new();
    // What cannot be read has no keys in it.
    let _ = file.take(MOST_BYTES).read_to_end(&mut content);
    Ok(String::from_utf8_lossy(&content).into_owned())
}

/// The lines that can be used. What is wrong with others is said by their number.
fn lines(content: &str) -> Vec<Line> {
    let parsed = authorized::parse(content).into_iter();
    parsed
        .filter_map(|(number, line)| match line {
            Ok(line) => Some(line),
            Err(why) => {
                tracing::warn!("ssh-key: line {number} lets nobody in: {why}");
                None
            }
        })
        .collect()
}

/// As many keys as sshd lets a client try (`MaxAuthTries`).
const MOST_TRIES: usize = 6;

/// More keys than anybody has.
const MOST_BYTES: u64 = 1 << 20;

/// What can be set.
const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("filename", "FILE", "", "the authorized_keys file; %u is the user's name, %h its home"),
    OptionSpec::new(
        "channel-binding",
        "prefer|require",
        "prefer",
        "take only logins that are bound to TLS 1.3",
    ),
];

#[cfg(test)]
mod tests;
